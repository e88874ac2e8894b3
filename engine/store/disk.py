"""The disk tier: a file per entry, in one folder.

A file is called `<key>.<priority>.safetensors`: the folder's listing is the only index, so that no index can be lost or
disagree with the files. Files are written under a temporary name and renamed when complete.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Condition, Lock

from engine.atomic import unfinished
from engine.graph.keys import Key
from engine.node import Outputs
from engine.store.encoding import CorruptFileError, load, save
from engine.values import size

NAME = re.compile(r"[0-9a-f]{64}\.[0-9.e+-]+\.safetensors")
UNFINISHED = ".part"
ABANDONED_SECONDS = 3600
"""An unfinished file of this age is assumed to be left by a process that was killed."""

MAX_PENDING_BYTES = 1 << 30
"""Bytes that may wait to be written; `write` blocks beyond that, so that a slow disk doesn't fill up memory."""

log = logging.getLogger(__name__)


def read_seconds(nbytes: int) -> float:
    """The assumed time to read an entry back: opening and parsing a file, and checking a gigabyte a second."""
    return 5e-4 + nbytes / 1e9


class Disk:
    """Entries in a folder, within a budget of bytes. A separate thread writes them.

    Several processes may share the folder: each sees the others' files from its next `refresh` on, and a file that
    another has removed is a miss.

    Args:
        folder: where the files are.
        budget: bytes that they may take; if None, a quarter of the free space, counting what they take now as free.
    """

    def __init__(self, folder: Path, budget: int | None = None) -> None:
        self.folder = folder
        self._budget = budget
        self._names: dict[Key, str] = {}
        self._pending: dict[Key, int] = {}
        self.on_stored: Callable[[Key], object] = lambda key: None
        """Called with the key of each entry that was written, in the writer's thread."""
        self._written = Condition()
        self._listed_at = -1
        self._nbytes: int | None = None  # not known before the first write
        # No file's priority is below that of the last one evicted, so the lowest stands in for it.
        self._inflation = 0.0
        self._lock = Lock()  # of the listing and the count, which the writer changes too
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kinograph-disk")
        folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def __contains__(self, key: Key) -> bool:
        return key in self._names

    def __len__(self) -> int:
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes that the files take, as they are now."""
        return sum(self._sizes().values())

    @property
    def budget(self) -> int:
        if self._budget is None:
            self._budget = (shutil.disk_usage(self.folder).free + self.nbytes) // 4
        return self._budget

    def trim(self, budget: int) -> tuple[int, int]:
        """Remove the least valuable files until the rest takes at most that many bytes; returns how many files and
        bytes were removed.

        A budget of 0 removes everything.
        """
        with self._lock:
            before = self._sizes()
            self._nbytes = self._make_room(0, budget)
            left = self._sizes()
        return len(before) - len(left), sum(before.values()) - sum(left.values())

    def close(self) -> None:
        """Wait until everything is written."""
        self._writer.shutdown()

    def refresh(self) -> None:
        """List the folder anew if it has changed."""
        changed_at = self.folder.stat().st_mtime_ns
        with self._lock:
            if changed_at != self._listed_at:
                self._listed_at = changed_at
                names = (path.name for path in self.folder.iterdir())
                self._names = {_key(name): name for name in names if NAME.fullmatch(name)}
                self._inflation = min(map(_priority, self._names.values()), default=0.0)
                self._nbytes = None

    def read(self, key: Key) -> tuple[Outputs, float] | None:
        """The outputs of that key and the seconds they took, or None if their file is missing or corrupt."""
        for _ in range(2):  # another process may have renamed the file: look again once
            if (name := self._names.get(key)) is None:
                return None
            path = self.folder / name
            try:
                outputs, seconds = load(path)
                self._touch(key, path, seconds)
                return outputs, seconds
            except FileNotFoundError:
                self._names.pop(key, None)
                self._listed_at = -1
                self.refresh()
            except CorruptFileError as error:
                log.warning("%s is corrupt and is removed: %s", path, error)
                self._names.pop(key, None)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s can't be read: %s", path, error)
                self._names.pop(key, None)
        return None

    def write(self, key: Key, outputs: Outputs, seconds: float) -> None:
        """Store outputs that are `storable`, in the background; blocks while too much waits to be written."""
        if key in self._names or key in self._pending:
            return
        nbytes = sum(map(size, outputs))
        with self._written:
            self._written.wait_for(
                lambda: not self._pending or sum(self._pending.values()) + nbytes <= MAX_PENDING_BYTES
            )
            self._pending[key] = nbytes
        self._writer.submit(self._write, key, outputs, seconds)

    def _write(self, key: Key, outputs: Outputs, seconds: float) -> None:
        try:
            with unfinished(self.folder, prefix="", suffix=UNFINISHED) as part:
                save(part, outputs, seconds)
                nbytes = part.stat().st_size
                if nbytes <= self.budget:
                    self._admit(part, key, nbytes, seconds)
                    self.on_stored(key)
        except Exception as error:  # noqa: BLE001 - such as a full disk: the entry is lost, the run continues
            log.warning("%s could not be stored: %r", key, error)
        finally:
            with self._written:
                del self._pending[key]
                self._written.notify_all()

    def _admit(self, file: Path, key: Key, nbytes: int, seconds: float) -> None:
        """Rename a complete file to an entry's name, within the budget."""
        with self._lock:
            if self._nbytes is None or self._nbytes + nbytes > self.budget:
                self._nbytes = self._make_room(nbytes, self.budget)
            self._nbytes += nbytes
            name = _name(key, self._inflation + seconds / nbytes)
            file.rename(self.folder / name)
            self._names[key] = name

    def _make_room(self, nbytes: int, budget: int) -> int:
        """Evict the least valuable files until `nbytes` more fit the budget; returns the bytes that stay."""
        files = sorted((_priority(name), name, taken) for name, taken in self._sizes().items())
        total = sum(taken for _, _, taken in files)
        for priority, name, taken in files:
            if total + nbytes <= budget:
                break
            (self.folder / name).unlink(missing_ok=True)
            self._names.pop(_key(name), None)
            self._inflation = priority
            total -= taken
        return total

    def _sizes(self) -> dict[str, int]:
        """The bytes of each file; abandoned unfinished files are removed on the way."""
        sizes: dict[str, int] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another process may remove any of them meanwhile
                    if NAME.fullmatch(entry.name):
                        sizes[entry.name] = entry.stat().st_size
                    elif entry.name.endswith(UNFINISHED) and time.time() - entry.stat().st_mtime > ABANDONED_SECONDS:
                        Path(entry.path).unlink()
        return sizes

    def _touch(self, key: Key, path: Path, seconds: float) -> None:
        """Raise the priority of a file that was used; it stays as it was in a folder that can't be written to."""
        with suppress(OSError):
            name = _name(key, self._inflation + seconds / path.stat().st_size)
            if _priority(name) > _priority(path.name):
                path.rename(self.folder / name)
                self._names[key] = name


def _name(key: Key, priority: float) -> str:
    return f"{key}.{priority:.9e}.safetensors"


def _key(name: str) -> Key:
    return name.partition(".")[0]


def _priority(name: str) -> float:
    return float(name.partition(".")[2].removesuffix(".safetensors"))
