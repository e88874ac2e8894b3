"""Many videos into one table of clips: each is scanned, described by models, and kept in the cache, part by part.

So a run that was killed, or that has other settings, repeats no finished work.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from engine.errors import InputError
from engine.models.digest import Watch, digest
from engine.values import Table
from nodes.dataset import sources
from nodes.dataset.describe.describer import Describer
from nodes.dataset.provenance import MOST_LISTED, LeftOut, in_words, with_models, with_skipped
from nodes.dataset.scan.duplicates import groups
from nodes.dataset.scan.models import models
from nodes.dataset.scan.processes import PartsOrProblem, Scanners, Update
from nodes.dataset.scan.scanner import Part, ScanSettings, require, without_shots
from nodes.dataset.sources import printable
from nodes.dataset.table import CLIPS, VIDEOS, Row, of_arrow, rows, to_arrow, to_table, with_columns
from nodes.files.footage import require_readable

if TYPE_CHECKING:
    from engine.node import Context


VERSION = 8
"""Raised when scanning or describing gives other results than before for the same video and settings."""
AHEAD = 2
"""How many scans per process may be started before the first is described: their views take memory."""

Lending = Callable[[], AbstractContextManager[object]]
"""Gives a context in which others may use the device, if they may not anyway."""

SHARES = {"image_caption": 0.5, "video_caption": 0.25, "summary": 0.25}
"""How often each kind of caption is the one to train on (Blattmann et al. 2023, arXiv 2311.15127, section 3)."""


class Curated(NamedTuple):
    """The tables `CLIPS` and `VIDEOS`."""

    clips: Table
    videos: Table


@dataclass(frozen=True)
class CurationSettings:
    """How every video is scanned and described."""

    scan: ScanSettings
    describe: Describer
    processes: int = 1
    """How many videos are scanned at a time."""
    seed: int = 0
    """Seed of the choice among captions."""
    on_ray: bool = False
    """Whether Ray's workers do the work."""


def curate(ctx: Context, path: Path, settings: CurationSettings) -> Curated:
    """Find and describe the clips of the videos that a path stands for, in order.

    A file that can't be read is a row of `videos` with the reason, and the others go on. The metadata of `videos` list
    what is skipped.

    Args:
        ctx: of the node; it gets the progress, in bytes of video, and in a few words what became of each file.
        path: a folder, a pattern, a list, a table, or one video.
        settings: how to scan and describe them.

    Raises:
        MissingError: a model or a required library is missing.
    """
    require(settings.scan)
    # Others may use the device while a scan is waited for; if there are no models, all the time.
    lent, waiting = (nullcontext, ctx.lend_device) if settings.describe.has_models else (ctx.lend_device, nullcontext)
    with lent():
        return _curated(ctx, path, settings, waiting)


def _curated(ctx: Context, path: Path, settings: CurationSettings, waiting: Lending) -> Curated:
    """As `curate`, within `waiting` while a scan is waited for."""
    files, skipped = sources.survey(path, ctx.may_read)
    folder = sources.root(path)
    clips: list[pa.Table] = []
    videos: list[Row] = []
    progress = _Progress(ctx, files)
    kept = KeptParts(ctx, settings)
    if settings.on_ray:
        described = _described_on_ray(ctx, files, settings, kept, progress)
    else:
        described = _described(files, settings, kept, progress, waiting)
    for file, found in zip(files, described, strict=True):
        name = sources.name(file, folder)
        if not isinstance(found, str) and not kept.is_unchanged(file):
            found = "was changed while it was read, so it is left out: run again"
        video = {"problem": _of_itself(found, file)} if isinstance(found, str) else found[-1].video
        own = pa.concat_tables([CLIPS.empty_table(), *(to_arrow(part.clips) for part in _parts(found))])
        if not own.num_rows and not video.get("problem"):
            video = video | {"problem": without_shots(settings.scan)}
        videos.append(video | {"video": name, "clips": own.num_rows})
        if own.num_rows:
            clips.append(_with_video(own, video | {"source_digest": kept.digest(file)}, name, file, settings.seed))
        progress.finish(file, video.get("problem") or f"{own.num_rows} clip{'s' * (own.num_rows != 1)}")
    table = _with_duplicates(pa.concat_tables([CLIPS.empty_table(), *clips]))
    used = [*models(settings.scan), *settings.describe.models()]
    explained = sources.explained(skipped[:MOST_LISTED])
    left_out = [LeftOut(sources.name(each.path, folder), each.reason) for each in explained]
    if said := in_words(len(skipped), left_out):
        ctx.text(said)
    listed = with_skipped(pa.Table.from_pylist(videos, VIDEOS), len(skipped), left_out)
    return Curated(of_arrow(with_models(table, used)), of_arrow(listed))


def _parts(found: PartsOrProblem) -> list[Part]:
    return [] if isinstance(found, str) else found


