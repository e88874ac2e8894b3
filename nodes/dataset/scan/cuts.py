"""Where one shot gives way to the next: hard cuts, fades and dissolves, found while a video goes by once.

As for Stable Video Diffusion (arXiv 2311.15127, appendix C), PySceneDetect's detectors run at three frame rates, each
with a threshold of its own. At the native rate `AdaptiveDetector` finds hard cuts, to the frame. The slower two only
say between which frames a picture has changed. Whether it was mixed with another there, and from when to when, is
decided at the native rate by `cut_mixing.Stretch`. Decisions on a frame are final some seconds later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from nodes.dataset.scan.cut_mixing import Indices, Numbers, Signature, Stretch, signature
from nodes.files.footage import Frame

Transition: TypeAlias = Literal["cut", "fade", "dissolve"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A shot boundary. Frames from `start` up to, but not including, `end` belong to neither shot alone.

    A film that opens in the plain colour of a fade has a boundary that starts at 0; a film that closes in one, a
    boundary that ends with the film.
    """

    start: int
    """The first frame that no longer belongs to the previous shot."""
    end: int
    """The first that belongs to the new shot alone; equal to `start` for a hard cut."""
    kind: Transition


@dataclass(frozen=True, slots=True)
class CutSettings:
    """What counts as a cut. Defaults are PySceneDetect's where it has any; the others were tuned on composed films."""

    content: float = 15.0
    """Least change of hue, saturation and value from one frame to the next in a hard cut (0–255)."""
    ratio: float = 3.0
    """Least ratio of that change to those around it."""
    min_frames: int = 1
    """Least frames from one hard cut to the next. PySceneDetect's own default is 15, which lets a flash hide a cut;
    here flashes are recognised instead."""
    prominence: float = 1.75
    """Least ratio of the difference of the pictures around a hard cut to that of any two consecutive ones near it."""
    neighbourhood: float = 0.2
    """Seconds before and after a hard cut that count as near it."""
    levels: tuple[tuple[float, float], ...] = ((6.0, 10.0), (2.0, 10.0))
    """Slower levels: frames per second, and the least change of hue, saturation and value from one to the next."""
    longest: float = 2.5
    """Most seconds that a fade out, a fade in or a dissolve takes."""
    change: float = 20.0
    """Least difference of the pictures before and after a dissolve, root mean square in grey levels."""
    misfit: float = 0.22
    """Most of a dissolve or fade that a mix of two pictures may leave unexplained, as a share of the square of their
    difference."""
    contrast_weight: float = 10.0
    """Weight with which the contrast's deviation from its curve adds to that, since motion doesn't explain it."""
    likeness: float = 0.45
    """Highest correlation of the pictures before and after a dissolve; above it, only the light has changed."""
    sag: float = 0.25
    """Least share of their contrast that pictures lose where a dissolve mixes them; they lose half of it where they
    have nothing in common."""
    refound: float = 0.83
    """Where pictures are found elsewhere in later ones with a higher correlation than this, the camera has moved: no
    dissolve."""
    plain: float = 4.0
    """Standard deviation, in grey levels, up to which a picture is plain, as in the middle of a fade."""
    returned: float = 0.5
    """A picture whose difference from an earlier one is below this share of the change in between has come back: no
    cut."""
    flash: float = 0.35
    """Seconds within which the picture comes back after a flash."""
    passing: float = 1.0
    """Seconds within which it comes back after something has passed in front of the camera."""


SEARCH_RATE = 12.0
"""Frames per second at which the start and end of a dissolve are searched for first."""
MIN_SPAN = 4
"""Least frames from the last one before a dissolve to the first one after it."""
DEFAULTS = CutSettings()


