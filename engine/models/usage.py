"""Which models nodes are likely to use: those that nodes like them used the last time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class User(NamedTuple):
    """What of a node decides which models it uses."""

    kind: str
    references: frozenset[str] = frozenset()
    """The identities of the models that it is given."""


class Usage:
    """The models that nodes used on a device the last time, with their bytes."""

    def __init__(self) -> None:
        self._by_user: dict[User, dict[Hashable, int]] = {}
        self._by_kind: dict[str, dict[Hashable, int]] = {}

    def record(self, user: User, used: dict[Hashable, int]) -> None:
        """Record what a node used."""
        self._by_user[user] = self._by_kind[user.kind] = used

    def of(self, user: User) -> dict[Hashable, int] | None:
        """What a node is likely to use, by others of its kind if none has had its models; None if none has run."""
        return self._by_user.get(user, self._by_kind.get(user.kind))
