"""The disk tier: a file per entry, in one folder.

A file is called `<key>.<priority>.safetensors`: the folder's listing is the only index, so that no index can be lost or
disagree with the files. Files are written in another place and renamed when complete (`engine.store.workplace`). What
else is in the folder is left alone.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Condition, Lock
from typing import NamedTuple

from engine.atomic import is_disk_full
from engine.graph.keys import Key
from engine.spec import Outputs
from engine.store.encoding import CorruptFileError, load, save
from engine.store.workplace import LEAVING, Workplace, remove_left_over
from engine.values import size

NAME = re.compile(r"([0-9a-f]{64})\.(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\.safetensors", re.ASCII)
"""An entry's key and priority."""

MAX_PENDING_BYTES = 1 << 30
"""Bytes that may wait to be written; `write` blocks beyond that, so that a slow disk doesn't fill up memory."""

log = logging.getLogger(__name__)


def read_seconds(nbytes: int) -> float:
    """The assumed time to read an entry back: opening and parsing a file, and checking a gigabyte a second."""
    return 5e-4 + nbytes / 1e9


class Stock(NamedTuple):
    """What is in the folder."""

    entries: dict[str, int]
    """The bytes of each entry's file, by name."""
    unfinished: int
    """Bytes that other processes are writing, or have left so recently that it can't be known."""
    removed: int
    """Bytes of what killed processes had left, which is gone now."""

    @property
    def nbytes(self) -> int:
        return sum(self.entries.values()) + self.unfinished


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
        self._workplace = Workplace(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def __contains__(self, key: Key) -> bool:
        return key in self._names or key in self._pending

    def __len__(self) -> int:
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes that the files take, as they are now, those that are being written included."""
        return self._take_stock().nbytes

    @property
    def budget(self) -> int:
        if self._budget is None:
            self._budget = (shutil.disk_usage(self.folder).free + self.nbytes) // 4
        return self._budget

    def takes(self, nbytes: int) -> bool:
        """Whether an entry of that size may be kept, as far as this is known before anything is written."""
        return self._budget is None or nbytes <= self._budget

    def trim(self, budget: int) -> tuple[int, int]:
        """Remove the least valuable files until the rest takes at most that many bytes; returns how many entries and
        bytes were removed, what killed processes had left included.

        A budget of 0 removes everything that no process is writing.
        """
        with self._lock:
            before = self._take_stock(everything=not budget)
            self._nbytes = self._evict(before, budget)
            left = self._take_stock()
        return len(before.entries) - len(left.entries), before.nbytes + before.removed - left.nbytes

    def close(self) -> None:
        """Wait until everything is written."""
        self._writer.shutdown()
        self._workplace.close()

    def refresh(self) -> None:
        """List the folder anew if it has changed."""
        try:
            changed_at = self.folder.stat().st_mtime_ns
        except FileNotFoundError:  # someone has removed it: it is made again when there is something to write
            changed_at = -1
        with self._lock:
            if changed_at != self._listed_at or changed_at < 0:
                self._listed_at = changed_at
                self._names = {_key(entry.name): entry.name for entry in _scan(self.folder) if _is_entry(entry)}
                self._inflation = min(map(_priority, self._names.values()), default=0.0)
                self._nbytes = None

    def read(self, key: Key) -> tuple[Outputs, float] | None:
        """The outputs of that key and the seconds they took, or None if their file is missing or corrupt.

        What waits to be written is waited for.
        """
        if key in self._pending:
            with self._written:
                self._written.wait_for(lambda: key not in self._pending)
        for _ in range(2):  # another process may have renamed the file: look again once
            if (name := self._names.get(key)) is None:
                return None
            path = self.folder / name
            try:
                stored = load(path)
                self._touch(key, path, stored.restore)
                return stored.outputs, stored.seconds
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

    def write(
        self,
        key: Key,
        outputs: Outputs,
        seconds: float,
        restore: float | None = None,
        instead_of: Collection[Key] = (),
    ) -> None:
        """Store outputs that are `storable`, in the background; blocks while too much waits to be written.

        Args:
            key: their key.
            outputs: the outputs.
            seconds: what computing them took.
            restore: what computing them again would take, with the sources that they need; `seconds` if None.
            instead_of: the keys of entries that are removed once this one is stored; they stay if it can't be.
        """
        if key in self:
            self._remove_later(instead_of, key)
            return
        nbytes = sum(map(size, outputs))
        with self._written:
            self._written.wait_for(
                lambda: not self._pending or sum(self._pending.values()) + nbytes <= MAX_PENDING_BYTES
            )
            self._pending[key] = nbytes
        self._writer.submit(self._write, key, outputs, seconds, seconds if restore is None else restore)
        self._remove_later(instead_of, key)

    def _write(self, key: Key, outputs: Outputs, seconds: float, restore: float) -> None:
        try:
            with self._workplace.part() as part:
                save(part, outputs, seconds, restore)
                nbytes = part.stat().st_size
                if self._admit(part, key, nbytes, restore):
                    self.on_stored(key)
        except Exception as error:  # noqa: BLE001 - such as a full disk: the entry is lost, the run continues
            full = isinstance(error, OSError) and is_disk_full(error)
            reason = "the disk is full: make room, or give another folder for the cache" if full else repr(error)
            log.warning("a result could not be stored in %s, and will be computed again: %s", self.folder, reason)
        finally:
            with self._written:
                del self._pending[key]
                self._written.notify_all()

    def _remove_later(self, keys: Collection[Key], stored: Key) -> None:
        """Remove entries after all that waits to be written, if another one is stored by then."""
        if keys:
            self._writer.submit(self._remove, keys, stored)

    def _remove(self, keys: Collection[Key], stored: Key) -> None:
        with self._lock:
            entries = [entry for entry in _scan(self.folder) if _is_entry(entry)]
            if stored not in {_key(entry.name) for entry in entries}:  # another process may have removed it
                return
            for entry in entries:
                if _key(entry.name) in keys:
                    try:
                        Path(entry.path).unlink(missing_ok=True)
                    except OSError as error:
                        log.warning("%s can't be removed: %s", entry.path, error.strerror)
                        continue
                    self._names.pop(_key(entry.name), None)
            self._nbytes = None  # measured again before the next write

    def _admit(self, file: Path, key: Key, nbytes: int, restore: float) -> bool:
        """Rename a complete file to an entry's name, if the budget has room for it."""
        with self._lock:
            if self._nbytes is None or self._nbytes + nbytes > self.budget:
                stock = self._take_stock()
                if stock.unfinished + nbytes > self.budget:
                    return False
                self._nbytes = self._evict(stock, self.budget - nbytes)
            self._nbytes += nbytes
            name = _name(key, self._inflation + restore / nbytes)
            file.rename(self.folder / name)
            self._names[key] = name
            return True

    def _evict(self, stock: Stock, budget: int) -> int:
        """Remove the least valuable files until the rest fits the budget; returns the bytes that stay."""
        total = stock.nbytes
        for name in sorted(stock.entries, key=lambda name: (_priority(name), name)):
            if total <= budget:
                break
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s can't be removed: %s", self.folder / name, error.strerror)
                continue
            if self._names.get(_key(name)) == name:
                del self._names[_key(name)]
            self._inflation = _priority(name)
            total -= stock.entries[name]
        return total

    def _take_stock(self, *, everything: bool = False) -> Stock:
        """Measure what is in the folder, and remove what killed processes have left.

        Args:
            everything: remove also what may be left, without waiting for its age.
        """
        entries: dict[str, int] = {}
        unfinished = removed = 0
        for found in _scan(self.folder):
            with suppress(FileNotFoundError):  # another process may remove any of them meanwhile
                if _is_entry(found):
                    entries[found.name] = found.stat().st_size
                elif LEAVING.fullmatch(found.name) and Path(found.path) != self._workplace.own:
                    stays, gone = remove_left_over(found, everything=everything)
                    unfinished, removed = unfinished + stays, removed + gone
        return Stock(entries, unfinished, removed)

    def _touch(self, key: Key, path: Path, restore: float) -> None:
        """Raise the priority of a file that was used; it stays as it was in a folder that can't be written to."""
        with suppress(OSError):
            name = _name(key, self._inflation + restore / path.stat().st_size)
            if _priority(name) > _priority(path.name):
                path.rename(self.folder / name)
                self._names[key] = name


def _name(key: Key, priority: float) -> str:
    return f"{key}.{priority:.9e}.safetensors"


def _key(name: str) -> Key:
    return name.partition(".")[0]


def _priority(name: str) -> float:
    return float(name.partition(".")[2].removesuffix(".safetensors"))


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing if it doesn't exist."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _is_entry(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file of this cache: a directory, a link or an odd name isn't."""
    name = entry.name
    return bool(NAME.fullmatch(name)) and math.isfinite(_priority(name)) and entry.is_file(follow_symlinks=False)
