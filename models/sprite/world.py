"""The sprite world: a seeded, procedural world of simple figures, and the ground truth of what is in each picture.

A `Scene` says what is to be seen: a subject in a colour, before a background, in a drawing style. `draw` renders it,
`film` sets it moving, `caption` describes it. Everything is a pure function of its arguments; the same scene gives the
same bytes.

Figures are signed distance functions (negative inside) on a plane where the subject fills about the unit disc, y up, so
that rotation, scale and sub-pixel motion are exact. Styles read those distances: an outline is a band around zero, a
neon glow decays with |distance|. Textures of the styles are fixed to the picture with periods that divide 8 pixels.

`HELD_OUT_SUBJECTS` and `HELD_OUT_STYLES` are known to the judge and to the LoRAs only; no base model ever sees them.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Figure = Callable[[Array, Array], tuple[Array, Array]]

SIZE = 64
"""Side of a picture in pixels."""

# ── Signed distances ────────────────────────────────────────────────────────────────────────────────────────────────


def _disc(x: Array, y: Array, cx: float, cy: float, r: float) -> Array:
    return np.hypot(x - cx, y - cy) - np.float32(r)


def _ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Not Euclidean far away, but exact in sign and close to it near the edge, which is all that drawing needs."""
    u, v = (x - cx) / rx, (y - cy) / ry
    k = np.hypot(u, v)
    return (k - 1) * k / np.maximum(np.hypot(u / rx, v / ry), 1e-3)


def _box(x: Array, y: Array, cx: float, cy: float, hx: float, hy: float) -> Array:
    dx, dy = np.abs(x - cx) - hx, np.abs(y - cy) - hy
    return np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)


