"""Scenes in words."""

from __future__ import annotations

import numpy as np

from models.sprite.world.backgrounds import BACKGROUNDS
from models.sprite.world.scenes import Scene, pick
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
_OPENINGS = ("a {} {}", "one {} {}", "a picture of a {} {}", "a drawing of a {} {}", "there is a {} {}", "the {} {}")


def _manners(style: str) -> tuple[str, ...]:
    return _MANNERS.get(style, (f"in {style} style", f"{style} style"))


def _articled(text: str) -> str:
    return text.replace("a orange", "an orange")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe a scene in one of many ways; now and then the place or the style is left out."""
    subject = _articled(pick(rng, _OPENINGS).format(scene.colour, scene.subject))
    place, manner = pick(rng, _PLACES[scene.background]), pick(rng, _manners(scene.style))
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
        _articled(f"a {scene.colour} {scene.subject}") + f" {_PLACES[scene.background][0]} {_manners(scene.style)[0]}"
    )


VOCABULARY: dict[str, tuple[str, ...]] = {
    "subject": BASE_SUBJECTS,
    "colour": COLOURS,
    "background": BACKGROUNDS,
    "style": BASE_STYLES,
}
"""What the base image model knows, slot by slot; the model card carries it."""
PHRASES = {background: places[0] for background, places in _PLACES.items()}
"""How a background is said in a sentence."""
