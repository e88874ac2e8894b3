"""The sprite world is the ground truth of everything that is measured, so it must be what it claims to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.sprite import world
from models.sprite.world import Motion, Scene, Sprite


def scene(**changes: object) -> Scene:
    return replace(Scene((Sprite("fish", "red"),), "sky", "flat"), **changes)  # type: ignore[arg-type]


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_scene_always_gives_the_same_picture() -> None:
    picture = world.draw(scene())
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, world.draw(scene()))


def test_equal_seeds_give_equal_scenes_and_captions() -> None:
    first, second = chance(5), chance(5)
    for _ in range(20):
        one, other = world.random_scene(first), world.random_scene(second)
        assert one == other
        assert world.caption(one, first) == world.caption(other, second)


@pytest.mark.parametrize("style", world.STYLES)
@pytest.mark.parametrize("subject", world.SUBJECTS)
def test_every_subject_stands_out_in_every_style(subject: str, style: str) -> None:
    with_it = scene(sprites=(Sprite(subject, "orange"),), style=style)
    elsewhere = scene(sprites=(Sprite(subject, "orange", x=500),), style=style)
    changed = np.abs(world.draw(with_it).astype(int) - world.draw(elsewhere)).max(axis=-1) > 24
    assert changed.mean() > 0.04


def test_pictures_differ_in_each_attribute() -> None:
    def distance(a: Scene, b: Scene) -> float:
        return float(np.abs(world.draw(a).astype(int) - world.draw(b)).mean())

    for background in world.BACKGROUNDS[1:]:
        assert distance(scene(), scene(background=background)) > 5
    for style in world.STYLES[1:]:
        assert distance(scene(), scene(style=style)) > 2
    for colour in world.COLOURS[1:]:
        assert distance(scene(), scene(sprites=(Sprite("fish", colour),))) > 1


def test_the_base_never_sees_held_out_words() -> None:
    rng = chance()
    scenes = [world.random_scene(rng, companions=0.5) for _ in range(500)]
    words = " ".join(world.caption(s, rng) for s in scenes)
    shown = {sprite.subject for s in scenes for sprite in s.sprites} | {s.style for s in scenes}
    for held_out in (*world.HELD_OUT_SUBJECTS, *world.HELD_OUT_STYLES):
        assert held_out not in shown
        assert held_out not in words
        assert held_out not in world.VOCABULARY["subject"] + world.VOCABULARY["style"]


def test_captions_vary_and_always_name_subject_and_colour() -> None:
    rng = chance()
    captions = [world.caption(scene(), rng) for _ in range(200)]
    assert len(set(captions)) > 60
    assert all("red" in caption and "fish" in caption for caption in captions)


def test_a_caption_mentions_every_sprite() -> None:
    rng = chance()
    both = scene(sprites=(Sprite("fish", "red"), Sprite("star", "orange", x=20, radius=8)))
    captions = [world.caption(both, rng) for _ in range(100)]
    assert all("red fish" in caption and "orange star" in caption for caption in captions)
    assert not any("a orange" in caption for caption in captions)


def test_an_orange_thing_takes_the_right_article() -> None:
    assert world.plain_caption(scene(sprites=(Sprite("cat", "orange"),))) == "an orange cat in the sky in flat style"


def test_every_made_up_word_has_a_figure_and_a_style_of_its_own() -> None:
    def drawn(word: str, style: str) -> np.ndarray:
        return world.draw(scene(sprites=(Sprite(word, "red"),), style=style)).astype(int)

    assert np.array_equal(drawn("zaduko", "flat"), drawn("zaduko", "flat"))
    assert np.abs(drawn("zaduko", "flat") - drawn("mirefa", "flat")).mean() > 2
    assert np.array_equal(drawn("fish", "zaduko"), drawn("fish", "zaduko"))
    assert np.abs(drawn("fish", "zaduko") - drawn("fish", "mirefa")).mean() > 2


def test_made_up_figures_in_made_up_styles_stand_out_and_are_named_in_the_caption() -> None:
    rng = chance(3)
    for _ in range(60):
        made_up = world.random_scene(rng, variety=0.3, invented=1.0)
        assert made_up.subject not in world.SUBJECTS
        assert made_up.style not in world.STYLES
        assert made_up.subject in world.caption(made_up, rng)
        alone = replace(made_up, sprites=(replace(made_up.sprites[0], x=500),))
        changed = np.abs(world.draw(made_up).astype(int) - world.draw(alone)).max(axis=-1) > 24
        assert changed.mean() > 0.02, made_up


def test_scenes_are_made_up_as_often_as_asked() -> None:
    rng = chance()
    scenes = [world.random_scene(rng, invented=0.4) for _ in range(500)]
    assert 0.3 < np.mean([s.subject not in world.BASE_SUBJECTS for s in scenes]) < 0.5
    assert 0.3 < np.mean([s.style not in world.BASE_STYLES for s in scenes]) < 0.5


@pytest.mark.parametrize("kind", world.MOTIONS)
def test_motion_starts_at_the_scene_and_faster_means_more_change(kind: str) -> None:
    start = scene(background="wall", sprites=(Sprite("star", "blue", x=6, y=8),))

    def change(speed: float) -> float:
        clip = world.film(start, Motion(kind, speed, direction=0.4), frames=5, fps=7).astype(int)
        assert np.array_equal(clip[0], world.draw(start))
        return float(np.abs(np.diff(clip, axis=0)).mean())

    assert change(0) == 0
    assert 0 < change(3) < change(9)


@pytest.mark.parametrize("fps", [4, 7, 20])
def test_the_speed_is_in_pixels_per_second_whatever_the_frame_rate(fps: int) -> None:
    moved = world.at_time(scene(), Motion("drift", 8.0), seconds=7 / fps)
    assert moved.sprites[0].x == pytest.approx(8.0 * 7 / fps)


@pytest.mark.parametrize("kind", ["drift", "pan", "shake", "bounce"])
def test_a_moving_subject_stays_in_the_picture(kind: str) -> None:
    rng = chance(3)
    for _ in range(50):
        start = world.random_scene(rng)
        motion = world.random_motion(rng, 255, (kind,))
        for t in range(14):
            now = world.at_time(start, motion, t / 4)
            hero = now.sprites[0]
            assert abs(hero.x - now.camera[0]) < 32
            assert abs(hero.y - now.camera[1]) < 32


OWN = {"fish": "drift", "house": "pan", "boat": "shake", "tree": "grow", "star": "spin", "cat": "bounce"}


@pytest.mark.parametrize(("subject", "kind"), [*OWN.items(), ("mushroom", "bounce"), ("zaduko", "bounce")])
def test_a_subject_moves_in_its_own_way_as_fast_as_the_bucket_asks(subject: str, kind: str) -> None:
    start = scene(sprites=(Sprite(subject, "blue", x=3),))
    still, moving = (world.own_motion(start, bucket) for bucket in (0, 255))
    assert (moving.kind, moving.speed) == (kind, pytest.approx(16))
    assert np.array_equal(*world.film(start, still, frames=2, fps=1))
    assert not np.array_equal(*world.film(start, moving, frames=2, fps=2))


def test_a_car_goes_where_its_head_is() -> None:
    start = scene(sprites=(Sprite("car", "blue", angle=0.2),))
    hero = world.at_time(start, world.own_motion(start, 255), seconds=0.5).sprites[0]
    assert np.arctan2(-hero.y, hero.x) == pytest.approx(0.2)  # an angle turns up, y goes down


def test_an_unknown_motion_is_named() -> None:
    with pytest.raises(ValueError, match="unknown motion 'hop': one of drift, bounce"):
        world.at_time(scene(), Motion("hop", 1), 1)


def test_a_companion_is_drawn_beside_the_hero_and_behind_it() -> None:
    hero, companion = Sprite("fish", "red", x=-10), Sprite("star", "blue", x=20, radius=8)
    alone, both = world.draw(scene(sprites=(hero,))), world.draw(scene(sprites=(hero, companion)))
    assert np.abs(alone.astype(int) - both)[:, 40:].max() > 50
    assert np.array_equal(alone[30:34, 18:26], both[30:34, 18:26])
