"""Shots edited together, with known transitions: hard cuts, dissolves and fades through black."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.sprite.world.chance import pick
from models.sprite.world.degradations import Frames
from models.sprite.world.motion import film, random_motion
from models.sprite.world.scenes import random_scene

TRANSITIONS = ("cut", "dissolve", "fade")


@dataclass(frozen=True)
class Transition:
    """Frames from `start` up to `end` belong to neither shot alone. A hard cut has none: `start` is the new shot's."""

    kind: str
    start: int
    end: int


def spliced(shots: Sequence[Frames], transitions: Sequence[tuple[str, int]]) -> tuple[Frames, tuple[Transition, ...]]:
    """Join shots; each transition between two has a kind and a length in frames (0 for a cut).

    A dissolve takes its length from the end of one shot and the start of the next, which overlap; a fade darkens the
    last frames of one and brightens the first of the next, half its length each. Raises ValueError if a shot is too
    short for its transitions or a kind is unknown.
    """
    if len(transitions) != len(shots) - 1:
        raise ValueError(f"{len(shots)} shots need {len(shots) - 1} transitions, not {len(transitions)}")
    joined, found = np.asarray(shots[0], np.float32), list[Transition]()
    free = len(joined)  # frames at the end that no earlier transition has touched
    for shot, (kind, length) in zip(shots[1:], transitions, strict=True):
        following = np.asarray(shot, np.float32)
        before, after = _takes(kind, length)
        if before > free or after > len(following):
            raise ValueError(f"a {kind} of {length} frames between shots of {free} and {len(following)} free frames")
        start = len(joined) - before
        joined = _joined(joined, following, kind, length)
        end = start + length
        found.append(Transition(kind, start, end))
        free = len(joined) - end
    return np.rint(joined).astype(np.uint8), tuple(found)


def _takes(kind: str, length: int) -> tuple[int, int]:
    """How many frames a transition takes from the shot before it and from the one after."""
    if kind == "cut" and length == 0:
        return 0, 0
    if kind == "dissolve" and length > 0:
        return length, length
    if kind == "fade" and length > 1:
        return length // 2, length - length // 2
    raise ValueError(f"no {kind} of {length} frames: one of {', '.join(TRANSITIONS)}, a cut of 0, a fade of at least 2")


def _joined(first: np.ndarray, second: np.ndarray, kind: str, length: int) -> np.ndarray:
    before, after = _takes(kind, length)
    if kind == "dissolve":
        share = ((np.arange(length) + 1) / (length + 1))[:, None, None, None].astype(np.float32)
        mixed = first[-length:] * (1 - share) + second[:length] * share
        return np.concatenate([first[:-length], mixed, second[length:]])
    if kind == "fade":
        down = (1 - (np.arange(before) + 1) / before)[:, None, None, None].astype(np.float32)
        up = (np.arange(after) / after)[:, None, None, None].astype(np.float32)
        return np.concatenate([first[:-before], first[-before:] * down, second[:after] * up, second[after:]])
    return np.concatenate([first, second])


def random_footage(
    rng: np.random.Generator, shots: int, fps: float = 24.0, seconds: tuple[float, float] = (1.0, 3.0)
) -> tuple[Frames, tuple[Transition, ...]]:
    """A film of that many shots with all kinds of transitions, dissolves and fades of 8 to 20 frames.

    Shots last between the two `seconds`, and move at any motion bucket from 32 up.
    """
    clips, transitions = [], []
    for _ in range(shots):
        frames = round(rng.uniform(*seconds) * fps)
        clips.append(film(random_scene(rng), random_motion(rng, float(rng.uniform(32, 255))), max(frames, 42), fps))
    for _ in range(shots - 1):
        kind = pick(rng, TRANSITIONS)
        transitions.append((kind, 0 if kind == "cut" else int(rng.integers(8, 21))))
    return spliced(clips, transitions)
