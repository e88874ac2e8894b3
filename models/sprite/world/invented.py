"""Figures and styles for made-up words: each word has its own, randomly composed.

A base model that knows only a dozen words draws nothing else, and no LoRA can teach it; one that has also drawn
thousands of made-up figures in made-up styles can draw in general, as large models do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.sprite.world.chance import pick
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
    """The named figure, or for any other word a figure of its own."""
    return FIGURES.get(name) or _composed(_chance(name))


def painter(name: str) -> Painter:
    """The named style's painter, or for any other word a painter of its own."""
    return STYLE_PAINTERS.get(name) or _Manner.by_chance(_chance(name))


def _chance(word: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(word.encode()))


def _composed(rng: np.random.Generator) -> Figure:
    """Two to five simple shapes for the body, one to three for the detail, often the same on both sides."""
    mirrored = rng.random() < 0.6
    body = [_part(rng, 0.45, 0.25, 0.7), *(_part(rng, 0.7, 0.1, 0.5) for _ in range(rng.integers(1, 5)))]
    holes = [_part(rng, 0.4, 0.08, 0.2) for _ in range(rng.integers(0, 2))]
    detail = [_part(rng, 0.45, 0.07, 0.26) for _ in range(rng.integers(1, 4))]

    def distances(x: Array, y: Array) -> tuple[Array, Array]:
        side = np.abs(x) if mirrored else x
        whole = cut(union(*(part(side, y) for part in body)), *(hole(side, y) for hole in holes))
        return whole, union(*(part(side, y) for part in detail))

    return _fitted(distances)


