"""Frames between two pictures are compared with mixes of the two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nodes.dataset.scan.cut_mixing import Mix, Stretch, signature

Picture = NDArray[np.float64]
STEPS = np.linspace(0, 1, 17)


def stripes(axis: int) -> Picture:
    """A picture (36, 64, 3) of stripes of light and dark; those of one axis have nothing in common with the other's."""
    light = np.indices((36, 64))[axis] // 4 % 2 == 0
    return np.repeat(light[..., None] * 200.0, 3, axis=-1)


A, B, GREY = stripes(0), stripes(1), np.full((36, 64, 3), 100.0)


def compared(frames: Sequence[Picture]) -> Mix:
    """The first frame and the last with those in between."""
    stretch = Stretch([signature(frame.astype(np.uint8)) for frame in frames])
    mix = stretch.mix(np.array([0]), np.array([len(frames) - 1]))
    return Mix(*(float(numbers[0]) for numbers in mix))  # type: ignore[arg-type]


def approximately(**values: float) -> Mix:
    return Mix(**{name: pytest.approx(value, abs=0.01, rel=1e-3) for name, value in values.items()})


def test_a_dissolve_is_a_mix_whose_contrast_sags_to_half() -> None:
    found = compared([A * (1 - share) + B * share for share in STEPS])
    assert found == approximately(change=200 * 0.5**0.5, likeness=0, sag=0.5, astray=0, uneven=0)


def test_where_nothing_happens_nothing_sags() -> None:
    found = compared([A] * 17)
    assert (found.change, found.likeness, found.sag) == pytest.approx((0, 1, 0), abs=0.05)


def test_only_the_light_changes() -> None:
    found = compared([B * (1 - share / 2) for share in STEPS])
    most = (1 - 7 / 16) ** 2 / ((1 + 0.5**2) / 2)  # of the frames that are looked at, the darkest
    assert found == approximately(change=100 * 0.5**0.5, likeness=1, sag=1 - most, astray=0, uneven=0)


def test_a_hard_cut_is_no_mix_and_loses_no_contrast() -> None:
    found = compared([A] * 8 + [B] * 9)
    away = [*(1 / 8, 2 / 8, 3 / 8), *(4 / 8, 3 / 8, 2 / 8, 1 / 8)]
    contrast = [1 - (1 - share) ** 2 - share**2 for share in away]
    astray, uneven = np.mean(np.square(away)), np.mean(np.square(contrast))
    assert found.sag == pytest.approx(0, abs=0.01)
    assert (found.astray, found.uneven) == pytest.approx((astray, uneven), rel=0.02)


def test_a_plain_picture_in_between_takes_all_contrast() -> None:
    found = compared([*[A] * 4, *[GREY] * 9, *[B] * 4])
    assert found.sag == pytest.approx(1)
    assert found.astray > 0.2
    assert found.uneven > 0.2


def test_each_pair_has_its_own_numbers() -> None:
    stretch = Stretch([signature(frame.astype(np.uint8)) for frame in (A, A, (A + B) / 2, B, B)])
    mix = stretch.mix(np.array([0, 1, 0]), np.array([4, 3, 2]))
    assert mix.change == pytest.approx([141.42, 141.42, 70.71], abs=0.01)
    assert mix.sag == pytest.approx([0.5, 0.5, 1 / 3], abs=0.01)
