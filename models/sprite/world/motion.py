"""Scenes in motion, and clips of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.sprite.world.chance import pick
from models.sprite.world.scenes import SIZE, Scene, draw

MOTIONS = ("drift", "bounce", "spin", "grow", "shake", "pan")

SPEED_PER_BUCKET = 16 / 255
"""Pixels per second per step of the motion bucket (0–255): the speed of a moving sprite's edge."""


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
    x, y = hero.x - left, hero.y - top  # the sprite's position in the picture
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
        height = min(max(reach + y, 4.0), 14.0)  # no higher than the picture
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


_OWN_WAYS = {
    "fish": "drift",
    "car": "drift",
    "cat": "bounce",
    "star": "spin",
    "flower": "spin",
    "tree": "grow",
    "boat": "shake",
    "house": "pan",
}


def own_motion(scene: Scene, bucket: float) -> Motion:
    """The motion typical of a scene's subject, as fast as the motion bucket (0–255) asks.

    Fish and cars drift towards their head, stars and flowers spin, trees grow, boats shake, the camera pans over
    houses, everything else bounces.
    """
    hero = scene.sprites[0]
    return Motion(_OWN_WAYS.get(hero.subject, "bounce"), bucket * SPEED_PER_BUCKET, -hero.angle)


def film(scene: Scene, motion: Motion, frames: int, fps: float) -> NDArray[np.uint8]:
    """Render a clip: (frames, 64, 64, 3) uint8. Frame t shows the scene after t / fps seconds."""
    return np.stack([draw(at_time(scene, motion, t / fps)) for t in range(frames)])


def random_motion(rng: np.random.Generator, bucket: float, kinds: Sequence[str] = MOTIONS) -> Motion:
    """A random motion, as fast as the motion bucket (0–255) asks."""
    return Motion(pick(rng, kinds), bucket * SPEED_PER_BUCKET, float(rng.uniform(0, 2 * np.pi)))
