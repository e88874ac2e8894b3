"""The drawing styles, and the colours that sprites come in.

A style paints from distances: an outline is a band around zero, a neon glow decays with the distance. Textures are
fixed to the picture, with periods that divide 8 pixels.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from models.sprite.world.shapes import Array, cover, mix, rgb, union

HUES: dict[str, tuple[float, float, float]] = {  # hue in degrees, saturation, value
    "red": (0, 0.88, 0.86),
    "orange": (27, 0.95, 0.98),
    "yellow": (53, 0.9, 0.98),
    "green": (125, 0.75, 0.62),
    "teal": (175, 0.8, 0.78),
    "blue": (222, 0.85, 0.9),
    "purple": (275, 0.72, 0.76),
    "pink": (328, 0.5, 1.0),
}
COLOURS = tuple(HUES)
_CELL = 8
"""Side of a halftone cell and of a mosaic tile in pixels."""


@dataclass(frozen=True)
class Layers:
    """A painter's input: distances in pixels, the scenery, the sprite's colour, pixel coordinates."""

    body: Array
    detail: Array
    scenery: Array
    colour: Array
    px: Array
    py: Array

    @property
    def light(self) -> Array:
        return self.colour + (1 - self.colour) * np.float32(0.72)

    @property
    def dark(self) -> Array:
        return self.colour * np.float32(0.35)


def _flat(at: Layers) -> Array:
    picture = mix(at.scenery, at.dark, cover(at.body - 1))
    picture = mix(picture, at.colour, cover(at.body))
    return mix(picture, at.light, cover(np.maximum(at.detail, at.body)))


def _outline(at: Layers) -> Array:
    paper = rgb(0.98, 0.97, 0.94)
    picture = mix(at.scenery, paper, 0.68)
    picture = mix(picture, paper, cover(at.body))
    line = union(np.abs(at.body) - 1.3, np.maximum(np.abs(at.detail) - 0.7, at.body))
    return mix(picture, at.colour, cover(line))


def _watercolour(at: Layers) -> Array:
    paper = rgb(1, 0.98, 0.94)
    grain = 0.5 + 0.25 * np.sin(at.px / 5.1 + 0.7 * np.sin(at.py / 6.3)) + 0.25 * np.sin(at.py / 4.3)
    picture = mix(at.scenery, paper, 0.2 + 0.35 * grain)
    wash = mix(at.colour, at.light, 0.15 + 0.35 * grain)
    picture = mix(picture, wash, cover(at.body, 6) * 0.95)
    rim = np.exp(-np.square(at.body + 1.5) / 3).astype(np.float32)
    picture = mix(picture, at.colour, rim * 0.6)
    return mix(picture, paper, cover(np.maximum(at.detail, at.body), 4) * 0.7)


def _crayon(at: Layers) -> Array:
    paper = rgb(0.97, 0.94, 0.86)
    stroke = np.abs(np.mod(at.px + at.py, 4) - 2) < 1
    back = np.abs(np.mod(at.px - at.py, 8) - 4) < 2.5
    picture = mix(paper, at.scenery, np.where(back, 0.85, 0.35))
    picture = mix(picture, paper, cover(at.body))
    picture = mix(picture, at.colour, cover(at.body) * np.where(stroke, 1.0, 0.3))
    picture = mix(picture, at.dark, cover(np.abs(at.body) - 0.8) * 0.85)
    return mix(picture, at.dark, cover(np.maximum(np.abs(at.detail) - 0.6, at.body)) * 0.7)


def _neon(at: Layers) -> Array:
    picture = at.scenery * np.float32(0.28)
    glow = np.exp(-np.maximum(at.body, 0) / 4) * 0.75 * cover(-at.body) + 0.25 * cover(at.body)
    picture = picture + glow[..., None].astype(np.float32) * at.colour
    tube = union(np.abs(at.body) - 1.0, np.maximum(np.abs(at.detail) - 0.6, at.body))
    picture = mix(picture, at.colour + (1 - at.colour) * np.float32(0.25), cover(tube))
    lit: Array = np.minimum(picture, 1)
    return lit


def _pixel(at: Layers) -> Array:
    """Hard edges and few shades; `draw` samples the same point throughout a block."""
    picture = np.where((at.body < 0)[..., None], at.colour, at.scenery)
    picture = np.where((np.abs(at.body) < 1.2)[..., None], at.dark, picture)
    picture = np.where((np.maximum(at.detail, at.body + 1.2) < 0)[..., None], at.light, picture)
    return np.round(picture * 5) / 5


def _halftone(at: Layers) -> Array:
    """The scenery as dots of ink on paper, larger where it is darker, and the figure printed over them."""
    ink = 1 - at.scenery.mean(axis=-1)
    cell = np.hypot(np.mod(at.px, _CELL) - _CELL / 2, np.mod(at.py, _CELL) - _CELL / 2)
    dots = cover(cell - (1.2 + 4 * ink), 1.5)
    return _flat(replace(at, scenery=mix(rgb(1, 0.99, 0.93), at.scenery * np.float32(0.82), dots)))


def _mosaic(at: Layers) -> Array:
    """Square tiles, some lighter and some darker, and a dark line around the figure."""
    picture = mix(at.scenery, at.colour, cover(at.body))
    picture = mix(picture, at.light, cover(np.maximum(at.detail, at.body)))
    column, row = np.floor(at.px / _CELL), np.floor(at.py / _CELL)
    tint = np.mod(np.sin(column * 12.9 + row * 78.2) * 43.7, 1).astype(np.float32) - 0.5
    tiled = mix(mix(picture, rgb(1, 1, 1), np.maximum(tint, 0)), rgb(0, 0, 0), np.maximum(-tint, 0))
    return mix(tiled, at.dark, cover(np.abs(at.body) - 1.2))


Painter = Callable[[Layers], Array]
STYLE_PAINTERS: dict[str, Painter] = {
    "flat": _flat,
    "outline": _outline,
    "pixel": _pixel,
    "watercolour": _watercolour,
    "crayon": _crayon,
    "neon": _neon,
    "halftone": _halftone,
    "mosaic": _mosaic,
}
HELD_OUT_STYLES = ("neon", "halftone", "mosaic")
BASE_STYLES = tuple(name for name in STYLE_PAINTERS if name not in HELD_OUT_STYLES)
STYLES = tuple(STYLE_PAINTERS)
PIXEL = 2
"""Side of a block in pixel style."""


def colour(name: str, tint: float) -> Array:
    """RGB in [0, 1] of a colour, with its hue shifted by `tint` degrees."""
    hue, saturation, value = HUES[name]
    return rgb(*colorsys.hsv_to_rgb(((hue + tint) % 360) / 360, saturation, value))