class KeptParts:
    """The parts of videos that are kept in the cache: scanned, and described by models."""

    def __init__(self, ctx: Context, settings: CurationSettings) -> None:
        self._ctx, self._describe = ctx, settings.describe
        self._scans_anywhere = settings.scan.cuts == "cascade"
        """Whether scans don't depend on torch's version, as TransNetV2's answers may."""
        self._clips_anywhere = self._scans_anywhere and not settings.describe.has_models
        self._scan = json.dumps([asdict(settings.scan), *map(asdict, models(settings.scan))], sort_keys=True)
        self._last_kept = time.perf_counter()
        self._scan_keys: dict[Path, str | None] = {}
        self._digests: dict[Path, str] = {}
        self._watches: dict[Path, Watch] = {}

    def scan_key(self, file: Path) -> str | None:
        """Everything that decides a scan of a file; None if the file can't be read, or named in a table."""
        if file not in self._scan_keys:
            self._scan_keys[file] = None
            with suppress(OSError):
                if printable(str(file)) == str(file):
                    self._digests[file] = contents = digest(file)
                    self._watches[file] = Watch(contents, partial(digest, file), lambda: (file,))
                    self._scan_keys[file] = f"{VERSION} {contents} {self._scan}"
        return self._scan_keys[file]

    def digest(self, file: Path) -> str:
        """The digest of what a file that can be read held at first."""
        return self._digests[file]

    def is_unchanged(self, file: Path) -> bool:
        """Whether a file that can be read has been the same all the time."""
        return self._watches[file].unchanged()

    def described(self, file: Path) -> list[Part]:
        """The described parts of a video, from its first on."""
        return self._recall(f"clips {self.scan_key(file)} {self._describe.identity}", 0, self._clips_anywhere)

    def scanned(self, file: Path, after: Sequence[Part]) -> list[Part]:
        """The parts that were scanned but not described, after the described ones."""
        return (
            [] if _is_complete(after) else self._recall(f"scan {self.scan_key(file)}", len(after), self._scans_anywhere)
        )

    def keep_described(self, file: Path, part: Part) -> None:
        if self._describe.is_unchanged():
            self._keep(file, f"clips {self.scan_key(file)} {self._describe.identity}", part, self._clips_anywhere)

    def keep_scanned(self, file: Path, part: Part) -> None:
        self._keep(file, f"scan {self.scan_key(file)}", part, self._scans_anywhere)

    def _recall(self, name: str, number: int, anywhere: bool) -> list[Part]:
        found: list[Part] = []
        while not _is_complete(found) and (
            known := self._ctx.recall(f"{name} {number + len(found)}", anywhere=anywhere)
        ):
            facts = json.loads(known[0])
            found.append(Part(number + len(found), facts["video"], known[1], facts["last"]))
        return found

    def _keep(self, file: Path, name: str, part: Part, anywhere: bool) -> None:
        """Keep a part, unless it may be of another file that has replaced its own meanwhile.

        Its cost is taken to be all the time since a part was last kept.
        """
        if not self.is_unchanged(file):
            return
        now = time.perf_counter()
        facts = json.dumps({"video": part.video, "last": part.last})
        self._ctx.keep(f"{name} {part.number}", (facts, part.clips), now - self._last_kept, anywhere=anywhere)
        self._last_kept = now


def _is_complete(parts: Sequence[Part]) -> bool:
    return bool(parts) and parts[-1].last


def _described(
    files: Sequence[Path], settings: CurationSettings, kept: KeptParts, progress: _Progress, waiting: Lending
) -> Iterator[PartsOrProblem]:
    """The described parts of each video, in order, or why there are none; some scans are started ahead."""

    def report(file: Path, update: Update) -> None:
        if isinstance(update, Part):
            kept.keep_scanned(file, update)
        else:
            progress.update(file, update)

    processes = min(settings.processes, len(files))
    started: deque[Callable[[], PartsOrProblem]] = deque()
    with Scanners(settings.scan, processes, report) as scanners:
        for file in files:
            started.append(_start(file, settings, kept, scanners, waiting))
            if len(started) > AHEAD * processes:
                yield started.popleft()()
        while started:
            yield started.popleft()()


def _start(
    file: Path, settings: CurationSettings, kept: KeptParts, scanners: Scanners, waiting: Lending
) -> Callable[[], PartsOrProblem]:
    """Start what remains to be done of a video; the function returned waits for it and describes it."""
    if kept.scan_key(file) is None:
        return lambda: _unreadable(file)
    done = kept.described(file)
    seen = kept.scanned(file, done)
    last = next(reversed([*done, *seen]), None)
    rest: Callable[[], PartsOrProblem] = (
        (lambda: []) if last and last.last else partial(_within, waiting, scanners.start(file, last))
    )
    return partial(_finish, file, settings, kept, done, seen, rest)


def _within(waiting: Lending, scan: Callable[[], PartsOrProblem]) -> PartsOrProblem:
    with waiting():
        return scan()


def _finish(
    file: Path,
    settings: CurationSettings,
    kept: KeptParts,
    done: list[Part],
    seen: list[Part],
    rest: Callable[[], PartsOrProblem],
) -> PartsOrProblem:
    """Wait for the rest of a scan, and describe the parts that aren't described yet."""
    found = rest()
    if isinstance(found, str):
        return found
    for part in [*seen, *found]:
        done.append(part._replace(clips=to_table(settings.describe(rows(part.clips)), CLIPS)))
        kept.keep_described(file, done[-1])
    return done


