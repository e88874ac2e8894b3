"""Many videos into one table of clips: each is scanned, described by models, and kept in the cache, part by part.

So a run that was killed, or has other settings, does nothing anew that is done.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from engine.models.digest import digest
from engine.values import Table
from nodes.dataset.describe.describer import Describer
from nodes.dataset.scan.duplicates import groups
from nodes.dataset.scan.processes import Found, News, Scanners
from nodes.dataset.scan.scanner import Part, ScanSettings, require
from nodes.dataset.table import CLIPS, VIDEOS, Row, of_arrow, rows, to_arrow, to_table, with_columns

if TYPE_CHECKING:
    from engine.node import Context


VERSION = 3
"""Raised when scanning or describing gives something else than before for the same video and settings."""
AHEAD = 2
"""How many scans for each process may be begun before the first is described: their views take memory."""


SHARES = {"image_caption": 0.5, "video_caption": 0.25, "summary": 0.25}
"""How often each kind of caption is the one to train on (Blattmann et al. 2023, arXiv 2311.15127, section 3)."""

_UNREADABLE = "it isn't there, may not be read, or has a name that isn't UTF-8"


class Curated(NamedTuple):
    """The tables `CLIPS` and `VIDEOS`."""

    clips: Table
    videos: Table


@dataclass(frozen=True)
class Job:
    """What is to be done for every video."""

    scan: ScanSettings
    describe: Describer
    processes: int = 1
    """How many videos are scanned at a time."""
    seed: int = 0
    """Of the choice among captions."""
    on_ray: bool = False
    """Whether Ray's workers do it."""


def curate(ctx: Context, files: Sequence[Path], root: Path, job: Job) -> Curated:
    """Find and describe the clips of videos, in the order of the files.

    A file that can't be read is a row of `videos` with the reason, and the others go on.

    Args:
        ctx: of the node; it is told the progress, in bytes of video.
        files: the videos.
        root: the folder in relation to which they are named.
        job: what to do.

    Raises:
        MissingError: a model isn't there, or a library that is needed.
    """
    require(job.scan)
    clips: list[pa.Table] = []
    videos: list[Row] = []
    progress = _Progress(ctx, files)
    memos = _Memos(ctx, job)
    described = (_described_on_ray if job.on_ray else _described)(files, job, memos, progress)
    for file, found in zip(files, described, strict=True):
        name = _printable(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))
        video = {"problem": found} if isinstance(found, str) else found[-1].video
        mine = pa.concat_tables([CLIPS.empty_table(), *(to_arrow(part.clips) for part in _parts(found))])
        videos.append(video | {"video": name, "clips": mine.num_rows})
        if mine.num_rows:
            clips.append(_named(mine, video, name, file, job.seed))
        progress.finish(file, video.get("problem") or f"{mine.num_rows} clips")
    return Curated(
        of_arrow(_with_duplicates(pa.concat_tables([CLIPS.empty_table(), *clips]))), to_table(videos, VIDEOS)
    )


def _parts(found: Found) -> list[Part]:
    return [] if isinstance(found, str) else found


class _Memos:
    """What is kept of videos in the cache, part by part: what scans found, and what models have described."""

    def __init__(self, ctx: Context, job: Job) -> None:
        self._ctx, self._scan, self._describe = ctx, json.dumps(asdict(job.scan), sort_keys=True), job.describe
        self._began = time.perf_counter()
        self._abouts: dict[Path, str | None] = {}

    def about(self, file: Path) -> str | None:
        """All that decides what a scan of a file finds; None if the file can't be read, or named in a table."""
        if file not in self._abouts:
            self._abouts[file] = None
            with suppress(OSError):
                if _printable(str(file)) == str(file):
                    self._abouts[file] = f"{VERSION} {digest(file)} {self._scan}"
        return self._abouts[file]

    def described(self, file: Path) -> list[Part]:
        """The parts of a video, from its first on, that were described."""
        return self._recalled(f"clips {self.about(file)} {self._describe.identity}", 0)

    def scanned(self, file: Path, after: Sequence[Part]) -> list[Part]:
        """The parts that were scanned, but not described, after those that were."""
        return [] if _whole(after) else self._recalled(f"scan {self.about(file)}", len(after))

    def keep_described(self, file: Path, part: Part) -> None:
        self._keep(f"clips {self.about(file)} {self._describe.identity}", part)

    def keep_scanned(self, file: Path, part: Part) -> None:
        self._keep(f"scan {self.about(file)}", part)

    def _recalled(self, name: str, number: int) -> list[Part]:
        found: list[Part] = []
        while not _whole(found) and (known := self._ctx.recall(f"{name} {number + len(found)}")):
            told = json.loads(known[0])
            found.append(Part(number + len(found), told["video"], known[1], told["last"]))
        return found

    def _keep(self, name: str, part: Part) -> None:
        """Keep a part; what it cost is taken for all the time since anything was kept."""
        now = time.perf_counter()
        told = json.dumps({"video": part.video, "last": part.last})
        self._ctx.keep(f"{name} {part.number}", (told, part.clips), now - self._began)
        self._began = now


def _whole(parts: Sequence[Part]) -> bool:
    return bool(parts) and parts[-1].last