def _fitted(shape: Figure) -> Figure:
    """The same figure, moved and scaled to roughly fill the unit disc, as the named ones do."""
    axis = np.linspace(-2, 2, 41, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    inside = shape(x, y)[0] < 0
    if inside.sum() < 20:  # its holes have removed it
        return lambda x, y: (disc(x, y, 0, 0, 0.8), disc(x, y, 0, 0, 0.3))
    cx, cy = (float(v[inside].max() + v[inside].min()) / 2 for v in (x, y))
    scale = float(np.hypot(x - cx, y - cy)[inside].max()) / 0.95

    def fitted(x: Array, y: Array) -> tuple[Array, Array]:
        body, detail = shape(x * scale + cx, y * scale + cy)
        return body / scale, detail / scale

    return fitted


def _part(rng: np.random.Generator, reach: float, smallest: float, largest: float) -> Callable[[Array, Array], Array]:
    """A disc, ellipse, box, triangle or bar at most `reach` from the middle, sometimes cut off straight."""
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
    shape = shapes[int(rng.integers(len(shapes)))]
    if rng.random() >= 0.3:
        return shape
    side = rng.integers(4) * np.pi / 2 if rng.random() < 0.7 else turn
    nx, ny, offset = np.cos(side), np.sin(side), rng.uniform(-0.2, 0.5) * min(rx, ry)
    return lambda x, y: np.maximum(shape(x, y), (x - cx) * nx + (y - cy) * ny - offset)


_TEXTURES: dict[str, Callable[[Array, Array, float], Array]] = {
    "stripes": lambda x, y, period: (np.mod(y, period) < period / 2).astype(np.float32),
    "columns": lambda x, y, period: (np.mod(x, period) < period / 2).astype(np.float32),
    "hatching": lambda x, y, period: (np.mod(x + y, period) < period / 2).astype(np.float32),
    "dots": lambda x, y, period: cover(
        np.hypot(np.mod(x, period) - period / 2, np.mod(y, period) - period / 2) - period / 3
    ),
    "checks": lambda x, y, period: ((np.mod(x, period) < period / 2) ^ (np.mod(y, period) < period / 2)).astype(
        np.float32
    ),
    "waves": lambda x, y, period: (0.5 + 0.5 * np.sin(2 * np.pi * (y + 2 * np.sin(x / 4)) / period)).astype(np.float32),
    "grain": lambda x, y, period: (0.5 + 0.5 * np.sin(x / 3.1 + np.sin(y / 4.3))).astype(np.float32),
}
"""Patterns from 0 to 1 that repeat across a picture, as functions of pixel and period."""


@dataclass(frozen=True)
class _Texture:
    """A pattern, applied with an ink."""

    pattern: str
    period: float
    depth: float
    ink: str

    @classmethod
    def by_chance(cls, rng: np.random.Generator) -> _Texture:
        return cls(
            pattern=pick(rng, tuple(_TEXTURES)),
            period=float(rng.choice([4.0, 8.0, 8.0, 16.0])),
            depth=float(rng.uniform(0.25, 0.8)),
            ink=pick(rng, ("paper", "light", "dark", "black", "white")),
        )

    def __call__(self, picture: Array, at: Layers, inks: dict[str, Array]) -> Array:
        return mix(picture, inks[self.ink], self.depth * _TEXTURES[self.pattern](at.px, at.py, self.period))


@dataclass(frozen=True)
class _Manner:
    """A randomly composed style: how it treats the scenery, the fill, their textures, the line and the glow.

    Dark scenery and a glow never occur together, which would be neon; no pattern follows the light of the scenery, as
    halftone does, or differs from cell to cell, as mosaic does: those are held out.
    """

    paper: Array
    tone: str
    veil: float
    ground: _Texture | None
    fill: str
    fill_cover: float
    softness: float
    texture: _Texture | None
    line: str
    line_width: float
    glow: float
    detail: str
    over_all: _Texture | None

    @classmethod
    def by_chance(cls, rng: np.random.Generator) -> _Manner:
        dark = rng.random() < 0.35
        light = rng.uniform(0.8, 1, 3).astype(np.float32)
        fill, line = (pick(rng, ("colour", "light", "dark", "paper")) for _ in range(2))
        if fill != "colour":  # the colour must be seen
            line = "colour"
        return cls(
            paper=light * np.float32(rng.uniform(0.05, 0.2)) if dark else light,
            tone=pick(rng, ("own", "own", "grey", "stark", "flat")),
            veil=float(rng.uniform(0, 0.8)),
            ground=_Texture.by_chance(rng) if rng.random() < 0.5 else None,
            fill=fill,
            fill_cover=float(rng.choice([0.7, 0.9, 1.0] if fill == "colour" else [0.0, 0.4, 0.8, 1.0])),
            softness=float(rng.choice([1.0, 1.0, 3.0, 6.0])),
            texture=_Texture.by_chance(rng) if rng.random() < 0.4 else None,
            line=line,
            line_width=float(rng.choice([0.8, 1.3, 2.0, 0.0] if fill == "colour" else [0.8, 1.3, 2.0])),
            glow=0.0 if dark or rng.random() < 0.6 else float(rng.uniform(2, 5)),
            detail=pick(rng, ("colour", "light", "dark", "paper")),
            over_all=_Texture.by_chance(rng) if rng.random() < 0.15 else None,
        )

    def __call__(self, at: Layers) -> Array:
        inks = {"colour": at.colour, "light": at.light, "dark": at.dark, "paper": self.paper, **_INKS}
        picture = mix(_toned(at.scenery, self.tone), self.paper, self.veil)
        if self.ground:
            picture = self.ground(picture, at, inks)
        if self.glow:
            picture = mix(picture, at.light, np.exp(-np.maximum(at.body, 0) / self.glow) * 0.8)
        filling = np.broadcast_to(inks[self.fill], picture.shape)
        if self.texture:
            filling = self.texture(filling, at, inks)
        picture = mix(picture, filling, cover(at.body, self.softness) * self.fill_cover)
        picture = mix(picture, inks[self.detail], cover(np.maximum(at.detail, at.body)))
        if self.line_width:
            picture = mix(picture, inks[self.line], cover(np.abs(at.body) - self.line_width))
        return self.over_all(picture, at, inks) if self.over_all else picture


_INKS = {"black": np.zeros(3, np.float32), "white": np.ones(3, np.float32)}


def _toned(scenery: Array, tone: str) -> Array:
    """The scenery in its own colours, in greys, in few and stark ones, or with little contrast."""
    match tone:
        case "grey":
            return np.broadcast_to(scenery.mean(-1, keepdims=True), scenery.shape)
        case "stark":
            return np.round(scenery * 2) / np.float32(2)
        case "flat":
            flat: Array = np.float32(0.35) * scenery + np.float32(0.65) * scenery.mean((0, 1))
            return flat
        case _:
            return scenery
