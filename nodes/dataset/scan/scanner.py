"""One pass over a video: where its clips are, and their scores that need no model on a device.

A video is decoded once, frame by frame. The memory that a shot takes is bounded: a few views of it, and some numbers
for every half second.

A long video is scanned in parts: after some minutes the pass starts again at a cut, as if the video began there. So
each part can be kept when it is done, and the result doesn't depend on whether a run was killed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from engine.values import Table
from nodes.dataset.scan.cuts import Cut, CutFinder
from nodes.dataset.scan.duplicates import fingerprint
from nodes.dataset.scan.motion import Motion, flow_map, grey, motion
from nodes.dataset.scan.quality import Quality, mean, quality
from nodes.dataset.scan.texts import TextDetector
from nodes.dataset.table import SCANNED, Row, rows, to_table
from nodes.files.footage import Footage, Frame, Picture

if TYPE_CHECKING:
    from nodes.dataset.scan.transnet import TransnetFinder

RATE = 2.0
"""Frames per second at which flow and quality are measured (Blattmann et al. 2023, appendix C)."""
VIEW_SIDE = 256
"""Longest that the shorter side of a clip's views may be, which are kept for models and people."""
VIEW_QUALITY = 90
SLACK = 1e-2
"""Seconds, or share of a part, by which a clip may be too long: frames don't fall on whole seconds."""
MAX_VIEWS = 64
"""Views held of a shot that goes on; beyond that, every second one is dropped."""
PART = 300.0
"""Seconds of a video after which a part of it ends with the next shot.

Some seconds after that end have been decoded by then, and are decoded again for the next part."""
PLAIN = 1.0
"""Standard deviation of each colour, in levels of 255, up to which a picture is of one colour."""
SAME_FRAME = 2.0
"""Mean difference, in levels of 255, up to which a frame after seeking is the one that was seen before."""


Cuts = Literal["cascade", "transnet", "both"]


@dataclass(frozen=True)
class ScanSettings:
    """The settings that decide the clips of a video and their scores."""

    cuts: Cuts = "cascade"
    """How shot boundaries are found: by the cascade of detectors, by TransNetV2, or by the cascade where TransNetV2
    agrees."""
    shortest: float = 1.0
    """Least seconds of a clip. At least one measurement has to fit: 1 / `RATE`."""
    longest: float = 0.0
    """Seconds; longer shots are cut into equal parts. 0: no limit."""
    at_key_frames: bool = False
    """Whether clips start at key frames, so that they can be cut out without encoding them again. Where key frames are
    further apart than `longest`, clips are longer too."""
    text: bool = True
    """Whether to look for text."""
    views: int = 6
    """How many views of a clip are kept, evenly spaced, including the first and the last."""


def without_shots(settings: ScanSettings) -> str:
    """What is said of a video whose shots are all too short."""
    return f"has no shot of {settings.shortest:g} s or more"


class Scan(NamedTuple):
    """The result of a pass over a video."""

    video: Row
    """Technical data and the problem, if any, as columns of `VIDEOS`.

    A video in several parts doesn't say that it has no clips: no part knows it."""
    clips: list[Row]


class Part(NamedTuple):
    """The result of a pass over a part of a video."""

    number: int
    """How many parts come before it."""
    video: Row
    """As in `Scan`, up to the end of this part: its frames and seconds say where the next begins."""
    clips: Table
    """A table `SCANNED`, or `CLIPS` once described."""
    last: bool
    """Whether it is the video's last."""


class _Pair(NamedTuple):
    """A measurement between two samples."""

    before: int
    after: int
    moved: Motion
    look: Quality


class _View(NamedTuple):
    frame: int
    picture: Picture