class CutFinder:
    """Finds shot boundaries. Memory and delay are bounded, whatever the film's length.

    Args:
        fps: frames per second, on average.
    """

    def __init__(self, fps: float, settings: CutSettings = DEFAULTS) -> None:
        self.fps, self.settings = float(fps), settings
        self._native = AdaptiveDetector(
            settings.ratio, min_scene_len=settings.min_frames, min_content_val=settings.content
        )
        self._slow = [_Level(rate, threshold, self.fps) for rate, threshold in settings.levels]
        self._signatures = deque[Signature]()
        self._times = deque[float]()
        self._first = 0
        """Index of the first remembered frame, from which other indices count."""
        self.decided = 0
        """Index of the frame up to which all cuts have been returned."""
        self._candidates: list[int] = []
        """Indices in the film of the hard cuts that the native level found and that aren't settled."""
        self._changes: list[tuple[int, int]] = []
        """Indices in the film of frames between which a slower level found a change."""
        self._next = 0.0
        """Time at which to judge next."""

    def add(self, frame: Frame) -> list[Cut]:
        """Take in the next frame. Returns the cuts that are settled by now."""
        self._signatures.append(signature(frame.small))
        self._times.append(frame.time)
        found = self._native.process_frame(FrameTimecode(frame.index, self.fps), frame.small)
        self._candidates += [timecode.frame_num for timecode in found]
        self._changes += [change for level in self._slow if (change := level.add(frame))]
        if frame.time < self._next:
            return []
        self._next = frame.time + self.settings.longest
        return self._settle(frame.time - self.settings.longest - self.settings.passing)

    def finish(self) -> list[Cut]:
        """The cuts that remain, once there are no more frames."""
        return self._settle(np.inf) if self._times else []

    def _settle(self, time: float) -> list[Cut]:
        """Judge the remembered frames, settle the cuts that end before `time`, and forget frames no longer needed.

        An unsettled cut keeps everything after its start unsettled too, since the next judgement may differ.
        """
        first, times, decided = self._first, np.array(self._times), self.decided - self._first
        judge = _Judge(Stretch(self._signatures), times, self.settings)
        cuts = judge.fades(opening=first == 0, over=time == np.inf)
        cuts += judge.hard_cuts([step - first for step in self._candidates], cuts)
        changes = [(before - first, after - first) for before, after in self._changes]
        cuts += judge.dissolves(changes, decided, cuts, max(1, round(self.fps / SEARCH_RATE)))
        limit = int(np.searchsorted(times, time)) if time < np.inf else len(times) + 1
        limit = min([limit, *(cut.start for cut in cuts if cut.end >= limit)])
        settled = sorted((cut for cut in cuts if cut.start >= decided and cut.end < limit), key=lambda cut: cut.start)
        self.decided = first + max(limit, decided)
        self._forget(times)
        return [Cut(first + cut.start, first + cut.end, cut.kind) for cut in settled]

    def _forget(self, times: NDArray[np.float64]) -> None:
        """Forget frames that no later judgement needs: all but two of the longest changes before the undecided ones."""
        oldest = times[min(self.decided - self._first, len(times) - 1)] - 2 * self.settings.longest
        count = int(np.searchsorted(times, oldest))
        for _ in range(count):
            self._signatures.popleft()
            self._times.popleft()
        self._first += count
        self._candidates = [step for step in self._candidates if step >= self.decided]
        self._changes = [change for change in self._changes if change[1] > self._first]


class _Level:
    """A slower level: examines frames at a lower rate, by the times at which they are shown."""

    def __init__(self, rate: float, threshold: float, fps: float) -> None:
        self._detector = ContentDetector(threshold, min_scene_len=0)
        self._pause = 1 / rate - 0.5 / fps
        self._fps = fps
        self._seen: tuple[int, float] | None = None
        """Index and time of the last examined frame."""

    def add(self, frame: Frame) -> tuple[int, int] | None:
        """The indices of the last examined frame and this one, if it is examined and differs."""
        if self._seen and frame.time - self._seen[1] < self._pause:
            return None
        seen, self._seen = self._seen, (frame.index, frame.time)
        changed = self._detector.process_frame(FrameTimecode(frame.index, self._fps), frame.small)
        return (seen[0], frame.index) if seen and changed else None


