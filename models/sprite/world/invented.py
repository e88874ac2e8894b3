"""Figures and styles without a name of ours: every made-up word has its own, composed by chance.

A base model that knows a dozen words by heart draws nothing else, and no LoRA can teach it; one that has also drawn
thousands of unnamed figures in unnamed styles can draw at large, as the models of this world's big sisters do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.sprite.world.shapes import Array, box, cover, cut, disc, ellipse, mix, polygon, segment, union
from models.sprite.world.styles import STYLE_PAINTERS, Layers, Painter
from models.sprite.world.subjects import FIGURES, Figure

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def invented_word(rng: np.random.Generator) -> str:
    """A word of two or three syllables that names nothing in this world."""
    syllables = int(rng.integers(2, 4))
    word = "".join(str(rng.choice(list(letters))) for _ in range(syllables) for letters in (_CONSONANTS, _VOWELS))
    return invented_word(rng) if word in FIGURES or word in STYLE_PAINTERS else word


def figure(name: str) -> Figure:
    """The named figure, or for any other word the one that it alone stands for."""
    return FIGURES.get(name) or _composed(_chance(name))


def painter(name: str) -> Painter:
    """The named style's painter, or for any other word the one that it alone stands for."""
    return STYLE_PAINTERS.get(name) or _Manner.by_chance(_chance(name))


def _chance(word: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(word.encode()))


def _composed(rng: np.random.Generator) -> Figure:
    """Two to four simple shapes for the body, one or two for the detail, often the same on both sides."""
    mirrored = rng.random() < 0.6
    body = [_part(rng, 0.45, 0.25, 0.7), *(_part(rng, 0.7, 0.12, 0.5) for _ in range(rng.integers(1, 4)))]
    holes = [_part(rng, 0.4, 0.08, 0.2) for _ in range(rng.integers(0, 2))]
    detail = [_part(rng, 0.45, 0.08, 0.26) for _ in range(rng.integers(1, 3))]

    def distances(x: Array, y: Array) -> tuple[Array, Array]:
        side = np.abs(x) if mirrored else x
        whole = cut(union(*(part(side, y) for part in body)), *(hole(side, y) for hole in holes))
        return whole, union(*(part(side, y) for part in detail))

    return _fitted(distances)


def _fitted(shape: Figure) -> Figure:
    """The same figure, moved and scaled to fill about the unit disc as the named ones do."""
    axis = np.linspace(-2, 2, 41, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    inside = shape(x, y)[0] < 0
    if inside.sum() < 20:  # its holes have eaten it
        return lambda x, y: (disc(x, y, 0, 0, 0.8), disc(x, y, 0, 0, 0.3))
    cx, cy = (float(v[inside].max() + v[inside].min()) / 2 for v in (x, y))
    scale = float(np.hypot(x - cx, y - cy)[inside].max()) / 0.95

    def fitted(x: Array, y: Array) -> tuple[Array, Array]:
        body, detail = shape(x * scale + cx, y * scale + cy)
        return body / scale, detail / scale

    return fitted


def _part(rng: np.random.Generator, reach: float, smallest: float, largest: float) -> Callable[[Array, Array], Array]:
    """A disc, ellipse, box, triangle or bar, at most `reach` from the middle."""
    cx, cy = rng.uniform(-reach, reach, 2)
    rx, ry = rng.uniform(smallest, largest, 2)
    turn = rng.uniform(0, 2 * np.pi)
    corners = [(cx + rx * np.cos(turn + a), cy + ry * np.sin(turn + a)) for a in (0, 2.1, 4.2)]
    end = (cx + 2 * rx * np.cos(turn), cy + 2 * ry * np.sin(turn))
    shapes: tuple[Callable[[Array, Array], Array], ...] = (
        lambda x, y: disc(x, y, cx, cy, rx),
        lambda x, y: ellipse(x, y, cx, cy, rx, ry),
        lambda x, y: box(x, y, cx, cy, rx, ry),
        lambda x, y: polygon(x, y, *corners),
        lambda x, y: segment(x, y, (cx, cy), end, max(0.08, ry / 3)),
    )
    return shapes[int(rng.integers(len(shapes)))]


@dataclass(frozen=True)
class _Manner:
    """A style composed by chance: what becomes of the scenery, the fill, its texture, the line and the glow.

    Dark scenery and a glow never meet, for that is neon, which is held out.
    """

    paper: Array
    veil: float
    fill: str
    fill_cover: float
    softness: float
    texture: str
    depth: float
    line: str
    line_width: float
    glow: float
    detail: str

    @classmethod
    def by_chance(cls, rng: np.random.Generator) -> _Manner:
        dark = rng.random() < 0.35
        light = rng.uniform(0.85, 1, 3).astype(np.float32)
        fill, line = (str(rng.choice(["colour", "light", "dark", "paper"])) for _ in range(2))
        if fill != "colour":  # the colour is to be seen
            line = "colour"
        return cls(
            paper=light * np.float32(rng.uniform(0.05, 0.2)) if dark else light,
            veil=float(rng.uniform(0, 0.8)),
            fill=fill,
            fill_cover=float(rng.choice([0.6, 0.8, 1.0] if fill == "colour" else [0.0, 0.4, 0.8, 1.0])),
            softness=float(rng.choice([1.0, 3.0, 6.0])),
            texture=str(rng.choice(["none", "none", "stripes", "hatching", "dots", "grain"])),
            depth=float(rng.uniform(0.3, 0.8)),
            line=line,
            line_width=float(rng.choice([0.8, 1.3, 2.0, 0.0] if fill == "colour" else [0.8, 1.3, 2.0])),
            glow=0.0 if dark or rng.random() < 0.6 else float(rng.uniform(2, 5)),
            detail=str(rng.choice(["colour", "light", "dark", "paper"])),
        )

    def __call__(self, at: Layers) -> Array:
        inks = {"colour": at.colour, "light": at.light, "dark": at.dark, "paper": self.paper}
        picture = mix(at.scenery, self.paper, self.veil)
        if self.glow:
            picture = mix(picture, at.light, np.exp(-np.maximum(at.body, 0) / self.glow) * 0.8)
        texture = 1 - self.depth * self._texture(at)
        picture = mix(picture, inks[self.fill], cover(at.body, self.softness) * self.fill_cover * texture)
        picture = mix(picture, inks[self.detail], cover(np.maximum(at.detail, at.body)))
        if self.line_width:
            picture = mix(picture, inks[self.line], cover(np.abs(at.body) - self.line_width))
        return picture

    def _texture(self, at: Layers) -> Array:
        match self.texture:
            case "stripes":
                return (np.mod(at.py, 4) < 2).astype(np.float32)
            case "hatching":
                return (np.mod(at.px + at.py, 8) < 4).astype(np.float32)
            case "dots":
                return cover(np.hypot(np.mod(at.px, 8) - 4, np.mod(at.py, 8) - 4) - 2.5)
            case "grain":
                return (0.5 + 0.5 * np.sin(at.px / 3.1 + np.sin(at.py / 4.3))).astype(np.float32)
            case _:
                return np.zeros_like(at.px)
