"""Scenes: what is in a picture, chosen at random or by hand, and rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.sprite.world.backgrounds import BACKGROUNDS, SCENERIES
from models.sprite.world.chance import pick
from models.sprite.world.invented import figure, invented_word, painter
from models.sprite.world.shapes import Array, cover, disc, mix
from models.sprite.world.styles import BASE_STYLES, COLOURS, PIXEL, Layers, colour
from models.sprite.world.subjects import BASE_SUBJECTS

SIZE = 64
"""Side of a picture in pixels."""


@dataclass(frozen=True)
class Sprite:
    """A figure: its position (pixels from the centre, y down), size (radius in pixels) and angle (radians)."""

    subject: str
    colour: str
    x: float = 0.0
    y: float = 0.0
    radius: float = 17.0
    angle: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows. The first sprite is its subject; `camera` is where it looks, in pixels."""

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
    if coarse:  # every pixel of a block samples the block's centre
        px, py = ((np.floor(v / PIXEL) + 0.5) * PIXEL for v in (px, py))
    x = px - SIZE / 2 + np.float32(scene.camera[0])
    y = py - SIZE / 2 + np.float32(scene.camera[1])
    scenery = SCENERIES[scene.background](x, y)
    paint = painter(scene.style)
    furthest, *nearer = (
        Layers(*_distances(sprite, x, y), scenery, colour(sprite.colour, scene.tint), px, py)
        for sprite in reversed(scene.sprites)
    )
    picture = paint(furthest)  # it brings the styled scenery with it
    for sprite in nearer:
        picture = mix(picture, paint(sprite), cover(sprite.body - 2))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _distances(sprite: Sprite, x: Array, y: Array) -> tuple[Array, Array]:
    """Distances to the sprite's body and detail, in pixels."""
    cos, sin = np.float32(np.cos(sprite.angle)), np.float32(np.sin(sprite.angle))
    scale = np.float32(sprite.radius)
    u, v = (x - np.float32(sprite.x)) / scale, -(y - np.float32(sprite.y)) / scale
    body, detail = figure(sprite.subject)(cos * u + sin * v, cos * v - sin * u)
    return (body * scale).astype(np.float32), (detail * scale).astype(np.float32)


def random_scene(
    rng: np.random.Generator,
    subjects: Sequence[str] = BASE_SUBJECTS,
    styles: Sequence[str] = BASE_STYLES,
    companions: float = 0.0,
    variety: float = 1.0,
    invented: float = 0.0,
) -> Scene:
    """A scene with every attribute drawn uniformly; with probability `companions` a second, smaller sprite in it.

    `variety` scales how much place, size and tilt vary: at 0 the sprite is always in the middle.
    `invented` is the probability that the subject is a made-up one instead of one of `subjects`; likewise the style.
    """
    radius = 17 + variety * float(rng.uniform(-3, 3))
    reach = variety * 0.8 * (SIZE / 2 - radius)
    hero = Sprite(
        subject=pick(rng, subjects),
        colour=pick(rng, COLOURS),
        x=float(rng.uniform(-reach, reach)),
        y=float(rng.uniform(-reach, reach)),
        radius=radius,
        angle=variety * float(rng.normal(0, 0.12)),
    )
    sprites = [hero]
    if rng.random() < companions:
        side = -np.sign(hero.x) or 1.0
        sprites.append(
            replace(
                hero,
                subject=pick(rng, subjects),
                colour=pick(rng, COLOURS),
                x=float(side * rng.uniform(18, 24)),
                y=float(rng.uniform(-20, 20)),
                radius=float(rng.uniform(7, 10)),
            )
        )
    camera = (float(rng.uniform(-40, 40)), float(rng.uniform(-4, 4)))
    scene = Scene(tuple(sprites), pick(rng, BACKGROUNDS), pick(rng, styles), tint=float(rng.uniform(-5, 5)))
    if invented and rng.random() < invented:
        scene = replace(scene, sprites=(replace(hero, subject=invented_word(rng)), *sprites[1:]))
    if invented and rng.random() < invented:
        scene = replace(scene, style=invented_word(rng))
    return _look_from(scene, camera)


def _look_from(scene: Scene, camera: tuple[float, float]) -> Scene:
    """Move the camera without moving the sprites in the picture: another part of the same scenery."""
    moved = tuple(replace(s, x=s.x + camera[0], y=s.y + camera[1]) for s in scene.sprites)
    return replace(scene, sprites=moved, camera=camera)


def abstract(rng: np.random.Generator) -> NDArray[np.uint8]:
    """An abstract picture: gratings, dots, discs and glows in any colours, (64, 64, 3) uint8.

    An autoencoder that sees these learns pictures in general, not just the styles that it was shown.
    """
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    x, y = np.meshgrid(axis, axis)
    one, other = rng.random((2, 3)).astype(np.float32)
    picture = mix(one, other, np.clip((x * rng.normal() + y * rng.normal()) / SIZE, 0, 1))
    for _ in range(int(rng.integers(1, 5))):
        ink, period = rng.random(3).astype(np.float32), float(rng.choice([4, 8, 16]))
        along, across = np.mod(x + y * rng.integers(-1, 2), period), np.mod(y - x * rng.integers(-1, 2), period)
        cx, cy = rng.uniform(0, SIZE, 2)
        circle = disc(x, y, cx, cy, rng.uniform(4, 24))
        match int(rng.integers(6)):
            case 0:
                mask = (along < period * rng.uniform(0.15, 0.6)).astype(np.float32)
            case 1:
                mask = cover(np.hypot(along - period / 2, across - period / 2) - period * rng.uniform(0.15, 0.5))
            case 2:
                mask = cover(np.abs(circle) - rng.uniform(0.5, 3))
            case 3:
                mask = cover(circle)
            case 4:
                mask = np.exp(-np.abs(circle) / rng.uniform(2, 6)).astype(np.float32)
            case _:
                mask = (np.minimum(along, across) < 1).astype(np.float32)
        picture = mix(picture, ink, mask * np.float32(rng.uniform(0.4, 1)))
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
