"""The subjects, as (body, detail) distances on a plane where a figure roughly fills the unit disc, y up.

The detail (an eye, a window, a sail) is what a style sets off from the body.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.sprite.world.shapes import Array, box, disc, ellipse, polygon, segment, union

Figure = Callable[[Array, Array], tuple[Array, Array]]


def _fish(x: Array, y: Array) -> tuple[Array, Array]:
    body = ellipse(x, y, 0.2, 0, 0.68, 0.45)
    tail = union(
        polygon(x, y, (-0.3, 0), (-0.95, 0.52), (-0.78, 0)), polygon(x, y, (-0.3, 0), (-0.78, 0), (-0.95, -0.52))
    )
    fin = polygon(x, y, (0.3, 0.35), (-0.05, 0.8), (-0.15, 0.35))
    return union(body, tail, fin), disc(x, y, 0.52, 0.12, 0.14)


def _cat(x: Array, y: Array) -> tuple[Array, Array]:
    head = ellipse(x, y, 0, -0.15, 0.75, 0.62)
    ears = union(
        polygon(x, y, (-0.72, 0.05), (-0.2, 0.35), (-0.68, 0.95)),
        polygon(x, y, (0.72, 0.05), (0.68, 0.95), (0.2, 0.35)),
    )
    eyes = union(disc(x, y, -0.3, -0.02, 0.15), disc(x, y, 0.3, -0.02, 0.15))
    return union(head, ears), union(eyes, segment(x, y, (-0.2, -0.42), (0.2, -0.42), 0.07))


def _house(x: Array, y: Array) -> tuple[Array, Array]:
    walls = box(x, y, 0, -0.4, 0.62, 0.45)
    roof = polygon(x, y, (-0.9, 0.02), (0.9, 0.02), (0, 0.88))
    return union(walls, roof), union(box(x, y, 0.02, -0.55, 0.16, 0.3), disc(x, y, 0, 0.32, 0.14))


def _boat(x: Array, y: Array) -> tuple[Array, Array]:
    hull = polygon(x, y, (-0.55, -0.75), (0.55, -0.75), (0.95, -0.25), (-0.95, -0.25))
    mast = segment(x, y, (0, -0.3), (0, 0.9), 0.06)
    sail = polygon(x, y, (0.12, -0.12), (0.75, -0.12), (0.12, 0.85))
    jib = polygon(x, y, (-0.12, -0.12), (-0.12, 0.6), (-0.55, -0.12))
    return union(hull, mast, sail, jib), union(sail, jib) + 0.06


def _tree(x: Array, y: Array) -> tuple[Array, Array]:
    crown = union(disc(x, y, 0, 0.42, 0.5), disc(x, y, -0.42, 0.12, 0.4), disc(x, y, 0.42, 0.12, 0.4))
    trunk = box(x, y, 0, -0.58, 0.15, 0.38)
    return union(crown, trunk), trunk + 0.05


def _star(x: Array, y: Array) -> tuple[Array, Array]:
    # Five-fold symmetry: fold the plane into one wedge, then one edge of the star is a half plane.
    angle = np.arctan2(x, y)
    wedge = np.abs(np.mod(angle + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(x, y)
    px, py = radius * np.sin(wedge), radius * np.cos(wedge)
    inner = (0.42 * np.sin(np.pi / 5), 0.42 * np.cos(np.pi / 5))
    nx, ny = 0.98 - inner[1], inner[0]
    edge = (px * nx + (py - 0.98) * ny) / np.hypot(nx, ny)
    return edge.astype(np.float32), disc(x, y, 0, 0, 0.16)


def _flower(x: Array, y: Array) -> tuple[Array, Array]:
    turns = np.arange(6) * np.pi / 3
    petals = union(*(disc(x, y, 0.55 * np.cos(t), 0.55 * np.sin(t), 0.34) for t in turns))
    heart = disc(x, y, 0, 0, 0.3)
    return union(petals, heart), heart


def _car(x: Array, y: Array) -> tuple[Array, Array]:
    body = box(x, y, 0, -0.22, 0.95, 0.25)
    cabin = polygon(x, y, (-0.62, 0), (0.5, 0), (0.28, 0.5), (-0.4, 0.5))
    wheels = union(disc(x, y, -0.5, -0.5, 0.25), disc(x, y, 0.5, -0.5, 0.25))
    windows = union(box(x, y, -0.24, 0.2, 0.16, 0.14), box(x, y, 0.17, 0.2, 0.14, 0.14))
    return union(body, cabin, wheels), union(windows, disc(x, y, -0.5, -0.5, 0.12), disc(x, y, 0.5, -0.5, 0.12))


def _snail(x: Array, y: Array) -> tuple[Array, Array]:
    shell = disc(x, y, -0.15, 0.12, 0.55)
    foot = segment(x, y, (-0.75, -0.62), (0.6, -0.62), 0.17)
    neck = segment(x, y, (0.6, -0.6), (0.72, 0.1), 0.15)
    horns = union(segment(x, y, (0.7, 0.1), (0.55, 0.55), 0.06), segment(x, y, (0.75, 0.1), (0.95, 0.5), 0.06))
    ring = np.abs(disc(x, y, -0.15, 0.12, 0.28)) - np.float32(0.08)
    return union(shell, foot, neck, horns), ring


def _mushroom(x: Array, y: Array) -> tuple[Array, Array]:
    cap = np.maximum(disc(x, y, 0, -0.05, 0.9), -y - 0.05)
    stem = box(x, y, 0, -0.5, 0.24, 0.46)
    spots = union(disc(x, y, -0.42, 0.25, 0.15), disc(x, y, 0.08, 0.52, 0.16), disc(x, y, 0.48, 0.2, 0.13))
    return union(cap, stem), union(spots, stem + 0.06)


def _rocket(x: Array, y: Array) -> tuple[Array, Array]:
    hull = np.maximum(disc(x, y, -0.62, 0, 1.0), disc(x, y, 0.62, 0, 1.0))
    hull = np.maximum(hull, -y - 0.62)
    fins = union(
        polygon(x, y, (-0.8, -0.9), (-0.2, -0.5), (-0.3, 0.0)), polygon(x, y, (0.8, -0.9), (0.3, 0.0), (0.2, -0.5))
    )
    flame = polygon(x, y, (0, -0.98), (0.16, -0.62), (-0.16, -0.62))
    return union(hull, fins, flame), disc(x, y, 0, 0.18, 0.17)


def _butterfly(x: Array, y: Array) -> tuple[Array, Array]:
    side = np.abs(x)
    wings = union(ellipse(side, y, 0.52, 0.38, 0.42, 0.46), ellipse(side, y, 0.42, -0.42, 0.32, 0.36))
    body = segment(x, y, (0, -0.6), (0, 0.55), 0.1)
    feelers = segment(side, y, (0.03, 0.55), (0.25, 0.95), 0.05)
    return union(wings, body, feelers), union(disc(side, y, 0.55, 0.4, 0.18), disc(side, y, 0.42, -0.42, 0.13))


FIGURES: dict[str, Figure] = {
    "fish": _fish,
    "cat": _cat,
    "house": _house,
    "boat": _boat,
    "tree": _tree,
    "star": _star,
    "flower": _flower,
    "car": _car,
    "snail": _snail,
    "mushroom": _mushroom,
    "rocket": _rocket,
    "butterfly": _butterfly,
}
HELD_OUT_SUBJECTS = ("snail", "mushroom", "rocket", "butterfly")
BASE_SUBJECTS = tuple(name for name in FIGURES if name not in HELD_OUT_SUBJECTS)
SUBJECTS = tuple(FIGURES)