def _described(files: Sequence[Path], job: Job, memos: _Memos, progress: _Progress) -> Iterator[Found]:
    """The described parts of each video, in order, or why there are none; the scans of some are begun ahead of it."""

    def tell(file: Path, news: News) -> None:
        if isinstance(news, Part):
            memos.keep_scanned(file, news)
        else:
            progress.tell(file, news)

    processes = min(job.processes, len(files))
    begun: deque[Callable[[], Found]] = deque()
    with Scanners(job.scan, processes, tell) as scanners:
        for file in files:
            begun.append(_begin(file, job, memos, scanners))
            if len(begun) > AHEAD * processes:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()


def _begin(file: Path, job: Job, memos: _Memos, scanners: Scanners) -> Callable[[], Found]:
    """Begin with a video as far as it isn't done; what is returned ends it."""
    if memos.about(file) is None:
        return lambda: _UNREADABLE
    done = memos.described(file)
    seen = memos.scanned(file, done)
    last = next(reversed([*done, *seen]), None)
    rest: Callable[[], Found] = (lambda: []) if last and last.last else scanners.start(file, last)
    return partial(_end, file, job, memos, done, seen, rest)


def _end(file: Path, job: Job, memos: _Memos, done: list[Part], seen: list[Part], rest: Callable[[], Found]) -> Found:
    """Wait for the rest of a scan, and have described what isn't."""
    found = rest()
    if isinstance(found, str):
        return found
    for part in [*seen, *found]:
        done.append(part._replace(clips=to_table(job.describe(rows(part.clips)), CLIPS)))
        memos.keep_described(file, done[-1])
    return done


def _described_on_ray(files: Sequence[Path], job: Job, memos: _Memos, progress: _Progress) -> Iterator[Found]:
    """As `_described`, by workers of Ray; what isn't kept is given to them, and what they find is kept as it comes."""
    from nodes.dataset.on_ray import Stages, Task, described

    done = {file: memos.described(file) for file in files if memos.about(file)}
    unfinished = [file for file, parts in done.items() if not _whole(parts)]

    def tasks() -> Iterator[Task]:
        for file in unfinished:
            seen = memos.scanned(file, done[file])
            yield Task(file.absolute(), seen, next(reversed([*done[file], *seen]), None))

    describe = job.describe
    stages = Stages(job.scan, describe.settings, describe.llm, describe.device, torch.get_num_threads())
    coming = described(tasks, len(unfinished), stages, job.processes, progress.again)
    for file in files:
        if file not in done:
            yield _UNREADABLE
        elif _whole(done[file]):
            yield done[file]
        else:
            scanned, found = next(coming)
            for part in scanned:
                memos.keep_scanned(file, part)
            for part in _parts(found):
                memos.keep_described(file, part)
            yield found if isinstance(found, str) else [*done[file], *found]


def _printable(name: str) -> str:
    """A file's name as UTF-8 can tell it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _named(clips: pa.Table, video: Row, name: str, source: Path, seed: int) -> pa.Table:
    """The clips of a video with what is known of it, and of each the caption to train on."""
    count = clips.num_rows
    shared = {column: [video.get(column)] * count for column in ("width", "height", "fps", "audio")}
    told = rows(clips, [column for kind in SHARES for column in (kind, f"{kind}_similarity")])
    kinds = [_drawn(row, f"{seed} {name}#{number}") for number, row in enumerate(told)]
    own = {
        "video": [name] * count,
        "clip": range(count),
        "source": [str(source)] * count,
        "dropped": [[]] * count,
        "caption": [kind and row[kind] for kind, row in zip(kinds, told, strict=True)],
        "caption_similarity": [kind and row[f"{kind}_similarity"] for kind, row in zip(kinds, told, strict=True)],
    }
    return with_columns(clips, shared | own)


def _drawn(row: Row, seed: str) -> str | None:
    """Which kind of caption is the one to train on: one of those that there are, by `SHARES`."""
    there = [kind for kind in SHARES if row[kind]]
    return random.Random(seed).choices(there, [SHARES[kind] for kind in there])[0] if there else None


def _with_duplicates(clips: pa.Table) -> pa.Table:
    """The clips, of each of which it is noted which earlier one it duplicates, in its own video or another."""
    if not clips.num_rows:
        return clips
    prints = np.frombuffer(b"".join(clips["fingerprint"].to_pylist()), np.uint8).reshape(clips.num_rows, -1)
    names = [f"{row['video']}#{row['clip']}" for row in rows(clips, ["video", "clip"])]
    firsts = groups(prints)
    same = [names[first] if first != index else None for index, first in enumerate(firsts)]
    return with_columns(clips, {"duplicate_of": same})


class _Progress:
    """Tells a context how much is done: the sizes of files stand for the time they take."""

    def __init__(self, ctx: Context, files: Sequence[Path]) -> None:
        self._ctx = ctx
        self._sizes = {file: file.stat().st_size if file.exists() else 0 for file in files}
        self._total = sum(self._sizes.values())
        self._shares = dict.fromkeys(files, 0.0)
        self._done = 0.0
        """Bytes."""
        self._ctx.progress(0, max(self._total, 1), unit="B")

    def tell(self, file: Path, share: float) -> None:
        """A share of a file, 0 to 1, is done."""
        gained = max(0.0, min(share, 1.0) - self._shares[file])
        self._shares[file] += gained
        self._done += gained * self._sizes[file]
        self.again()

    def again(self) -> None:
        """Tell once more what is done: a run that was cancelled ends so."""
        self._ctx.progress(int(self._done), max(self._total, 1), unit="B")

    def finish(self, file: Path, outcome: str) -> None:
        self.tell(file, 1.0)
        self._ctx.text(f"{file.name}: {outcome}\n")
