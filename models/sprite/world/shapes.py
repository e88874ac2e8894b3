"""Drawing primitives: signed distances (negative inside), antialiased coverage and the mixing of colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Of single precision as a rule; numbers drawn at random are double, and make what they are added to double."""


def disc(x: Array, y: Array, cx: float, cy: float, r: float) -> Array:
    distance: Array = np.hypot(x - cx, y - cy) - np.float32(r)
    return distance


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Not Euclidean far away, but exact in sign and close to it near the edge, which is all that drawing needs."""
    u, v = (x - cx) / rx, (y - cy) / ry
    k = np.hypot(u, v)
    distance: Array = (k - 1) * k / np.maximum(np.hypot(u / rx, v / ry), 1e-3)
    return distance


def box(x: Array, y: Array, cx: float, cy: float, hx: float, hy: float) -> Array:
    dx, dy = np.abs(x - cx) - hx, np.abs(y - cy) - hy
    distance: Array = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)
    return distance


def polygon(x: Array, y: Array, *corners: tuple[float, float]) -> Array:
    """A convex polygon, corners counter-clockwise."""
    distance = np.full_like(x, -np.inf)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = np.hypot(bx - ax, by - ay)
        distance = np.maximum(distance, ((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / length)
    return distance.astype(np.float32)


def segment(x: Array, y: Array, a: tuple[float, float], b: tuple[float, float], r: float) -> Array:
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    distance: Array = np.hypot(x - a[0] - t * dx, y - a[1] - t * dy) - np.float32(r)
    return distance


def union(*distances: Array) -> Array:
    nearest: Array = np.minimum.reduce(distances)
    return nearest


def cut(distance: Array, *holes: Array) -> Array:
    rest: Array = np.maximum.reduce([distance, *(-hole for hole in holes)])
    return rest


def rgb(*channels: float) -> Array:
    return np.array(channels, np.float32)


def mix(a: Array, b: Array, weight: Array | float) -> Array:
    weight = np.asarray(weight, np.float32)
    return a + (b - a) * (weight[..., None] if weight.ndim else weight)


def cover(distance: Array, softness: float = 1.0) -> Array:
    """How much of a pixel is inside, from a distance in pixels: the antialiased fill."""
    inside: Array = np.clip(0.5 - distance / softness, 0, 1).astype(np.float32)
    return inside