@dataclass
class _Scanner:
    """The state of a pass."""

    settings: ScanSettings
    finder: CutFinder | TransnetFinder
    detector: TextDetector | None
    times: array[float] = field(default_factory=lambda: array("d"))
    keys: list[int] = field(default_factory=list)
    shot: int = 0
    """The first frame of the current shot."""
    clips: list[Row] = field(default_factory=list)
    pairs: list[_Pair] = field(default_factory=list)
    views: list[_View] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    """Frames of the current shot and after it."""
    plain: bool = True
    """Whether all samples were of one colour."""
    last: tuple[int, Picture] | None = None
    """The index and the grey picture of the last sample."""

    def add(self, frame: Frame) -> None:
        self.times.append(frame.time)
        if frame.key:
            self.keys.append(frame.index)
        if frame.damaged:
            self.damaged.append(frame.index)
        if self.last is None or frame.time - self.times[self.last[0]] >= 1 / RATE - 1e-6:
            self._sample(frame)
        for cut in self.finder.add(frame):
            self._close(cut)
        longest, settled = self.settings.longest, self.finder.decided
        if longest and settled > self.shot and self.times[settled - 1] - self.times[self.shot] > 2 * longest:
            last = self._frame_at(self.shot, settled, longest + SLACK) - 1  # the last frame within it
            if (part := self._start(last, settled)) < settled:
                self._close(Cut(part, part, "cut"))  # so that an endless shot isn't held until then

    def end(self) -> None:
        for cut in self.finder.finish():
            self._close(cut)
        count = len(self.times)
        self._close(Cut(count, count, "cut"))

    def without_clips(self) -> str:
        """Why a video of one part gave no clip."""
        count, shortest = len(self.times), f"{self.settings.shortest:g} s"
        if count == 1:
            return "holds a single picture"
        if (seconds := self._seconds(0, count)) < self.settings.shortest:
            return f"lasts {seconds:.2g} s, and clips {shortest} or more"
        return "shows one colour only" if self.plain else without_shots(self.settings)

    def _sample(self, frame: Frame) -> None:
        look, now = quality(frame.small), grey(frame.small)
        self.plain = self.plain and bool(frame.small.std(axis=(0, 1)).max() <= PLAIN)
        if self.last is not None:
            before, then = self.last
            moved = motion([flow_map(then, now, frame.time - self.times[before])])
            self.pairs.append(_Pair(before, frame.index, moved, look))
        self.views.append(_View(frame.index, _view(frame.picture)))
        self.last = frame.index, now
        certain = [view for view in self.views if view.frame < self.finder.decided]
        if len(certain) > MAX_VIEWS:  # they are of the current shot; later ones are undecided
            self.views = certain[::2] + self.views[len(certain) :]

    def _close(self, cut: Cut) -> None:
        """End a shot: add its clips, and drop what was held of it."""
        for first, end in self._spans(self.shot, cut.start):
            if any(first <= view.frame < end for view in self.views):  # a clip needs at least one view
                self.clips.append(self._clip(first, end))
        self.shot = cut.end
        self.pairs = [pair for pair in self.pairs if pair.before >= cut.end]
        self.views = [view for view in self.views if view.frame >= cut.end]
        self.damaged = self.damaged[bisect_left(self.damaged, cut.end) :]

    def _spans(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The clips of a shot, as first frame and end frame."""
        if end <= first:  # as where a video ends in a fade
            return
        longest, seconds = self.settings.longest, self._seconds(first, end)
        parts = ceil(seconds / longest - SLACK) if longest else 1
        while parts > 1 and seconds / parts < self.settings.shortest:
            parts -= 1
        edges = [self._start(self._frame_at(first, end, seconds * part / parts), end) for part in range(parts)]
        for start, stop in pairwise([*edges, end]):
            if self._seconds(start, stop) >= self.settings.shortest:
                yield start, stop

    def _start(self, frame: int, end: int) -> int:
        """The first frame, from this one on, at which a clip can start."""
        if not self.settings.at_key_frames:
            return frame
        following = bisect_left(self.keys, frame)
        return min(self.keys[following], end) if following < len(self.keys) else end

    def _clip(self, first: int, end: int) -> Row:
        pairs = [pair for pair in self.pairs if first <= pair.before and pair.after < end]
        views = [view for view in self.views if first <= view.frame < end]
        wanted = np.linspace(views[0].frame, views[-1].frame, self.settings.views)
        shown = [min(views, key=lambda view: abs(view.frame - frame)).picture for frame in wanted]
        moved = Motion(*np.mean([pair.moved for pair in pairs], axis=0).tolist()) if pairs else motion([])
        look = mean([pair.look for pair in pairs] or [quality(shown[0])])
        damaged = self.damaged[bisect_left(self.damaged, first) : bisect_left(self.damaged, end)]
        return {
            "first_frame": first,
            "end_frame": end,
            "start": self.times[first],
            "seconds": self._seconds(first, end),
            "damaged": sum(self._seconds(frame, frame + 1) for frame in damaged),
            "motion": moved.total,
            "camera_motion": moved.camera,
            "object_motion": moved.objects,
            "text_area": self._text_area([shown[0], shown[len(shown) // 2], shown[-1]]),
            "sharpness": look.sharpness,
            "brightness": look.brightness,
            "clipped": look.clipped,
            "fingerprint": fingerprint(shown).tobytes(),
            "views": [_jpeg(view) for view in shown],
        }

    def _text_area(self, pictures: Sequence[Picture]) -> float | None:
        if self.detector is None:
            return None
        return float(np.mean([self.detector.area(picture) for picture in pictures]))

    def _seconds(self, first: int, end: int) -> float:
        """How long frames are shown; the video's last one counts as long as the one before it."""
        if end <= first:
            return 0.0
        if end < len(self.times):
            return self.times[end] - self.times[first]
        last = self.times[end - 1] - self.times[end - 2] if end > 1 else 0.0
        return self.times[end - 1] + last - self.times[first]

    def _frame_at(self, first: int, end: int, seconds: float) -> int:
        """The frame that is shown this long after the first."""
        times = np.frombuffer(self.times)[first:end]
        return first + int(np.searchsorted(times, self.times[first] + seconds - 1e-6))


def scan(
    path: Path,
    settings: ScanSettings,
    *,
    threads: int = 1,
    progress: Callable[[float], object] = lambda share: None,
) -> Scan:
    """Scan a video in one go: the sum of its `parts`."""
    found = list(parts(path, settings, threads=threads, progress=progress))
    return Scan(found[-1].video, [clip for part in found for clip in rows(part.clips)])


def parts(
    path: Path,
    settings: ScanSettings,
    *,
    after: Part | None = None,
    threads: int = 1,
    progress: Callable[[float], object] = lambda share: None,
) -> Iterator[Part]:
    """Scan a video once, part by part.

    Args:
        path: the file.
        settings: decide the result.
        after: the last known part; None to start with the first.
        threads: for the decoder.
        progress: called with the share that is done, 0 to 1, about once for every second of video.

    Raises:
        InputError: the file can't be opened as a video, or holds no picture.
    """
    if after is not None and after.last:
        return
    cv2.setNumThreads(1)
    footage = Footage(path, threads)
    with threadpool_limits(
        1, "blas"
    ):  # matrices are small: a second thread would only spin, on a core that others need
        while after is None or not after.last:
            after = _part(footage, settings, after, progress)
            yield after


def _part(footage: Footage, settings: ScanSettings, before: Part | None, progress: Callable[[float], object]) -> Part:
    """The next part of a video."""
    frames, seconds = (before.video["frames"], before.video["seconds"]) if before else (0, 0.0)
    scanner = _Scanner(settings, _finder(settings.cuts, footage.fps), _detector() if settings.text else None)
    reported, shape, tried, reason = 0.0, (0, 0, 0), False, ""
    for frame in footage.frames(seconds if before else None):
        scanner.add(frame)
        shape = frame.picture.shape
        if frame.time - reported >= 1:
            progress((seconds + frame.time) / max(footage.duration, seconds + frame.time))
            reported = frame.time
        if not tried and scanner.views and scanner.times[scanner.shot] >= PART:
            tried, count = True, scanner.shot
            sure = footage.steady and footage.basis == "pts"
            if sure and _can_start(footage.path, seconds + scanner.times[count], scanner.views[0], count):
                length = scanner.times[count]
                break
    else:
        footage.require_frames(count := len(scanner.times))
        scanner.end()
        length = scanner._seconds(0, count)
        reason = "" if before or scanner.clips else scanner.without_clips()
    video = {
        "width": shape[1],
        "height": shape[0],
        "fps": footage.fps,
        "seconds": seconds + length,
        "frames": frames + count,
        "codec": footage.codec,
        "pixel_format": footage.pixel_format,
        "pixel_aspect": footage.aspect,
        "interlaced": footage.interlaced or bool(before and before.video["interlaced"]),
        "hdr": footage.hdr,
        "audio": footage.has_audio,
        "problem": footage.damage or (before.video["problem"] if before else reason),
    }
    for clip in scanner.clips:
        clip["first_frame"], clip["end_frame"] = clip["first_frame"] + frames, clip["end_frame"] + frames
        clip["start"] += seconds
    clips = to_table(scanner.clips, SCANNED)
    return Part(before.number + 1 if before else 0, video, clips, last=count == len(scanner.times))


def _can_start(path: Path, seconds: float, view: _View, first: int) -> bool:
    """Whether a part can start at a time: seeking must lead to its first view, which fails in some containers."""
    for frame in Footage(path).frames(seconds):
        if frame.index == view.frame - first:
            found = _view(frame.picture)
            return found.shape == view.picture.shape and float(cv2.absdiff(found, view.picture).mean()) < SAME_FRAME
    return False


def require(settings: ScanSettings) -> None:
    """Raise MissingError if a package that a scan needs isn't installed."""
    if settings.cuts != "cascade":
        _finder(settings.cuts, 25.0)
    if settings.text:
        _detector()


@cache
def _detector() -> TextDetector:
    """One detector for all videos of a process: its network takes a while to load."""
    return TextDetector()


def _finder(cuts: Cuts, fps: float) -> CutFinder | TransnetFinder:
    if cuts == "cascade":
        return CutFinder(fps)
    from nodes.dataset.scan.transnet import TransnetFinder

    return TransnetFinder(cascade=CutFinder(fps) if cuts == "both" else None)


def _view(picture: Picture) -> Picture:
    """A copy with no shorter side above `VIEW_SIDE`."""
    height, width = picture.shape[:2]
    factor = VIEW_SIDE / min(height, width)
    if factor >= 1:
        return picture.copy()
    size = round(width * factor), round(height * factor)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: Picture) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, VIEW_QUALITY])[1].tobytes()