class _Judge:
    """Decides what happened in a stretch of frames. Indices count from its first.

    Args:
        times: of the frames, in seconds.
    """

    def __init__(self, stretch: Stretch, times: NDArray[np.float64], settings: CutSettings) -> None:
        self.stretch, self.times, self.settings = stretch, times, settings

    def fades(self, opening: bool, over: bool) -> list[Cut]:
        """Changes to a plain picture and back, in order.

        Plain frames that last longer than a fade may are a shot of their own, with a fade before it and one after it.

        Args:
            opening: whether the first frame is the film's first.
            over: whether the last is its last.
        """
        found, count = list[Cut](), len(self.times)
        runs = self._plain_runs()
        for index, (start, end) in enumerate(runs):
            out = self._fade_out(start, runs[index - 1][1] if index else 0)
            into = self._fade_in(end, runs[index + 1][0] if index + 1 < len(runs) else count)
            lasting = self.times[end - 1] - self.times[start] > self.settings.longest
            if lasting or (start == 0 and not opening):
                spans = [(out, start), (end, into)]
            elif out and into < count and self._comes_back(out - 1, into, self.settings.flash):
                spans = []
            else:
                spans = [(out, into)] if out < start or into > end or end == count else []
            found += [Cut(*span, "fade") for span in spans if span[0] < span[1]]
        return found

    def hard_cuts(self, candidates: Sequence[int], fades: Sequence[Cut]) -> list[Cut]:
        """The hard cuts of the native level that aren't a flash, part of a fade or a jerk within constant motion."""
        cuts = [Cut(step, step, "cut") for step in candidates if not any(f.start <= step <= f.end for f in fades)]
        return [
            cut
            for cut in cuts
            if self._stands_out(cut.start, candidates)
            and not self._comes_back(cut.start - 1, cut.start, self.settings.flash)
        ]

    def dissolves(
        self, changes: Sequence[tuple[int, int]], decided: int, others: Sequence[Cut], stride: int
    ) -> list[Cut]:
        """Changes from one picture to another through a mix of the two, the clearest first.

        Args:
            changes: pairs of frames between which something changed: every dissolve contains one.
            decided: no dissolve starts before this frame.
            others: cuts and fades, which dissolves don't overlap.
            stride: frames from one candidate for a start or end to the next.
        """
        found = list[Cut]()
        barriers, changed = np.zeros(len(self.times), int), np.zeros(len(self.times), int)
        barriers[: max(decided, 0) + 1] = 1
        for cut in others:
            barriers[cut.start : cut.end + 1] = 1
        for before, after in changes:
            changed[max(before, 0) + 1 : after + 1] = 1
        p, q = self._pairs(barriers.cumsum(), changed.cumsum(), stride)
        scores = self._scores(p, q)
        while scores.size and scores.max() > 0:
            best = int(scores.argmax())
            start, end = self._refined(int(p[best]), int(q[best]), barriers.cumsum(), stride)
            free = (q <= start) | (p >= end)
            moved = self.stretch.found_again(start, end) > self.settings.refound
            if moved or self._comes_back(start, end, self.settings.passing, barriers.cumsum()):
                free |= (q < (start + end) // 2) | (p > (start + end) // 2)
            else:
                found.append(Cut(start + 1, end, "dissolve"))
                barriers[start + 1 : end + 1] = 1
            free[best] = False  # wherever its refined pair lies: else the search might not end
            p, q, scores = p[free], q[free], scores[free]
        return found

    def _pairs(self, barriers: Indices, changed: Indices, stride: int) -> tuple[Indices, Indices]:
        """Frames before and after a possible dissolve: near enough, with a change and no barrier between them."""
        places = np.arange(0, len(self.times), stride)
        p, q = (each.ravel() for each in np.meshgrid(places, places, indexing="ij"))
        near = (q - p >= MIN_SPAN) & (self.times[q] - self.times[p] <= self.settings.longest)
        p, q = p[near], q[near]
        fit = (barriers[q] == barriers[p]) & (changed[q] > changed[p])
        return p[fit], q[fit]

    def _refined(self, p: int, q: int, barriers: Indices, stride: int) -> tuple[int, int]:
        """The best pair of frames that can be reached from a pair by steps of up to `stride`."""
        near = np.arange(-stride, stride + 1)
        while True:
            first, second = (each.ravel() for each in np.meshgrid(p + near, q + near, indexing="ij"))
            fit = (first >= 0) & (second < len(barriers)) & (second - first >= MIN_SPAN)
            first, second = first[fit], second[fit]
            fit = (barriers[first] == barriers[second]) & (
                self.times[second] - self.times[first] <= self.settings.longest
            )
            first, second = first[fit], second[fit]
            best = int(self._scores(first, second).argmax())
            if (first[best], second[best]) == (p, q):
                return p, q
            p, q = int(first[best]), int(second[best])

    def _scores(self, p: Indices, q: Indices) -> Numbers:
        """How much changes between p and q, less what a mix doesn't explain; above 0 for a possible dissolve."""
        mix, least = self.stretch.mix(p, q), self.settings
        fit = (mix.change >= least.change) & (mix.likeness <= least.likeness) & (mix.sag >= least.sag)
        misfit = mix.astray + least.contrast_weight * mix.uneven
        return np.where(fit, mix.change**2 * (1 - misfit / least.misfit), 0)

    def _fading(self, p: Indices, q: Indices) -> Numbers:
        """The same for half a fade, with fewer conditions, as a plain picture at one end says much already."""
        mix = self.stretch.mix(p, q)
        return mix.change**2 * (1 - (mix.astray + mix.uneven) / self.settings.misfit)

    def _plain_runs(self) -> list[tuple[int, int]]:
        """The first frame of each run of plain frames, and the one after its last."""
        plain = np.concatenate([[False], self.stretch.contrast <= self.settings.plain**2, [False]])
        edges = np.flatnonzero(plain[1:] != plain[:-1])
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))

    def _fade_out(self, plain: int, floor: int) -> int:
        """The first frame of the fade-out that ends at `plain` and starts after `floor`; `plain` if there is none."""
        earliest = int(np.searchsorted(self.times, self.times[plain] - self.settings.longest))
        p = np.arange(max(earliest, floor), plain - 1)
        scores = self._fading(p, np.full_like(p, plain))
        return int(p[scores.argmax()]) + 1 if scores.size and scores.max() > 0 else plain

    def _fade_in(self, picture: int, ceiling: int) -> int:
        """The first frame after the fade-in that is under way at `picture`; `picture` if there is none."""
        latest = int(np.searchsorted(self.times, self.times[picture - 1] + self.settings.longest))
        q = np.arange(picture + 1, min(latest, ceiling))
        scores = self._fading(np.full_like(q, picture - 1), q)
        return int(q[scores.argmax()]) if scores.size and scores.max() > 0 else picture

    def _stands_out(self, step: int, candidates: Sequence[int]) -> bool:
        """Whether more changes here than between frames around it, other candidates aside.

        Where frames are repeated, the native level's mean over few of them says little.
        """
        start, end = np.searchsorted(self.times, self.times[step] + np.array([-1, 1]) * self.settings.neighbourhood)
        frames = np.setdiff1d(np.arange(max(start, 1), end), candidates)
        others = self.stretch.difference(frames - 1, frames)
        return bool(self.stretch.difference(step - 1, step) >= self.settings.prominence * others.max(initial=0))

    def _comes_back(self, before: int, after: int, seconds: float, barriers: Indices | None = None) -> bool:
        """Whether the picture soon comes back to what it was, as after a flash or something that passed by.

        Args:
            barriers: how many there are up to each frame; no comparison crosses one.
        """
        start = int(np.searchsorted(self.times, self.times[before] - seconds))
        end = int(np.searchsorted(self.times, self.times[after] + seconds, "right"))
        if barriers is not None:
            start = max(start, int(np.searchsorted(barriers, barriers[before])))
            end = min(end, int(np.searchsorted(barriers, barriers[after], "right")))
        nearest = self.stretch.difference(slice(start, before + 1), slice(after, end)).min()
        return bool(nearest < self.settings.returned * self.stretch.difference(before, after))
