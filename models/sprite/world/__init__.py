"""The sprite world: a seeded, procedural world of simple figures, and the ground truth of what is in each picture.

A `Scene` says what a picture shows: a subject in a colour, in front of a background, in a drawing style. `draw` renders
it, `film` animates it, `caption` describes it. Everything is a pure function of its arguments; the same scene gives the
same bytes.

Made-up words name randomly composed figures and styles, one for each word. `HELD_OUT_SUBJECTS` and `HELD_OUT_STYLES`
are known only to the judge and the LoRAs; no base model ever sees them.
"""

from models.sprite.world.backgrounds import BACKGROUNDS
from models.sprite.world.degradations import (
    DEGRADATIONS,
    Degradation,
    blurred,
    exposed,
    noisy,
    overlaid,
    random_degradation,
    still,
    text_area,
)
from models.sprite.world.footage import TRANSITIONS, Transition, random_footage, spliced
from models.sprite.world.motion import MOTIONS, SPEED_PER_BUCKET, Motion, at_time, film, own_motion, random_motion
from models.sprite.world.scenes import SIZE, Scene, Sprite, abstract, draw, random_scene
from models.sprite.world.styles import BASE_STYLES, COLOURS, HELD_OUT_STYLES, STYLES
from models.sprite.world.subjects import BASE_SUBJECTS, HELD_OUT_SUBJECTS, SUBJECTS
from models.sprite.world.words import MOVES, PHRASES, VOCABULARY, caption, plain_caption

__all__ = [
    "BACKGROUNDS",
    "BASE_STYLES",
    "BASE_SUBJECTS",
    "COLOURS",
    "DEGRADATIONS",
    "HELD_OUT_STYLES",
    "HELD_OUT_SUBJECTS",
    "MOTIONS",
    "MOVES",
    "PHRASES",
    "SIZE",
    "SPEED_PER_BUCKET",
    "STYLES",
    "SUBJECTS",
    "TRANSITIONS",
    "VOCABULARY",
    "Degradation",
    "Motion",
    "Scene",
    "Sprite",
    "Transition",
    "abstract",
    "at_time",
    "blurred",
    "caption",
    "draw",
    "exposed",
    "film",
    "noisy",
    "overlaid",
    "own_motion",
    "plain_caption",
    "random_degradation",
    "random_footage",
    "random_motion",
    "random_scene",
    "spliced",
    "still",
    "text_area",
]
