"""How much memory this process may use: the machine's, or less in a container or another group with a limit.

On Linux groups of processes (cgroups) have limits, of which the machine's own figures say nothing, and a group lies in
others with limits of their own. Both versions of them are read, where they are mounted (`man 7 cgroups`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import psutil

OWN = Path("/proc/self")


class Memory(NamedTuple):
    """Bytes of memory."""

    total: int
    """All that this process could ever have."""
    free: int
    """What it could take now."""


class _Names(NamedTuple):
    """What a version of cgroups calls the files of a group, and its memory that only mirrors files on disk."""

    limit: str
    used: str
    reclaimable: str


_NAMES = {
    "cgroup2": _Names("memory.max", "memory.current", "inactive_file"),
    "cgroup": _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def memory(own: Path = OWN) -> Memory:
    """The memory for this process.

    Args:
        own: the process's folder in /proc.
    """
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for group, names in _groups(own) if sys.platform == "linux" else ():
        if (limit := _number(group / names.limit)) is not None:
            total = min(total, limit)
            used = (_number(group / names.used) or 0) - _reclaimable(group, names)
            free = min(free, max(0, limit - max(0, used)))
    return Memory(total, free)


@cache
def total() -> int:
    """The bytes of memory that this process could ever have, as they were when they were first asked for."""
    return memory().total


def _groups(own: Path) -> Iterator[tuple[Path, _Names]]:
    """The folders of the groups that the process is in, innermost first, as far as they can be seen."""
    with suppress(OSError):
        lines = (own / "cgroup").read_text().splitlines()
        paths = {kinds: PurePosixPath(path) for _, kinds, path in (line.split(":", 2) for line in lines)}
        for mount in (own / "mountinfo").read_text().splitlines():
            about, _, source = mount.partition(" - ")
            kind, _, options = source.split(" ", 2)
            _, _, _, root, where, *_ = about.split(" ")
            if kind == "cgroup2":
                path = paths.get("")
            elif kind == "cgroup" and "memory" in options.split(","):
                path = next((path for kinds, path in paths.items() if "memory" in kinds.split(",")), None)
            else:
                continue
            if path is not None:
                top = Path(_unescaped(where))
                root = _unescaped(root)
                inner = path.relative_to(root) if path.is_relative_to(root) and ".." not in path.parts else "."
                folder = top / inner
                while folder != top:
                    yield folder, _NAMES[kind]
                    folder = folder.parent
                yield top, _NAMES[kind]


def _number(file: Path) -> int | None:
    """The number in a file; None if it says "max", or isn't there."""
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def _reclaimable(group: Path, names: _Names) -> int:
    """Bytes that hold files which can be read again."""
    with suppress(OSError):
        found = re.search(rf"^{names.reclaimable} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        return int(found.group(1)) if found else 0
    return 0


def _unescaped(path: str) -> str:
    """A path as mountinfo writes it, in which blanks are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), path)