def _polygon(x: Array, y: Array, *corners: tuple[float, float]) -> Array:
    """A convex polygon, corners counter-clockwise."""
    distance = np.full_like(x, -np.inf)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = np.hypot(bx - ax, by - ay)
        distance = np.maximum(distance, ((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / length)
    return distance.astype(np.float32)


def _segment(x: Array, y: Array, a: tuple[float, float], b: tuple[float, float], r: float) -> Array:
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - a[0] - t * dx, y - a[1] - t * dy) - np.float32(r)


def _union(*distances: Array) -> Array:
    return np.minimum.reduce(distances)


def _cut(distance: Array, *holes: Array) -> Array:
    return np.maximum.reduce([distance, *(-hole for hole in holes)])


# ── Subjects: (body, detail), the detail drawn lighter on the body ──────────────────────────────────────────────────


def _fish(x: Array, y: Array) -> tuple[Array, Array]:
    body = _ellipse(x, y, 0.2, 0, 0.68, 0.45)
    tail = _union(
        _polygon(x, y, (-0.3, 0), (-0.95, 0.52), (-0.78, 0)), _polygon(x, y, (-0.3, 0), (-0.78, 0), (-0.95, -0.52))
    )
    fin = _polygon(x, y, (0.3, 0.35), (-0.05, 0.8), (-0.15, 0.35))
    return _union(body, tail, fin), _disc(x, y, 0.52, 0.12, 0.14)


def _cat(x: Array, y: Array) -> tuple[Array, Array]:
    head = _ellipse(x, y, 0, -0.15, 0.75, 0.62)
    ears = _union(
        _polygon(x, y, (-0.72, 0.05), (-0.2, 0.35), (-0.68, 0.95)),
        _polygon(x, y, (0.72, 0.05), (0.68, 0.95), (0.2, 0.35)),
    )
    eyes = _union(_disc(x, y, -0.3, -0.02, 0.15), _disc(x, y, 0.3, -0.02, 0.15))
    return _union(head, ears), _union(eyes, _segment(x, y, (-0.2, -0.42), (0.2, -0.42), 0.07))


def _house(x: Array, y: Array) -> tuple[Array, Array]:
    walls = _box(x, y, 0, -0.4, 0.62, 0.45)
    roof = _polygon(x, y, (-0.9, 0.02), (0.9, 0.02), (0, 0.88))
    return _union(walls, roof), _union(_box(x, y, 0.02, -0.55, 0.16, 0.3), _disc(x, y, 0, 0.32, 0.14))


def _boat(x: Array, y: Array) -> tuple[Array, Array]:
    hull = _polygon(x, y, (-0.55, -0.75), (0.55, -0.75), (0.95, -0.25), (-0.95, -0.25))
    mast = _segment(x, y, (0, -0.3), (0, 0.9), 0.06)
    sail = _polygon(x, y, (0.12, -0.12), (0.75, -0.12), (0.12, 0.85))
    jib = _polygon(x, y, (-0.12, -0.12), (-0.12, 0.6), (-0.55, -0.12))
    return _union(hull, mast, sail, jib), _union(sail, jib) + 0.06


def _tree(x: Array, y: Array) -> tuple[Array, Array]:
    crown = _union(_disc(x, y, 0, 0.42, 0.5), _disc(x, y, -0.42, 0.12, 0.4), _disc(x, y, 0.42, 0.12, 0.4))
    trunk = _box(x, y, 0, -0.58, 0.15, 0.38)
    return _union(crown, trunk), trunk + 0.05


def _star(x: Array, y: Array) -> tuple[Array, Array]:
    # Five-fold symmetry: fold the plane into one wedge, then one edge of the star is a half plane.
    angle = np.arctan2(x, y)
    wedge = np.abs(np.mod(angle + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(x, y)
    px, py = radius * np.sin(wedge), radius * np.cos(wedge)
    inner = (0.42 * np.sin(np.pi / 5), 0.42 * np.cos(np.pi / 5))
    nx, ny = 0.98 - inner[1], inner[0]
    edge = (px * nx + (py - 0.98) * ny) / np.hypot(nx, ny)
    return edge.astype(np.float32), _disc(x, y, 0, 0, 0.16)


def _flower(x: Array, y: Array) -> tuple[Array, Array]:
    turns = np.arange(6) * np.pi / 3
    petals = _union(*(_disc(x, y, 0.55 * np.cos(t), 0.55 * np.sin(t), 0.34) for t in turns))
    heart = _disc(x, y, 0, 0, 0.3)
    return _union(petals, heart), heart


def _car(x: Array, y: Array) -> tuple[Array, Array]:
    body = _box(x, y, 0, -0.22, 0.95, 0.25)
    cabin = _polygon(x, y, (-0.62, 0), (0.5, 0), (0.28, 0.5), (-0.4, 0.5))
    wheels = _union(_disc(x, y, -0.5, -0.5, 0.25), _disc(x, y, 0.5, -0.5, 0.25))
    windows = _union(_box(x, y, -0.24, 0.2, 0.16, 0.14), _box(x, y, 0.17, 0.2, 0.14, 0.14))
    return _union(body, cabin, wheels), _union(windows, _disc(x, y, -0.5, -0.5, 0.12), _disc(x, y, 0.5, -0.5, 0.12))


def _snail(x: Array, y: Array) -> tuple[Array, Array]:
    shell = _disc(x, y, -0.15, 0.12, 0.55)
    foot = _segment(x, y, (-0.75, -0.62), (0.6, -0.62), 0.17)
    neck = _segment(x, y, (0.6, -0.6), (0.72, 0.1), 0.15)
    horns = _union(_segment(x, y, (0.7, 0.1), (0.55, 0.55), 0.06), _segment(x, y, (0.75, 0.1), (0.95, 0.5), 0.06))
    ring = np.abs(_disc(x, y, -0.15, 0.12, 0.28)) - np.float32(0.08)
    return _union(shell, foot, neck, horns), ring


def _mushroom(x: Array, y: Array) -> tuple[Array, Array]:
    cap = np.maximum(_disc(x, y, 0, -0.05, 0.9), -y - 0.05)
    stem = _box(x, y, 0, -0.5, 0.24, 0.46)
    spots = _union(_disc(x, y, -0.42, 0.25, 0.15), _disc(x, y, 0.08, 0.52, 0.16), _disc(x, y, 0.48, 0.2, 0.13))
    return _union(cap, stem), _union(spots, stem + 0.06)


def _rocket(x: Array, y: Array) -> tuple[Array, Array]:
    hull = np.maximum(_disc(x, y, -0.62, 0, 1.0), _disc(x, y, 0.62, 0, 1.0))
    hull = np.maximum(hull, -y - 0.62)
    fins = _union(
        _polygon(x, y, (-0.8, -0.9), (-0.2, -0.5), (-0.3, 0.0)), _polygon(x, y, (0.8, -0.9), (0.3, 0.0), (0.2, -0.5))
    )
    flame = _polygon(x, y, (0, -0.98), (0.16, -0.62), (-0.16, -0.62))
    return _union(hull, fins, flame), _disc(x, y, 0, 0.18, 0.17)


def _butterfly(x: Array, y: Array) -> tuple[Array, Array]:
    side = np.abs(x)
    wings = _union(_ellipse(side, y, 0.52, 0.38, 0.42, 0.46), _ellipse(side, y, 0.42, -0.42, 0.32, 0.36))
    body = _segment(x, y, (0, -0.6), (0, 0.55), 0.1)
    feelers = _segment(side, y, (0.03, 0.55), (0.25, 0.95), 0.05)
    return _union(wings, body, feelers), _union(_disc(side, y, 0.55, 0.4, 0.18), _disc(side, y, 0.42, -0.42, 0.13))


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

# ── Backgrounds: colour at every point of an endless plane, in pixels, y down, horizon at 0 ─────────────────────────


def _rgb(*channels: float) -> Array:
    return np.array(channels, np.float32)


def _mix(a: Array, b: Array, weight: Array | float) -> Array:
    weight = np.asarray(weight, np.float32)
    return a + (b - a) * (weight[..., None] if weight.ndim else weight)


def _cover(distance: Array, softness: float = 1.0) -> Array:
    """How much of a pixel lies inside, from a distance in pixels: the antialiased fill."""
    return np.clip(0.5 - distance / softness, 0, 1).astype(np.float32)


def _sky(x: Array, y: Array) -> Array:
    picture = _mix(_rgb(0.42, 0.68, 0.95), _rgb(0.78, 0.9, 1.0), np.clip((y + 32) / 64, 0, 1))
    column = np.mod(x, 44) - 22
    cloud = _union(
        _ellipse(column, y, 0, -16, 11, 4.5), _ellipse(column, y, -4, -19, 6, 4), _ellipse(column, y, 15, 14, 7, 3.5)
    )
    return _mix(picture, _rgb(1, 1, 1), _cover(cloud, 1.5))


def _beach(x: Array, y: Array) -> Array:
    sea = _mix(_rgb(0.2, 0.55, 0.8), _rgb(0.1, 0.7, 0.78), np.clip((y + 32) / 40, 0, 1))
    sea = _mix(sea, _rgb(0.75, 0.93, 0.97), _cover(np.abs(np.mod(y + 1.5 * np.sin(x / 3.5), 9) - 4.5) - 0.4))
    shore = 8 + 2 * np.sin(x / 9)
    picture = _mix(sea, _rgb(0.94, 0.84, 0.58), _cover(shore - y))
    return _mix(picture, _rgb(1, 0.99, 0.95), _cover(np.abs(y - shore) - 1))


def _meadow(x: Array, y: Array) -> Array:
    hill = 2 + 4 * np.sin(x / 11)
    picture = _mix(_rgb(0.85, 0.94, 0.86), _rgb(0.45, 0.76, 0.36), _cover(hill - y))
    blade = np.abs(np.mod(x + 2 * np.floor(y / 8), 8) - 4) - 0.7
    tuft = np.maximum(blade, np.abs(np.mod(y, 8) - 4) - 2)
    return _mix(picture, _rgb(0.25, 0.55, 0.2), _cover(np.maximum(tuft, hill + 4 - y)))


def _night(x: Array, y: Array) -> Array:
    picture = _mix(_rgb(0.05, 0.05, 0.2), _rgb(0.16, 0.12, 0.36), np.clip((y + 32) / 64, 0, 1))
    stars = _union(
        *(_disc(np.mod(x - a, 32) - 16, np.mod(y - b, 32) - 16, 0, 0, 0.9) for a, b in ((3, 5), (19, 14), (10, 25)))
    )
    picture = _mix(picture, _rgb(1, 1, 0.85), _cover(stars))
    column = np.mod(x + 32, 96) - 52
    moon = _cut(_disc(column, y, 22, -20, 7), _disc(column, y, 18, -22, 6))
    return _mix(picture, _rgb(1, 0.96, 0.7), _cover(moon))


def _snow(x: Array, y: Array) -> Array:
    picture = _mix(_rgb(0.66, 0.72, 0.8), _rgb(0.8, 0.84, 0.9), np.clip((y + 32) / 40, 0, 1))
    picture = _mix(picture, _rgb(0.97, 0.98, 1), _cover(10 + 3 * np.sin(x / 8 + 1) - y))
    flakes = _union(
        *(_disc(np.mod(x - a, 20) - 10, np.mod(y - b, 20) - 10, 0, 0, 1.2) for a, b in ((2, 3), (12, 9), (7, 16)))
    )
    return _mix(picture, _rgb(1, 1, 1), _cover(flakes))


def _wall(x: Array, y: Array) -> Array:
    row = np.floor(y / 8)
    brick = _box(np.mod(x + 8 * np.mod(row, 2), 16) - 8, np.mod(y, 8) - 4, 0, 0, 7.3, 3.3)
    return _mix(_rgb(0.82, 0.78, 0.72), _rgb(0.66, 0.42, 0.34), _cover(brick))


SCENERIES: dict[str, Callable[[Array, Array], Array]] = {
    "sky": _sky,
    "beach": _beach,
    "meadow": _meadow,
    "night": _night,
    "snow": _snow,
    "wall": _wall,
}
BACKGROUNDS = tuple(SCENERIES)

# ── Styles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Layers:
    """What a style paints with: distances in pixels, the scenery, the sprite's colour, pixel coordinates."""

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
    picture = _mix(at.scenery, at.dark, _cover(at.body - 1))
    picture = _mix(picture, at.colour, _cover(at.body))
    return _mix(picture, at.light, _cover(np.maximum(at.detail, at.body)))


def _outline(at: Layers) -> Array:
    paper = _rgb(0.98, 0.97, 0.94)
    picture = _mix(at.scenery, paper, 0.68)
    picture = _mix(picture, paper, _cover(at.body))
    line = _union(np.abs(at.body) - 1.3, np.maximum(np.abs(at.detail) - 0.7, at.body))
    return _mix(picture, at.colour, _cover(line))


def _watercolour(at: Layers) -> Array:
    paper = _rgb(1, 0.98, 0.94)
    grain = 0.5 + 0.25 * np.sin(at.px / 5.1 + 0.7 * np.sin(at.py / 6.3)) + 0.25 * np.sin(at.py / 4.3)
    picture = _mix(at.scenery, paper, 0.2 + 0.35 * grain)
    wash = _mix(at.colour, at.light, 0.15 + 0.35 * grain)
    picture = _mix(picture, wash, _cover(at.body, 6) * 0.95)
    rim = np.exp(-np.square(at.body + 1.5) / 3).astype(np.float32)
    picture = _mix(picture, at.colour, rim * 0.6)
    return _mix(picture, paper, _cover(np.maximum(at.detail, at.body), 4) * 0.7)


def _crayon(at: Layers) -> Array:
    paper = _rgb(0.97, 0.94, 0.86)
    stroke = np.abs(np.mod(at.px + at.py, 4) - 2) < 1
    back = np.abs(np.mod(at.px - at.py, 8) - 4) < 2.5
    picture = _mix(paper, at.scenery, np.where(back, 0.85, 0.35))
    picture = _mix(picture, paper, _cover(at.body))
    picture = _mix(picture, at.colour, _cover(at.body) * np.where(stroke, 1.0, 0.3))
    picture = _mix(picture, at.dark, _cover(np.abs(at.body) - 0.8) * 0.85)
    return _mix(picture, at.dark, _cover(np.maximum(np.abs(at.detail) - 0.6, at.body)) * 0.7)


def _neon(at: Layers) -> Array:
    picture = at.scenery * np.float32(0.28)
    glow = np.exp(-np.maximum(at.body, 0) / 4) * 0.75 * _cover(-at.body) + 0.25 * _cover(at.body)
    picture = picture + glow[..., None].astype(np.float32) * at.colour
    tube = _union(np.abs(at.body) - 1.0, np.maximum(np.abs(at.detail) - 0.6, at.body))
    picture = _mix(picture, at.colour + (1 - at.colour) * np.float32(0.25), _cover(tube))
    return np.minimum(picture, 1)


def _pixel(at: Layers) -> Array:
    """Hard edges and few shades; `draw` asks for the same point all over a block."""
    picture = np.where((at.body < 0)[..., None], at.colour, at.scenery)
    picture = np.where((np.abs(at.body) < 1.2)[..., None], at.dark, picture)
    picture = np.where((np.maximum(at.detail, at.body + 1.2) < 0)[..., None], at.light, picture)
    return np.round(picture * 5) / 5


def _halftone(at: Layers) -> Array:
    painted = _flat(at)
    ink = 1 - painted.mean(axis=-1)
    cell = np.hypot(np.mod(at.px, 4) - 2, np.mod(at.py, 4) - 2)
    dots = _cover(cell - (0.6 + 2.2 * ink))
    return _mix(_rgb(1, 0.99, 0.93), painted * np.float32(0.82), dots)


def _mosaic(at: Layers) -> Array:
    picture = _mix(at.scenery, at.colour, _cover(at.body))
    picture = _mix(picture, at.light, _cover(np.maximum(at.detail, at.body)))
    tile_x, tile_y = np.floor((at.px + at.py) / 8), np.floor((at.px - at.py) / 8)
    tint = np.mod(np.sin(tile_x * 12.9 + tile_y * 78.2) * 43.7, 1).astype(np.float32) - 0.5
    picture = np.clip(picture * (1 + 0.4 * tint[..., None]), 0, 1)
    grout = np.minimum(np.mod(at.px + at.py, 8), np.mod(at.px - at.py, 8)) < 1
    return _mix(picture, _rgb(0.12, 0.1, 0.12), grout * 0.8)


STYLE_PAINTERS: dict[str, Callable[[Layers], Array]] = {
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
_PIXEL = 2

# ── Scenes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Sprite:
    """A figure: where (pixels from the centre, y down), how large (radius in pixels) and how turned (radians)."""

    subject: str
    colour: str
    x: float = 0.0
    y: float = 0.0
    radius: float = 17.0
    angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """All that a picture shows. The first sprite is what it is about; `camera` is where it looks, in pixels."""

    sprites: tuple[Sprite, ...]
    background: str
    style: str
    camera: tuple[float, float] = (0.0, 0.0)
    tint: float = 0.0

    @property
    def subject(self) -> str:
        return self.sprites[0].subject

    @property
    def colour(self) -> str:
        return self.sprites[0].colour


def draw(scene: Scene) -> NDArray[np.uint8]:
    """Render a scene: (64, 64, 3) uint8 RGB."""
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    px, py = np.meshgrid(axis, axis)
    coarse = scene.style == "pixel"
    if coarse:  # every pixel of a block looks at the block's centre
        px, py = ((np.floor(v / _PIXEL) + 0.5) * _PIXEL for v in (px, py))
    x = px - SIZE / 2 + np.float32(scene.camera[0])
    y = py - SIZE / 2 + np.float32(scene.camera[1])
    scenery = SCENERIES[scene.background](x, y)
    paint = STYLE_PAINTERS[scene.style]
    picture: Array | None = None
    for sprite in reversed(scene.sprites):
        body, detail = _distances(sprite, x, y)
        painted = paint(Layers(body, detail, scenery, _colour(sprite.colour, scene.tint), px, py))
        # The furthest sprite brings the styled scenery with it; nearer ones are laid over it.
        picture = painted if picture is None else _mix(picture, painted, _cover(body - 2))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _distances(sprite: Sprite, x: Array, y: Array) -> tuple[Array, Array]:
    """Distances to the sprite's body and detail, in pixels."""
    cos, sin = np.float32(np.cos(sprite.angle)), np.float32(np.sin(sprite.angle))
    scale = np.float32(sprite.radius)
    u, v = (x - np.float32(sprite.x)) / scale, -(y - np.float32(sprite.y)) / scale
    body, detail = FIGURES[sprite.subject](cos * u + sin * v, cos * v - sin * u)
    return (body * scale).astype(np.float32), (detail * scale).astype(np.float32)


def _colour(name: str, tint: float) -> Array:
    hue, saturation, value = HUES[name]
    return _rgb(*colorsys.hsv_to_rgb(((hue + tint) % 360) / 360, saturation, value))


# ── Motion ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MOTIONS = ("drift", "bounce", "spin", "grow", "shake", "pan")

SPEED_PER_BUCKET = 16 / 255
"""Pixels per second for each step of the motion bucket (0–255): the speed of a moving sprite's edge."""


@dataclass(frozen=True)
class Motion:
    """How a scene moves: `speed` in pixels per second at the sprite's edge, `direction` in radians."""

    kind: str
    speed: float
    direction: float = 0.0


def _swing(start: float, travelled: float, low: float, high: float) -> float:
    """Go straight from `start`, turning back at `low` and `high`."""
    span = high - low
    phase = (start - low + travelled) % (2 * span)
    return low + (phase if phase <= span else 2 * span - phase)


def at_time(scene: Scene, motion: Motion, seconds: float) -> Scene:
    """The scene after `seconds` of motion. At 0 it is the scene itself."""
    hero = scene.sprites[0]
    distance = motion.speed * seconds
    dx, dy = np.cos(motion.direction), np.sin(motion.direction)
    reach = SIZE / 2 - hero.radius
    left, top = scene.camera
    x, y = hero.x - left, hero.y - top  # where the sprite stands in the picture
    if motion.kind == "pan":  # towards the sprite's side, so that it crosses the picture and stays in it
        offset = _swing(0, distance, 0, reach + abs(x))
        return replace(scene, camera=(left + (np.sign(x) or 1) * offset, top))
    if motion.kind == "drift":
        moved = replace(
            hero,
            x=left + _swing(x, dx * distance, min(-reach, x), max(reach, x)),
            y=top + _swing(y, dy * distance, min(-reach, y), max(reach, y)),
        )
    elif motion.kind == "bounce":
        height = 14.0
        moved = replace(hero, y=hero.y - _swing(0, 1.4 * distance, 0, height))
    elif motion.kind == "spin":
        moved = replace(hero, angle=hero.angle + (np.sign(dx) or 1) * distance / hero.radius)
    elif motion.kind == "grow":
        moved = replace(hero, radius=_swing(hero.radius, np.sign(dx) * distance, 9, 27))
    elif motion.kind == "shake":
        moved = replace(hero, x=hero.x + np.sign(dx) * (_swing(4, 1.4 * distance, 0, 8) - 4))
    else:
        raise ValueError(f"unknown motion {motion.kind!r}: one of {', '.join(MOTIONS)}")
    return replace(scene, sprites=(moved, *scene.sprites[1:]))


def film(scene: Scene, motion: Motion, frames: int, fps: float) -> NDArray[np.uint8]:
    """Render a clip: (frames, 64, 64, 3) uint8. Frame t shows the scene after t / fps seconds."""
    return np.stack([draw(at_time(scene, motion, t / fps)) for t in range(frames)])


# ── Chance ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def random_scene(
    rng: np.random.Generator,
    subjects: Sequence[str] = BASE_SUBJECTS,
    styles: Sequence[str] = BASE_STYLES,
    companions: float = 0.0,
) -> Scene:
    """A scene with every attribute drawn uniformly; with probability `companions` a second, smaller sprite in it."""
    radius = float(rng.uniform(14, 20))
    reach = SIZE / 2 - radius
    hero = Sprite(
        subject=_pick(rng, subjects),
        colour=_pick(rng, COLOURS),
        x=float(rng.uniform(-reach, reach)) * 0.8,
        y=float(rng.uniform(-reach, reach)) * 0.8,
        radius=radius,
        angle=float(rng.normal(0, 0.12)),
    )
    sprites = [hero]
    if rng.random() < companions:
        side = -np.sign(hero.x) or 1.0
        sprites.append(
            replace(
                hero,
                subject=_pick(rng, subjects),
                colour=_pick(rng, COLOURS),
                x=float(side * rng.uniform(18, 24)),
                y=float(rng.uniform(-20, 20)),
                radius=float(rng.uniform(7, 10)),
            )
        )
    camera = (float(rng.uniform(-40, 40)), float(rng.uniform(-4, 4)))
    scene = Scene(tuple(sprites), _pick(rng, BACKGROUNDS), _pick(rng, styles), tint=float(rng.uniform(-5, 5)))
    return _look_from(scene, camera)


def _look_from(scene: Scene, camera: tuple[float, float]) -> Scene:
    """Move the camera without moving the sprites in the picture: another piece of the same scenery."""
    moved = tuple(replace(s, x=s.x + camera[0], y=s.y + camera[1]) for s in scene.sprites)
    return replace(scene, sprites=moved, camera=camera)


def random_motion(rng: np.random.Generator, bucket: float, kinds: Sequence[str] = MOTIONS) -> Motion:
    """A motion whose speed is what the motion bucket (0–255) asks for."""
    return Motion(_pick(rng, kinds), bucket * SPEED_PER_BUCKET, float(rng.uniform(0, 2 * np.pi)))


def abstract(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture of nothing: gratings, dots, discs and glows in any colours, (64, 64, 3) uint8.

    An autoencoder that sees these learns pictures at large, not just the styles that it was shown.
    """
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    x, y = np.meshgrid(axis, axis)
    picture = _mix(*rng.random((2, 3)).astype(np.float32), np.clip((x * rng.normal() + y * rng.normal()) / SIZE, 0, 1))
    for _ in range(int(rng.integers(1, 5))):
        ink, period = rng.random(3).astype(np.float32), float(rng.choice([4, 8, 16]))
        along, across = np.mod(x + y * rng.integers(-1, 2), period), np.mod(y - x * rng.integers(-1, 2), period)
        disc = _disc(x, y, *rng.uniform(0, SIZE, 2), rng.uniform(4, 24))
        match int(rng.integers(6)):
            case 0:
                mask = (along < period * rng.uniform(0.15, 0.6)).astype(np.float32)
            case 1:
                mask = _cover(np.hypot(along - period / 2, across - period / 2) - period * rng.uniform(0.15, 0.5))
            case 2:
                mask = _cover(np.abs(disc) - rng.uniform(0.5, 3))
            case 3:
                mask = _cover(disc)
            case 4:
                mask = np.exp(-np.abs(disc) / rng.uniform(2, 6)).astype(np.float32)
            case _:
                mask = (np.minimum(along, across) < 1).astype(np.float32)
        picture = _mix(picture, ink, mask * np.float32(rng.uniform(0.4, 1)))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


# ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_PLACES = {
    "sky": ("in the sky", "in a blue sky", "among the clouds", "against the sky"),
    "beach": ("on a beach", "on the beach", "at the beach by the sea", "on a sandy beach"),
    "meadow": ("in a meadow", "on a green meadow", "in the meadow grass", "on a meadow hill"),
    "night": ("at night", "in the night", "on a starry night", "under the night moon"),
    "snow": ("in the snow", "in falling snow", "on white snow", "on a day of snow"),
    "wall": ("in front of a wall", "by a brick wall", "before a wall", "against a wall of bricks"),
}
_MANNERS = {
    "flat": ("in flat style", "in a flat style", "flat style"),
    "outline": ("in outline style", "as an outline", "outline drawing"),
    "pixel": ("in pixel style", "as pixel art", "pixel art"),
    "watercolour": ("in watercolour style", "as a watercolour", "watercolour painting", "in watercolor style"),
    "crayon": ("in crayon style", "drawn in crayon", "crayon drawing"),
    "neon": ("in neon style", "in a neon style", "neon style"),
    "halftone": ("in halftone style", "as a halftone print", "halftone print"),
    "mosaic": ("in mosaic style", "as a mosaic", "mosaic style"),
}
_OPENINGS = ("a {} {}", "one {} {}", "a picture of a {} {}", "a drawing of a {} {}", "there is a {} {}", "the {} {}")


def _articled(text: str) -> str:
    return text.replace("a orange", "an orange")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe a scene in one of many ways; now and then the place or the style is left out."""
    subject = _articled(_pick(rng, _OPENINGS).format(scene.colour, scene.subject))
    place, manner = _pick(rng, _PLACES[scene.background]), _pick(rng, _MANNERS[scene.style])
    parts = [subject]
    if rng.random() < 0.94:
        parts.append(place)
    style_told = rng.random() < 0.94
    if not style_told:
        return " ".join(parts)
    joined = " ".join(parts)
    form = rng.random()
    if form < 0.5:
        return f"{joined} {manner}" if manner.startswith(("in", "as", "drawn")) else f"{joined}, {manner}"
    return f"{joined}, {manner}" if form < 0.8 else f"{manner}, {joined}"


def plain_caption(scene: Scene) -> str:
    """The one caption that names everything, as a person would type it."""
    return (
        _articled(f"a {scene.colour} {scene.subject}") + f" {_PLACES[scene.background][0]} {_MANNERS[scene.style][0]}"
    )


VOCABULARY: dict[str, tuple[str, ...]] = {
    "subject": BASE_SUBJECTS,
    "colour": COLOURS,
    "background": BACKGROUNDS,
    "style": BASE_STYLES,
}
"""What the base image model knows, slot by slot; the model card carries it."""
