"""The kinds of node there are, by name; handed around, never a global."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType

from engine.node import Node


class Registry(Mapping[str, type[Node]]):
    """Node classes by the name of their kind."""

    def __init__(self, kinds: Iterable[type[Node]]) -> None:
        self._kinds: dict[str, type[Node]] = {}
        for kind in kinds:
            name = kind.spec.kind
            if self._kinds.setdefault(name, kind) is not kind:
                raise ValueError(f"two kinds of node are called {name}: {self._kinds[name]} and {kind}")

    @classmethod
    def of_modules(cls, *modules: ModuleType) -> Registry:
        """All the node classes that these modules define, not those they import."""
        return cls(
            member
            for module in modules
            for member in vars(module).values()
            if isinstance(member, type) and issubclass(member, Node) and member.__module__ == module.__name__
        )

    def __getitem__(self, name: str) -> type[Node]:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)
