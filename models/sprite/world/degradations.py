"""Degradations of footage, applied on purpose and by a known amount: the ground truth of curation.

Clips are (frames, height, width, 3) uint8. Nothing is changed in place. Strengths are in the usual units of each kind,
and scale with the picture where the eye does so too: the same strength spoils any size equally.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from models.sprite.world.chance import pick
from models.sprite.world.scenes import SIZE

Frames = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; the right and bottom edges are outside."""

_WORDS = ("SALE", "LIVE", "NEWS", "VOL 3", "PART 2", "HELLO", "EPISODE", "SUBSCRIBE", "BEST OF", "@KINO", "THE END")


def blurred(frames: Frames, radius: float) -> Frames:
    """Out of focus: a Gaussian with a standard deviation of `radius` pixels at a height of 64."""
    soften = ImageFilter.GaussianBlur(radius * frames.shape[1] / SIZE)
    return np.stack([np.asarray(Image.fromarray(frame).filter(soften)) for frame in frames])


def noisy(frames: Frames, deviation: float, rng: np.random.Generator) -> Frames:
    """Sensor noise: a Gaussian with that standard deviation in grey levels, new in every frame."""
    noise = rng.standard_normal(frames.shape, np.float32) * np.float32(deviation)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def exposed(frames: Frames, stops: float) -> Frames:
    """Over- or underexposed: twice as bright for each stop; values out of range are clipped and lost."""
    lit: Frames = np.clip(np.rint(frames * np.float32(2.0**stops)), 0, 255).astype(np.uint8)
    return lit


def overlaid(frames: Frames, size: float, rng: np.random.Generator) -> tuple[Frames, tuple[Box, ...]]:
    """Titles burnt in: one to three lines of white or black text whose letters are `size` of the picture's height.

    Returns the frames and a box around the ink of each line; a line that would cover another is left out. Raises
    ValueError if no word fits in the picture.
    """
    height, width = frames.shape[1:3]
    font = ImageFont.load_default(max(6, size * height))
    plate, boxes = Image.new("L", (width, height)), list[Box]()
    brush = ImageDraw.Draw(plate)
    extents = {text: brush.textbbox((0, 0), text, font=font) for text in _WORDS}
    fitting = [text for text, (x0, y0, x1, y1) in extents.items() if x1 - x0 <= width and y1 - y0 <= height]
    if not fitting:
        raise ValueError(f"letters of {size:.0%} of the height are too large for a picture of {width}×{height} pixels")
    for _ in range(rng.integers(1, 4)):
        text = pick(rng, fitting)
        left, top, right, bottom = map(int, extents[text])
        x, y = int(rng.integers(width - (right - left) + 1)), int(rng.integers(height - (bottom - top) + 1))
        box = (x, y, x + right - left, y + bottom - top)
        if not any(_overlap(box, other) for other in boxes):
            brush.text((x - left, y - top), text, fill=255, font=font)
            boxes.append(box)
    ink = np.asarray(plate, np.float32)[..., None] / 255
    light = 255.0 if (frames * ink).sum() < 128 * len(frames) * 3 * ink.sum() else 0.0  # to stand out
    return np.rint(frames + (light - frames) * ink).astype(np.uint8), tuple(boxes)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def text_area(boxes: tuple[Box, ...], frames: Frames) -> float:
    """The share of the picture that lies in boxes, which don't overlap."""
    area: int = frames.shape[1] * frames.shape[2]
    return sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) / area


def still(frames: Frames) -> Frames:
    """A frozen clip: the first frame for the same duration."""
    return np.broadcast_to(frames[:1], frames.shape).copy()


@dataclass(frozen=True)
class Degradation:
    """One kind of fault and its strength, from 0, none, to 1, hardly worth looking at."""

    kind: str
    strength: float

    def __call__(self, frames: Frames, rng: np.random.Generator) -> Frames:
        return DEGRADATIONS[self.kind](frames, self.strength, rng)


DEGRADATIONS: Mapping[str, Callable[[Frames, float, np.random.Generator], Frames]] = {
    "blur": lambda frames, strength, rng: blurred(frames, 4 * strength),
    "noise": lambda frames, strength, rng: noisy(frames, 80 * strength, rng),
    "overexposure": lambda frames, strength, rng: exposed(frames, 2 * strength),
    "underexposure": lambda frames, strength, rng: exposed(frames, -3 * strength),
    "text": lambda frames, strength, rng: overlaid(frames, 0.12 + 0.1 * strength, rng)[0] if strength else frames,
}


def random_degradation(rng: np.random.Generator, weakest: float = 0.3) -> Degradation:
    """A degradation of any kind, with a strength from `weakest` to 1."""
    return Degradation(pick(rng, tuple(DEGRADATIONS)), float(rng.uniform(weakest, 1)))
