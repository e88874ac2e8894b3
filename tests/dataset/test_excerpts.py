"""Clips cut out of videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from nodes.dataset.excerpts import write_copy, write_exact
from nodes.dataset.footage import Footage, Frame
from tests.dataset.films import REAL, sprites, three_shots, write


def apart(clip: list[Frame], source: list[Frame]) -> list[float]:
    """Mean differences of their frames, in levels of 255."""
    return [float(np.abs(a.picture.astype(int) - b.picture).mean()) for a, b in zip(clip, source, strict=True)]


def test_an_exact_clip_has_the_frames_and_times_of_its_source(tmp_path: Path) -> None:
    frames = list(Footage(REAL / "bikes.mp4"))
    write_exact(tmp_path / "clip.mp4", REAL / "bikes.mp4", frames[37].time, 2.0)
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert max(apart(clip, frames[37:87])) < 3
    assert [frame.time for frame in clip] == pytest.approx([i / 25 for i in range(50)], abs=1e-3)


def test_a_variable_frame_rate_stays_as_it_is(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.54, 1.2, 1.25, 1.9, 2.5]
    path = write(tmp_path / "a.mp4", sprites(1)[:8], times=times)
    write_exact(tmp_path / "clip.mp4", path, 0.5, 1.4)
    assert [f.time for f in Footage(tmp_path / "clip.mp4")] == pytest.approx([0, 0.04, 0.7, 0.75], abs=1e-3)


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_a_copied_clip_has_the_very_pictures_of_its_source(b_frames: str, tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4", bf=b_frames, g="24")
    source = list(Footage(path))
    key = next(frame for frame in source if frame.key and frame.index > 40)
    write_copy(tmp_path / "clip.mp4", path, key.time, 1.5)
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert 36 - 4 <= len(clip) <= 36
    assert max(apart(clip, source[key.index : key.index + len(clip)])) == 0


@pytest.mark.parametrize("write_clip", [write_exact, write_copy])
def test_equal_clips_are_equal_files(write_clip: object, tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4")
    for name in ("one.mp4", "two.mp4"):
        write_clip(tmp_path / name, path, 2.0, 1.0)  # type: ignore[operator]
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_source_that_was_replaced_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1, seconds=1))
    with pytest.raises(InputError, match=r"has no frame at 5\.00 s any more"):
        write_exact(tmp_path / "clip.mp4", path, 5.0, 1.0)
    with pytest.raises(InputError, match="has no key frame"):
        write_copy(tmp_path / "clip.mp4", path, 0.5, 1.0)
