"""The backgrounds: a colour at every point of an endless plane, in pixels, y down, the horizon near 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.sprite.world.shapes import Array, box, cover, cut, disc, ellipse, mix, rgb, union


def _sky(x: Array, y: Array) -> Array:
    picture = mix(rgb(0.42, 0.68, 0.95), rgb(0.78, 0.9, 1.0), np.clip((y + 32) / 64, 0, 1))
    column = np.mod(x, 44) - 22
    cloud = union(
        ellipse(column, y, 0, -16, 11, 4.5), ellipse(column, y, -4, -19, 6, 4), ellipse(column, y, 15, 14, 7, 3.5)
    )
    return mix(picture, rgb(1, 1, 1), cover(cloud, 1.5))


def _beach(x: Array, y: Array) -> Array:
    sea = mix(rgb(0.2, 0.55, 0.8), rgb(0.1, 0.7, 0.78), np.clip((y + 32) / 40, 0, 1))
    sea = mix(sea, rgb(0.75, 0.93, 0.97), cover(np.abs(np.mod(y + 1.5 * np.sin(x / 3.5), 9) - 4.5) - 0.4))
    shore = 8 + 2 * np.sin(x / 9)
    picture = mix(sea, rgb(0.94, 0.84, 0.58), cover(shore - y))
    return mix(picture, rgb(1, 0.99, 0.95), cover(np.abs(y - shore) - 1))


def _meadow(x: Array, y: Array) -> Array:
    hill = 2 + 4 * np.sin(x / 11)
    picture = mix(rgb(0.85, 0.94, 0.86), rgb(0.45, 0.76, 0.36), cover(hill - y))
    blade = np.abs(np.mod(x + 2 * np.floor(y / 8), 8) - 4) - 0.7
    tuft = np.maximum(blade, np.abs(np.mod(y, 8) - 4) - 2)
    return mix(picture, rgb(0.25, 0.55, 0.2), cover(np.maximum(tuft, hill + 4 - y)))


def _night(x: Array, y: Array) -> Array:
    picture = mix(rgb(0.05, 0.05, 0.2), rgb(0.16, 0.12, 0.36), np.clip((y + 32) / 64, 0, 1))
    stars = union(
        *(disc(np.mod(x - a, 32) - 16, np.mod(y - b, 32) - 16, 0, 0, 0.9) for a, b in ((3, 5), (19, 14), (10, 25)))
    )
    picture = mix(picture, rgb(1, 1, 0.85), cover(stars))
    column = np.mod(x + 32, 96) - 52
    moon = cut(disc(column, y, 22, -20, 7), disc(column, y, 18, -22, 6))
    return mix(picture, rgb(1, 0.96, 0.7), cover(moon))


def _snow(x: Array, y: Array) -> Array:
    picture = mix(rgb(0.66, 0.72, 0.8), rgb(0.8, 0.84, 0.9), np.clip((y + 32) / 40, 0, 1))
    picture = mix(picture, rgb(0.97, 0.98, 1), cover(10 + 3 * np.sin(x / 8 + 1) - y))
    flakes = union(
        *(disc(np.mod(x - a, 20) - 10, np.mod(y - b, 20) - 10, 0, 0, 1.2) for a, b in ((2, 3), (12, 9), (7, 16)))
    )
    return mix(picture, rgb(1, 1, 1), cover(flakes))


def _wall(x: Array, y: Array) -> Array:
    row = np.floor(y / 8)
    brick = box(np.mod(x + 8 * np.mod(row, 2), 16) - 8, np.mod(y, 8) - 4, 0, 0, 7.3, 3.3)
    return mix(rgb(0.82, 0.78, 0.72), rgb(0.66, 0.42, 0.34), cover(brick))


SCENERIES: dict[str, Callable[[Array, Array], Array]] = {
    "sky": _sky,
    "beach": _beach,
    "meadow": _meadow,
    "night": _night,
    "snow": _snow,
    "wall": _wall,
}
BACKGROUNDS = tuple(SCENERIES)
