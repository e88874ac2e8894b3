"""Many videos into one table of clips: each is scanned, described by models, and kept in the cache, so that a run that
was killed, or has other settings, does nothing anew that is done.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.models.digest import digest
from engine.values import Table
from nodes.dataset.describe import Describer
from nodes.dataset.duplicates import groups
from nodes.dataset.scan import Scan, ScanSettings, require
from nodes.dataset.scanning import Found, Scanners
from nodes.dataset.table import CLIPS, SCANNED, VIDEOS, Row, rows, to_table

if TYPE_CHECKING:
    from engine.node import Context


VERSION = 2
"""Raised when scanning or describing gives something else than before for the same video and settings."""
AHEAD = 2
"""How many scans for each process may be begun before the first is described: their views take memory."""


SHARES = {"image_caption": 0.5, "video_caption": 0.25, "summary": 0.25}
"""How often each kind of caption is the one to train on (Blattmann et al. 2023, arXiv 2311.15127, section 3)."""

_UNREADABLE: tuple[Row, list[Row]] = (
    {"problem": "it isn't there any more, may not be read, or has a name that isn't UTF-8"},
    [],
)


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
    clips: list[Row] = []
    videos: list[Row] = []
    progress = _Progress(ctx, files)
    described = (_described_on_ray if job.on_ray else _described)(ctx, files, job, progress)
    for file, (video, found) in zip(files, described, strict=True):
        name = _printable(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))
        videos.append(video | {"video": name, "clips": len(found)})
        shared = {column: video.get(column) for column in ("width", "height", "fps", "audio")}
        for number, clip in enumerate(found):
            row = clip | shared | {"video": name, "clip": number, "source": str(file), "dropped": []}
            clips.append(_with_caption(row, job.seed))
        progress.finish(file, video.get("problem") or f"{len(found)} clips")
    _mark_duplicates(clips)
    return Curated(to_table(clips, CLIPS), to_table(videos, VIDEOS))


def _described(ctx: Context, files: Sequence[Path], job: Job, progress: _Progress) -> Iterator[tuple[Row, list[Row]]]:
    """The row of each video and those of its clips, in order; the scans of some are begun ahead of it."""
    processes = min(job.processes, len(files))
    begun: deque[Callable[[], tuple[Row, list[Row]]]] = deque()
    with Scanners(job.scan, processes, progress.tell) as scanners:
        for file in files:
            begun.append(_begin(ctx, file, job, scanners))
            if len(begun) > AHEAD * processes:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()


def _described_on_ray(
    ctx: Context, files: Sequence[Path], job: Job, progress: _Progress
) -> Iterator[tuple[Row, list[Row]]]:
    """As `_described`, by workers of Ray: all that isn't kept is given to them at once."""
    from nodes.dataset.on_ray import Stages, described

    names = {file: f"clips {about} {job.describe.identity}" for file in files if (about := _about(file, job))}
    kept = {file: done for file, name in names.items() if (done := ctx.recall(name))}
    describe = job.describe
    stages = Stages(job.scan, describe.settings, describe.llm, ctx.device.partition(":")[0])
    todo = [file for file in names if file not in kept]
    paths = [file.absolute() for file in todo]
    coming = described(paths, stages, job.processes, progress.again) if todo else iter(())
    for file in files:
        if file in kept:
            yield json.loads(kept[file][0]), rows(kept[file][1])
            continue
        if file not in names:
            yield _UNREADABLE
            continue
        started = time.perf_counter()
        _, (video, clips) = next(coming)
        progress.tell(file, 1.0)
        if not (video.get("problem") and not clips):
            ctx.keep(names[file], (json.dumps(video), to_table(clips, CLIPS)), time.perf_counter() - started)
        yield video, clips


def _printable(name: str) -> str:
    """A file's name as UTF-8 can tell it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _about(file: Path, job: Job) -> str | None:
    """All that decides what a scan of a file finds; None if the file can't be read, or named in a table."""
    if _printable(str(file)) != str(file):
        return None
    try:
        return f"{VERSION} {digest(file)} {json.dumps(asdict(job.scan), sort_keys=True)}"
    except OSError:
        return None


def _begin(ctx: Context, file: Path, job: Job, scanners: Scanners) -> Callable[[], tuple[Row, list[Row]]]:
    """Begin with a video as far as it isn't done; what is returned ends it."""
    about = _about(file, job)
    if about is None:
        return lambda: _UNREADABLE
    described = f"clips {about} {job.describe.identity}"
    if done := ctx.recall(described):
        video, clips = json.loads(done[0]), rows(done[1])
        return lambda: (video, clips)
    if scanned := ctx.recall(f"scan {about}"):
        scan = Scan(json.loads(scanned[0]), rows(scanned[1]))
        return partial(_describe, ctx, job, lambda: scan, "", described)
    return partial(_describe, ctx, job, scanners.start(file), f"scan {about}", described)


def _describe(ctx: Context, job: Job, scanned: Callable[[], Found], scan_name: str, name: str) -> tuple[Row, list[Row]]:
    """Wait for a scan, have its clips described, and keep both."""
    started = time.perf_counter()
    found = scanned()
    if isinstance(found, str):
        return {"problem": found}, []
    if scan_name:
        kept = json.dumps(found.video), to_table(found.clips, SCANNED)
        ctx.keep(scan_name, kept, time.perf_counter() - started)
    clips = to_table(job.describe(found.clips), CLIPS)
    ctx.keep(name, (json.dumps(found.video), clips), time.perf_counter() - started)
    return found.video, rows(clips)


def _with_caption(row: Row, seed: int) -> Row:
    """The row with the caption to train on: one of those that there are, by `SHARES`, for a clip always the same."""
    there = [kind for kind in SHARES if row.get(kind)]
    if not there:
        return row
    drawn = random.Random(f"{seed} {row['video']}#{row['clip']}")
    kind = drawn.choices(there, [SHARES[kind] for kind in there])[0]
    return row | {"caption": row[kind], "caption_similarity": row.get(f"{kind}_similarity")}


def _mark_duplicates(clips: list[Row]) -> None:
    """Note of each clip which earlier one it duplicates, in its own video or another."""
    if not clips:
        return
    firsts = groups(np.stack([np.frombuffer(clip["fingerprint"], np.uint8) for clip in clips]))
    for index, (clip, first) in enumerate(zip(clips, firsts, strict=True)):
        if first != index:
            clip["duplicate_of"] = f"{clips[first]['video']}#{clips[first]['clip']}"


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
