"""Clips that show the same are grouped whatever was done to them; clips that only look alike at a glance are not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.sprite import world
from nodes.dataset.scan.duplicates import COLOUR, ROWS, SIZE, fingerprint, groups
from nodes.files.footage import Picture

Clip = list[Picture]


def clip(seed: int, start: int = 0) -> Clip:
    """Five frames of a moving figure, from the given frame of its film on."""
    rng = np.random.default_rng(seed)
    scene, motion = world.random_scene(rng), world.random_motion(rng, 200)
    frames = world.film(scene, motion, start + 25, 24)[start::6]
    return [
        cv2.resize(frame[..., ::-1], (320, 180), interpolation=cv2.INTER_CUBIC).astype(np.uint8) for frame in frames
    ]


def compressed(picture: Picture) -> Picture:
    """The pictures after compression as low-quality JPEG."""
    decoded = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 15])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(np.uint8)


def halved(picture: Picture) -> Picture:
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8)


def trimmed(picture: Picture) -> Picture:
    """5 % off each side."""
    return picture[9:-9, 16:-16]


def lit(picture: Picture, factor: float) -> Picture:
    return np.clip(picture * np.float32(factor), 0, 255).astype(np.uint8)


def grouped(*clips: Clip) -> list[int]:
    return groups(np.stack([fingerprint(pictures) for pictures in clips]))


def prints(count: int) -> NDArray[np.uint8]:
    """Fingerprints of unrelated clips."""
    rng = np.random.default_rng(0)
    return np.stack([fingerprint([rng.integers(0, 256, (12, 12, 3), np.uint8)]) for _ in range(count)])


def test_a_fingerprint_is_bytes_of_one_size_whatever_the_pictures() -> None:
    for pictures in ([np.zeros((1, 1, 3), np.uint8)], clip(0), clip(0)[:2], [np.zeros((90, 1600, 3), np.uint8)] * 8):
        found = fingerprint(pictures)
        assert (found.shape, found.dtype) == ((SIZE,), np.uint8)


def test_no_pictures_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="needs a picture"):
        fingerprint([])


@pytest.mark.parametrize(
    "change",
    [
        compressed,
        halved,
        trimmed,
        lambda picture: lit(picture, 1.1),
        lambda picture: lit(picture, 0.9),
        lambda picture: compressed(halved(trimmed(lit(picture, 1.1)))),
    ],
    ids=["compressed", "halved", "trimmed", "brighter", "darker", "all at once"],
)
def test_a_changed_clip_is_found_and_takes_the_first_ones_index(change: Callable[[Picture], Picture]) -> None:
    clips = [clip(seed) for seed in range(6)]
    changed = [[change(picture) for picture in pictures] for pictures in clips]
    assert grouped(*clips, *changed) == [*range(6), *range(6)]
    assert grouped(*changed, *clips) == [*range(6), *range(6)]


def test_a_later_part_of_the_scene_is_another_clip() -> None:
    assert grouped(clip(3), clip(3, start=48)) == [0, 1]


def test_a_clip_that_differs_in_its_last_moment_only_is_another() -> None:
    first, other = clip(1), clip(2)
    assert grouped(first, [*first[:-1], other[-1]]) == [0, 1]


def test_a_mirrored_clip_is_another() -> None:
    assert grouped(clip(1), [picture[:, ::-1] for picture in clip(1)]) == [0, 1]


def test_half_of_the_picture_is_another_clip() -> None:
    assert grouped(clip(1), [picture[:90, :160] for picture in clip(1)]) == [0, 1]


def test_other_colours_make_another_clip() -> None:
    assert grouped(clip(1), [picture[..., ::-1] for picture in clip(1)]) == [0, 1]


@pytest.mark.parametrize("moment", [0, 2, 4], ids=["first", "middle", "last"])
def test_a_tint_in_one_moment_only_makes_another_clip(moment: int) -> None:
    """Light is the same throughout, and so are the colours on average over the three moments."""
    first = clip(1)
    tinted = [picture.copy() for picture in first]
    light, *colours = cv2.split(cv2.cvtColor(tinted[moment], cv2.COLOR_BGR2YCrCb))
    moved = cv2.merge([light, *(cv2.add(colour, np.full_like(colour, 13)) for colour in colours)])
    tinted[moment] = cv2.cvtColor(moved, cv2.COLOR_YCrCb2BGR).astype(np.uint8)
    assert grouped(first, tinted) == [0, 1]
    assert grouped(first, [*first]) == [0, 0]


def test_plain_clips_duplicate_nothing() -> None:
    black, noise = np.zeros((90, 160, 3), np.uint8), np.random.default_rng(0).integers(0, 3, (90, 160, 3), np.uint8)
    assert grouped([black], [black], [noise], [black + 200]) == [0, 1, 2, 3]


def test_dark_clips_are_distinguished_and_still_found() -> None:
    dark = [[lit(picture, 0.1) for picture in clip(seed)] for seed in range(3)]
    assert grouped(*dark, [halved(picture) for picture in dark[1]]) == [0, 1, 2, 1]


def test_a_plain_first_moment_matches_only_a_plain_one() -> None:
    black = np.zeros_like(clip(1)[0])
    faded = [black, *clip(1)[1:]]
    assert grouped(faded, clip(1), [trimmed(picture) for picture in faded]) == [0, 1, 0]


def test_likeness_does_not_drift_from_clip_to_clip() -> None:
    """In a row of clips, each like the next, all are grouped with one that they resemble directly."""
    start, end = (np.float32(fingerprint(clip(seed))) for seed in (1, 2))
    row = np.stack([np.uint8(start + (end - start) * step / 20) for step in range(21)])
    row[:, -np.prod(COLOUR) :] = row[0, -np.prod(COLOUR) :]  # only light is to distinguish them
    found = groups(row)
    assert 1 < len(set(found)) < 21
    for place, first in enumerate(found):
        assert found[first] == first
        assert groups(row[[first, place]]) == [0, 0] or place == first


def test_duplicates_are_found_across_blocks_and_the_same_each_time() -> None:
    many = prints(ROWS + 40)
    copies = many[[3, ROWS + 5, 3]]
    found = groups(np.concatenate([many, copies]))
    assert found == [*range(len(many)), 3, ROWS + 5, 3]
    assert groups(np.concatenate([many, copies])) == found


def test_no_clips_no_groups() -> None:
    assert groups(np.empty((0, SIZE), np.uint8)) == []


def test_what_counts_as_the_same_can_be_set() -> None:
    pair = np.stack([fingerprint(clip(1)), fingerprint([trimmed(compressed(picture)) for picture in clip(1)])])
    assert groups(pair) == [0, 0]
    assert groups(pair, similar=0.9999) == [0, 1]
