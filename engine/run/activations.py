"""How much of a device's memory nodes have taken to compute, so that models and results leave that room to the next."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from engine.atomic import write
from engine.document.sockets import has_control
from engine.node import Node
from engine.values import ModelReference, size

FILE_ENTRIES = 2000
"""How many are kept, the latest."""
AFTER_FAILURE = 1.25
"""What a node is expected to take after it ran out of memory, by what it had taken by then."""


class Activations:
    """Bytes that nodes take beside models and results, the most that was measured for each kind and size.

    Threads may share it.

    Args:
        file: where they are kept between runs, or None. Without it, or if it can't be read or written, the first node
            of a kind gets a share of the device that suits most.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._kinds: dict[str, dict[str, int]] = {}
        self._changed = False
        self._lock = Lock()
        if file is not None:
            with suppress(OSError, ValueError, AttributeError, TypeError):
                known = json.loads(file.read_text("utf-8")).items()
                self._kinds = {kind: {name: int(most) for name, most in sizes.items()} for kind, sizes in known}

    def of(self, kind: str, size: str) -> int | None:
        """What a node of this kind and size takes, or else the most that one of this kind did; None if none has run."""
        with self._lock:
            sizes = self._kinds.get(kind)
            return sizes.get(size, max(sizes.values())) if sizes else None

    def record(self, kind: str, size: str, nbytes: int) -> None:
        """Record what a node took."""
        with self._lock:
            sizes = self._kinds[kind] = self._kinds.pop(kind, {})  # the latest are last
            sizes[size] = max(nbytes, sizes.pop(size, 0))
            self._changed = True
            while sum(map(len, self._kinds.values())) > FILE_ENTRIES:
                oldest, others = next(iter(self._kinds.items()))
                del others[next(iter(others))]
                if not others:
                    del self._kinds[oldest]

    def record_failure(self, kind: str, size: str, nbytes: int) -> None:
        """Record what a node had taken when there was no more: more than that is expected from now on."""
        with self._lock:
            known = self._kinds.get(kind, {}).get(size, 0)
        self.record(kind, size, int(AFTER_FAILURE * max(nbytes, known)))

    def save(self) -> None:
        """Save them for later runs."""
        if self._file is not None and self._changed:
            with self._lock:
                self._changed, known = False, json.dumps(self._kinds)
            with suppress(OSError):
                write(self._file, known.encode())


def size_of(node: Node) -> str:
    """What of a node's inputs decides how much it computes at once: whole numbers, models and the bytes of values.

    Seeds don't, nor do other numbers; sizes of values count by powers of two.
    """
    names = [socket.name for socket in node.spec.inputs.values() if not has_control(socket)]
    return " ".join(f"{name}={about}" for name in names if (about := _size_of(getattr(node, name))))


def _size_of(value: Any) -> str:
    if isinstance(value, bool | str | float):
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, ModelReference):
        return value.made_of
    return f"2^{size(value).bit_length()}"
