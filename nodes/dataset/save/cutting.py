"""The clips of a data set, cut out of their videos into files or shards. Each is read back before it counts.

What is wrong with the footage leaves a clip out, with the reason; an error of the system, such as a full disk, ends the
work.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from av.error import FFmpegError

from engine.errors import InputError
from engine.models.digest import Watch, digest
from nodes.dataset.save.excerpts import Clip, check_written, write_copy, write_exact
from nodes.dataset.save.statistics import UNCUT
from nodes.dataset.table import Row
from nodes.files.footage import Footage, UnreachableError, require_readable

log = logging.getLogger(__name__)

Layout = Literal["files", "webdataset", "none"]
Write = Callable[[Path], object]

SHARD = 256
"""Clips in a WebDataset shard."""


class Cutting:
    """The clips to be cut.

    Args:
        kept: rows of the table `CLIPS`.
        layout: how they are written: as files, in shards, or not at all.
        exact: encode them again, exact to the frame, rather than copy them from a key frame on.
        hidden: columns that samples in shards don't have.
    """

    def __init__(self, kept: Sequence[Row], layout: Layout, *, exact: bool, hidden: Sequence[str]) -> None:
        self._kept = kept
        self._cut = write_exact if exact else write_copy
        self._hidden = frozenset(hidden)
        self._reasons: dict[int, str] = {}
        self._opened: tuple[str, Footage] | None = None
        """The footage of the last clip, with the digest of its file: clips of a video follow each other."""
        self.names = _names(len(kept), layout)
        """The file that each clip is in, by its path in the folder; none if they aren't written."""

    def files(self) -> dict[str, Write]:
        """What writes the files."""
        members: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            members.setdefault(name, []).append(number)
        return {
            name: partial(self._write_shard, numbers) if name.endswith(".tar") else partial(self._write, numbers[0])
            for name, numbers in members.items()
        }

    def left_out(self, folder: Path) -> Mapping[int, str]:
        """Why clips aren't in the folder, now that it is written, by their number among the kept ones.

        Raises:
            InputError: not one clip is there.
        """
        there: dict[str, frozenset[str]] = {}
        missing: dict[int, str] = {}
        for number, name in enumerate(self.names):
            if name not in there:
                there[name] = _members(folder / name)
            if _key(number) not in there[name]:
                missing[number] = self._reason(number, folder)
        self._opened = None
        if self.names and len(missing) == len(self.names):
            reason = next(iter(missing.values()))
            raise InputError(f"none of the {len(missing):,} clips can be saved; the first {reason}", input="clips")
        return missing

    def _reason(self, number: int, folder: Path) -> str:
        """Why a clip was left out; where an earlier run left it out, it is tried again."""
        if number not in self._reasons:
            again = folder / ".again.mp4"
            self._write(number, again)
            again.unlink(missing_ok=True)
        return self._reasons.get(number, UNCUT)

    def _write(self, number: int, path: Path) -> None:
        """Cut a clip; leave it out if its footage is wrong."""
        row = self._kept[number]
        source, expected = Path(row["source"]), row.get("source_digest")
        watch = Watch(expected, partial(digest, source), lambda: (source,)) if expected else None
        opened, self._opened = self._opened, None
        try:
            _require_unchanged(source, watch)
            is_same = opened and opened[0] == expected and opened[1].path == source
            footage = opened[1] if opened and is_same else Footage(source)
            clip = Clip(row["start"], row["seconds"], row["first_frame"], row["end_frame"])
            check_written(path, self._cut(path, footage, clip))
            _require_unchanged(source, watch)
            self._opened = (expected, footage) if expected else None
        except (InputError, FFmpegError) as error:
            if isinstance(error, OSError | MemoryError | UnreachableError):
                raise
            path.unlink(missing_ok=True)
            log.warning("clip %s of %s is left out: %s", row["clip"], row["source"], error)
            message = error.message if isinstance(error, InputError) else str(error)
            self._reasons[number] = f"{UNCUT}: {message.replace(row['source'], row['video'] or 'it')}"

    def _write_shard(self, numbers: Sequence[int], path: Path) -> None:
        """A tar of samples, as WebDataset reads it; equal samples give equal bytes."""
        clip = path.with_name(f"{path.name}.mp4")
        try:
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
                for number in numbers:
                    clip.unlink(missing_ok=True)
                    self._write(number, clip)
                    if clip.exists():
                        self._add(shard, number, clip.read_bytes())
        finally:
            clip.unlink(missing_ok=True)

    def _add(self, shard: tarfile.TarFile, number: int, clip: bytes) -> None:
        row = self._kept[number]
        known = {name: value for name, value in row.items() if name not in self._hidden}
        for suffix, data in (
            ("mp4", clip),
            ("txt", (row["caption"] or "").encode()),
            ("json", json.dumps(known, default=np.ndarray.tolist).encode()),
        ):
            entry = tarfile.TarInfo(f"{_key(number)}.{suffix}")
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))


def _require_unchanged(source: Path, watch: Watch | None) -> None:
    """Raise InputError if a video isn't the curated one, or hasn't been so all the time."""
    if watch and not watch.unchanged():
        require_readable(source)
        raise InputError(f"{source} was changed since it was curated", hint="curate it again")


def _names(count: int, layout: Layout) -> list[str]:
    if layout == "files":
        return [f"clips/{_key(number)}.mp4" for number in range(count)]
    return [f"shards/{number // SHARD:05}.tar" for number in range(count)] if layout == "webdataset" else []


def _key(number: int) -> str:
    return f"{number:06}"


def _members(path: Path) -> frozenset[str]:
    """The keys of the clips in a file or shard."""
    if not path.exists():
        return frozenset()
    if path.suffix != ".tar":
        return frozenset([path.stem])
    with tarfile.open(path) as shard:
        return frozenset(Path(name).stem for name in shard.getnames() if name.endswith(".mp4"))
