"""Scenes in words."""

from __future__ import annotations

import numpy as np

from models.sprite.world.backgrounds import BACKGROUNDS
from models.sprite.world.chance import pick
from models.sprite.world.scenes import Scene
from models.sprite.world.styles import BASE_STYLES, COLOURS
from models.sprite.world.subjects import BASE_SUBJECTS

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
_MOVES = {
    "drift": ("drifting", "drifting along", "gliding along"),
    "bounce": ("bouncing", "bouncing up and down", "hopping up and down"),
    "spin": ("spinning", "spinning around", "turning round and round"),
    "grow": ("growing and shrinking", "changing in size"),
    "shake": ("shaking", "shaking to and fro", "trembling"),
    "pan": ("in a camera pan", "seen by a panning camera"),
}
_FAULTS = {
    "blur": ("blurry", "out of focus"),
    "noise": ("noisy", "grainy"),
    "overexposure": ("overexposed", "too bright"),
    "underexposure": ("underexposed", "too dark"),
    "text": ("with text", "with a title on it"),
}
_OPENINGS = ("a {} {}", "one {} {}", "a picture of a {} {}", "a drawing of a {} {}", "there is a {} {}", "the {} {}")

_COMPANIES = (" and a small {} {}", " with a little {} {}", " and a {} {} beside it")


def _manners(style: str) -> tuple[str, ...]:
    return _MANNERS.get(style, (f"in {style} style", f"{style} style"))


def _articled(text: str) -> str:
    return text.replace("a orange", "an orange")


def caption(scene: Scene, rng: np.random.Generator, motion: str = "", fault: str = "") -> str:
    """Describe a scene in one of many ways, with all of its sprites; sometimes the place or the style is left out.

    `motion` is the kind of motion of a clip, `fault` the kind of degradation, if any; they are always mentioned.
    """
    subject = _articled(pick(rng, _OPENINGS).format(scene.colour, scene.subject))
    for other in scene.sprites[1:]:
        subject += _articled(pick(rng, _COMPANIES).format(other.colour, other.subject))
    place, manner = pick(rng, _PLACES[scene.background]), pick(rng, _manners(scene.style))
    parts = [subject]
    if motion:
        parts.append(pick(rng, _MOVES[motion]))
    if rng.random() < 0.94:
        parts.append(place)
    text = _with_manner(" ".join(parts), manner, rng) if rng.random() < 0.94 else " ".join(parts)
    return f"{text}, {pick(rng, _FAULTS[fault])}" if fault else text


def _with_manner(text: str, manner: str, rng: np.random.Generator) -> str:
    form = rng.random()
    if form < 0.5:
        return f"{text} {manner}" if manner.startswith(("in", "as", "drawn")) else f"{text}, {manner}"
    return f"{text}, {manner}" if form < 0.8 else f"{manner}, {text}"


def plain_caption(scene: Scene, motion: str = "") -> str:
    """A caption that names everything, as a person would type it."""
    parts = [_articled(f"a {scene.colour} {scene.subject}"), _PLACES[scene.background][0], _manners(scene.style)[0]]
    if motion:
        parts.insert(1, MOVES[motion])
    return " ".join(parts)


VOCABULARY: dict[str, tuple[str, ...]] = {
    "subject": BASE_SUBJECTS,
    "colour": COLOURS,
    "background": BACKGROUNDS,
    "style": BASE_STYLES,
}
"""The words that the base image model knows, by slot; they are in its card."""
PHRASES = {background: places[0] for background, places in _PLACES.items()}
"""A background's phrase in a sentence."""
MOVES = {motion: moves[0] for motion, moves in _MOVES.items()}
"""A motion's phrase in a plain caption."""
