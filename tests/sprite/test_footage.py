"""Faults and transitions are ground truth for curation: each must be as strong as it says, and where it says."""

from __future__ import annotations

import numpy as np
import pytest

from models.sprite import world
from models.sprite.world.degradations import Frames


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def shot(seed: int = 0, frames: int = 30) -> Frames:
    rng = chance(seed)
    return world.film(world.random_scene(rng), world.random_motion(rng, 128), frames, fps=24)


def grey(level: int, frames: int = 4) -> Frames:
    return np.full((frames, 64, 64, 3), level, np.uint8)


def detail(frames: Frames) -> float:
    return float(np.abs(np.diff(frames.astype(int), axis=2)).mean())


def test_blur_takes_detail_and_more_of_it_the_wider_it_is() -> None:
    sharp = shot()
    assert detail(sharp) > detail(world.blurred(sharp, 1)) > detail(world.blurred(sharp, 3))
    assert np.array_equal(world.blurred(grey(90), 3), grey(90))


def test_blur_is_as_wide_at_any_size() -> None:
    edge = np.zeros((1, 128, 128, 3), np.uint8)
    edge[:, :, 64:] = 255
    small, large = (world.blurred(frames, 2)[0, 0, :, 0].astype(int) for frames in (edge[:, ::2, ::2], edge))
    assert np.abs(small - (large[::2] + large[1::2]) / 2).max() < 8


@pytest.mark.parametrize("deviation", [2.0, 10.0, 25.0])
def test_noise_has_the_deviation_that_was_asked_for(deviation: float) -> None:
    noise = world.noisy(grey(128), deviation, chance()).astype(float) - 128
    assert noise.std() == pytest.approx(deviation, rel=0.03)
    assert abs(noise.mean()) < 0.5


def test_a_stop_doubles_or_halves_the_light_and_clips_what_leaves_the_range() -> None:
    assert np.array_equal(world.exposed(grey(60), 1), grey(120))
    assert np.array_equal(world.exposed(grey(60), -1), grey(30))
    assert np.array_equal(world.exposed(grey(200), 1), grey(255))


@pytest.mark.parametrize("height", [64, 360])
def test_titles_are_inside_their_boxes_and_nowhere_else(height: int) -> None:
    blank = np.full((3, height, height * 16 // 9, 3), 30, np.uint8)
    for seed in range(20):
        titled, boxes = world.overlaid(blank, 0.12, chance(seed))
        changed = (titled != blank).any(axis=(0, 3))
        assert boxes
        inside = np.zeros_like(changed)
        for left, top, right, bottom in boxes:
            inside[top:bottom, left:right] = True
            assert changed[top:bottom, left:right].mean() > 0.1
        assert not (changed & ~inside).any()
        assert world.text_area(boxes, blank) == pytest.approx(inside.mean())


def test_letters_too_large_for_the_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="letters of 90% of the height are too large for a picture of 64×64 pixels"):
        world.overlaid(grey(30), 0.9, chance())


def test_a_still_clip_is_its_first_frame() -> None:
    moving = shot()
    frozen = world.still(moving)
    assert frozen.shape == moving.shape
    assert (frozen == moving[0]).all()


@pytest.mark.parametrize("kind", world.DEGRADATIONS)
def test_every_fault_leaves_its_source_alone_and_at_strength_0_changes_nothing(kind: str) -> None:
    clean = shot(3, frames=2)
    before = clean.copy()
    assert np.array_equal(world.Degradation(kind, 0.0)(clean, chance()), clean)
    spoilt = world.Degradation(kind, 1.0)(clean, chance())
    assert spoilt.shape == clean.shape
    assert spoilt.dtype == np.uint8
    assert np.abs(spoilt.astype(int) - clean).mean() > 4
    assert np.array_equal(clean, before)


@pytest.mark.parametrize("kind", sorted(world.DEGRADATIONS.keys() - {"text"}))
def test_a_stronger_fault_changes_more(kind: str) -> None:
    clean = shot(4, frames=2).astype(int)
    changes = [
        np.abs(world.Degradation(kind, strength)(clean.astype(np.uint8), chance()) - clean).mean()
        for strength in (0.2, 0.6, 1.0)
    ]
    assert changes[0] < changes[1] < changes[2]


def test_shots_are_joined_by_a_cut() -> None:
    first, second = shot(1), shot(2)
    joined, (cut,) = world.spliced([first, second], [("cut", 0)])
    assert np.array_equal(joined, np.concatenate([first, second]))
    assert cut == world.Transition("cut", 30, 30)


def test_a_dissolve_mixes_both_shots_evenly_and_shortens_the_film() -> None:
    joined, (dissolve,) = world.spliced([grey(0, 10), grey(200, 10)], [("dissolve", 3)])
    assert dissolve == world.Transition("dissolve", 7, 10)
    assert joined[:, 0, 0, 0].tolist() == [0] * 7 + [50, 100, 150] + [200] * 7


def test_a_fade_goes_through_black() -> None:
    joined, (fade,) = world.spliced([grey(100, 6), grey(200, 6)], [("fade", 4)])
    assert fade == world.Transition("fade", 4, 8)
    assert joined[:, 0, 0, 0].tolist() == [100] * 4 + [50, 0, 0, 100] + [200] * 4


def test_transitions_lie_where_shots_meet_also_one_after_the_other() -> None:
    shots = [shot(seed, frames=20) for seed in range(4)]
    joined, found = world.spliced(shots, [("dissolve", 8), ("fade", 6), ("cut", 0)])
    assert len(joined) == 80 - 8
    assert [(t.start, t.end) for t in found] == [(12, 20), (29, 35), (52, 52)]
    assert np.array_equal(joined[20:29], shots[1][8:17])
    assert np.array_equal(joined[52:], shots[3])


@pytest.mark.parametrize(
    ("transitions", "message"),
    [
        ([("wipe", 4)], "no wipe of 4 frames: one of cut, dissolve, fade"),
        ([("cut", 2)], "no cut of 2 frames"),
        ([("fade", 1)], "no fade of 1 frames"),
        ([("dissolve", 40)], "a dissolve of 40 frames between shots of 30 and 30 free frames"),
        ([], "2 shots need 1 transitions, not 0"),
    ],
)
def test_what_cannot_be_joined_is_refused(transitions: list[tuple[str, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world.spliced([shot(1), shot(2)], transitions)


def test_random_footage_has_all_kinds_of_transitions_and_is_seeded() -> None:
    frames, found = world.random_footage(chance(1), shots=12)
    again, _ = world.random_footage(chance(1), shots=12)
    assert np.array_equal(frames, again)
    assert {t.kind for t in found} == set(world.TRANSITIONS)
    assert all(0 < t.start <= t.end < len(frames) for t in found)


def test_a_caption_mentions_motion_and_fault() -> None:
    rng = chance()
    scene = world.random_scene(rng)
    for motion, phrase in world.MOVES.items():
        assert phrase in world.plain_caption(scene, motion)
    assert "blur" in world.caption(scene, chance(0), fault="blur") or "focus" in world.caption(
        scene, chance(0), fault="blur"
    )
