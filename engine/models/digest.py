"""SHA-256 of a file or folder, remembered on disk so that a large checkpoint is read only once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from engine.atomic import write
from engine.errors import KinographError
from engine.models.home import home

# Below this size reading the file is as cheap as looking up its digest.
SMALL = 256 * 1024
# A file written this recently may change again within one tick of the file system's clock, leaving its times the same.
SETTLED_NS = 2_000_000_000


def digest(path: Path) -> str:
    """`sha256:…` of a file's bytes, or of a folder's file names and bytes; hidden files and folders don't count.

    Raises:
        OSError: the path doesn't exist or can't be read.
    """
    path = path.resolve()
    return f"sha256:{_folder(path) if path.is_dir() else _file(path)}"


def states(paths: Iterable[Path]) -> str:
    """A digest of which files these are, and of when each was last changed, without reading them.

    Raises:
        OSError: one doesn't exist.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.absolute()}\0{_stamp(path.stat())}\n".encode(errors="surrogateescape"))
    return f"states:{total.hexdigest()}"


class Watch:
    """Watches files while they are read, from its creation on: whether what is read is what was expected.

    Digests alone can't tell, since a file may be replaced, read and put back again; times alone can't either, since
    they have a resolution.

    Args:
        expected: the contents that the files should have.
        contents: returns those that they have.
        paths: the files, and folders with all that is in them.
    """

    def __init__(self, expected: str, contents: Callable[[], str], paths: Callable[[], Iterable[Path]]) -> None:
        self._expected, self._contents, self._paths = expected, contents, paths
        self._before = self._now()

    def unchanged(self) -> bool:
        """Whether all the files have had the expected contents all the time."""
        return self._before is not None and self._before == self._now()

    def _now(self) -> dict[Path, str] | None:
        """When each file was last changed; None if they haven't the expected contents, or can't be read."""
        with suppress(OSError, KinographError):
            tops = [path.resolve() for path in self._paths()]
            files = [path for top in tops for path in (_visible(top) if top.is_dir() else (top,))]
            stamps = {path: _stamp(path.stat()) for path in files}
            return stamps if self._contents() == self._expected else None
        return None


def _folder(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(_visible(folder), key=lambda path: path.relative_to(folder).as_posix()):
        total.update(f"{path.relative_to(folder).as_posix()}\0{_file(path.resolve())}\n".encode())
    return total.hexdigest()


def _visible(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _loops(Path(root), name)]
        yield from (path for name in files if not name.startswith(".") and (path := Path(root, name)).is_file())


def _loops(root: Path, name: str) -> bool:
    return root.resolve().is_relative_to((root / name).resolve())


def _file(path: Path) -> str:
    began, state = time.time_ns(), path.stat()
    if state.st_size < SMALL:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    memo = home() / "digests" / hashlib.sha256(os.fsencode(path)).hexdigest()
    stamp = _stamp(state)
    with suppress(OSError, ValueError):
        known, content = memo.read_text("ascii").rsplit(" ", 1)
        if known == stamp:
            return content
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    if _is_settled(state, began) and _stamp(path.stat()) == stamp:
        with suppress(OSError):  # a read-only cache folder costs time, not results
            write(memo, f"{stamp} {content}".encode("ascii"))
    return content


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_dev} {state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _is_settled(state: os.stat_result, now: int) -> bool:
    """Whether a change of the file after `now`, in nanoseconds since 1970, is sure to change its times."""
    return now - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED_NS