def _described_on_ray(
    ctx: Context, files: Sequence[Path], settings: CurationSettings, kept: KeptParts, progress: _Progress
) -> Iterator[PartsOrProblem]:
    """As `_described`, by Ray's workers: they are given what isn't kept, and their results are kept as they come."""
    from nodes.dataset.on_ray import Stages, Task, described, shares_device

    done = {file: kept.described(file) for file in files if kept.scan_key(file)}
    unfinished = [file for file, parts in done.items() if not _is_complete(parts)]

    def tasks() -> Iterator[Task]:
        for file in unfinished:
            seen = kept.scanned(file, done[file])
            yield Task(file.absolute(), seen, next(reversed([*done[file], *seen]), None))

    describe = settings.describe
    stages = Stages(settings.scan, describe.settings, describe.llm, describe.device, torch.get_num_threads())
    if shares_device(describe.device):
        ctx.models.vacate()
    results = described(tasks, len(unfinished), stages, settings.processes, progress.repeat)
    for file in files:
        if file not in done:
            yield _unreadable(file)
        elif _is_complete(done[file]):
            yield done[file]
        else:
            scanned, found = next(results)
            for part in scanned:
                kept.keep_scanned(file, part)
            for part in _parts(found):
                kept.keep_described(file, part)
            yield found if isinstance(found, str) else [*done[file], *found]


def _unreadable(file: Path) -> str:
    """Why a file has no scan key."""
    if printable(str(file)) != str(file):
        return "its name isn't UTF-8"
    try:
        require_readable(file)
    except InputError as error:
        return error.message
    return f"{file} could not be read"


def _of_itself(problem: str, file: Path) -> str:
    """A problem as it stands beside the file's name, without the place of the file on this machine."""
    for path in (str(file.absolute()), str(file)):
        problem = problem.removeprefix(f"{path} ").replace(path, file.name)
    return printable(problem)


def _with_video(clips: pa.Table, video: Row, name: str, source: Path, seed: int) -> pa.Table:
    """The clips of a video with the columns that it decides, and the caption to train on."""
    count = clips.num_rows
    shared = {column: [video.get(column)] * count for column in ("width", "height", "fps", "audio", "source_digest")}
    captions = rows(clips, [column for kind in SHARES for column in (kind, f"{kind}_similarity")])
    kinds = [_choose_caption(row, f"{seed} {name}#{number}") for number, row in enumerate(captions)]
    own = {
        "video": [name] * count,
        "clip": range(count),
        "source": [str(source)] * count,
        "dropped": [[]] * count,
        "caption": [kind and row[kind] for kind, row in zip(kinds, captions, strict=True)],
        "caption_similarity": [kind and row[f"{kind}_similarity"] for kind, row in zip(kinds, captions, strict=True)],
    }
    return with_columns(clips, shared | own)


def _choose_caption(row: Row, seed: str) -> str | None:
    """Which kind of caption to train on: one of those that the clip has, by `SHARES`."""
    there = [kind for kind in SHARES if row[kind]]
    return random.Random(seed).choices(there, [SHARES[kind] for kind in there])[0] if there else None


def _with_duplicates(clips: pa.Table) -> pa.Table:
    """The clips, each with the first that it duplicates, in its own video or another.

    Undamaged clips are looked at first, so that none of them counts as a copy of a damaged one.
    """
    if not clips.num_rows:
        return clips
    prints = np.frombuffer(b"".join(clips["fingerprint"].to_pylist()), np.uint8).reshape(clips.num_rows, -1)
    listed = rows(clips, ["video", "clip", "damaged"])
    names = [f"{row['video']}#{row['clip']}" for row in listed]
    order = sorted(range(len(listed)), key=lambda index: bool(listed[index]["damaged"]))
    same: list[str | None] = [None] * len(listed)
    for index, first in zip(order, groups(prints[order]), strict=True):
        if order[first] != index:
            same[index] = names[order[first]]
    return with_columns(clips, {"duplicate_of": same})


class _Progress:
    """Reports progress to a context: a file's size stands for the time it takes."""

    def __init__(self, ctx: Context, files: Sequence[Path]) -> None:
        self._ctx = ctx
        self._sizes = {file: file.stat().st_size if file.exists() else 0 for file in files}
        self._total = sum(self._sizes.values())
        self._shares = dict.fromkeys(files, 0.0)
        self._done = 0.0
        """Bytes."""
        self._ctx.progress(0, max(self._total, 1), unit="B")

    def update(self, file: Path, share: float) -> None:
        """Report that a share of a file, 0 to 1, is done."""
        gained = max(0.0, min(share, 1.0) - self._shares[file])
        self._shares[file] += gained
        self._done += gained * self._sizes[file]
        self.repeat()

    def repeat(self) -> None:
        """Report the same progress again, so that a cancelled run ends."""
        self._ctx.progress(int(self._done), max(self._total, 1), unit="B")

    def finish(self, file: Path, outcome: str) -> None:
        self.update(file, 1.0)
        self._ctx.text(f"{file.name}: {outcome}\n")
