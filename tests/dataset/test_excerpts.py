"""Clips cut out of videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import InputError
from nodes.dataset.excerpts import Clip, write_copy, write_exact
from nodes.dataset.footage import Footage, Frame
from tests.dataset.films import REAL, sprites, three_shots, write


def apart(clip: list[Frame], source: list[Frame]) -> list[float]:
    """Mean differences of their frames, in levels of 255."""
    return [float(np.abs(a.picture.astype(int) - b.picture).mean()) for a, b in zip(clip, source, strict=True)]


def test_an_exact_clip_has_the_frames_and_times_of_its_source(tmp_path: Path) -> None:
    frames = list(Footage(REAL / "bikes.mp4"))
    write_exact(tmp_path / "clip.mp4", REAL / "bikes.mp4", Clip(frames[37].time, 2.0, 37, 87))
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert max(apart(clip, frames[37:87])) < 3
    assert [frame.time for frame in clip] == pytest.approx([i / 25 for i in range(50)], abs=1e-3)


def test_a_variable_frame_rate_stays_as_it_is(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.54, 1.2, 1.25, 1.9, 2.5]
    path = write(tmp_path / "a.mp4", sprites(1)[:8], times=times)
    write_exact(tmp_path / "clip.mp4", path, Clip(0.5, 1.4, 2, 6))
    assert [f.time for f in Footage(tmp_path / "clip.mp4")] == pytest.approx([0, 0.04, 0.7, 0.75], abs=1e-3)


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_a_copied_clip_has_the_very_pictures_of_its_source(b_frames: str, tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4", bf=b_frames, g="24")
    source = list(Footage(path))
    key = next(frame for frame in source if frame.key and frame.index > 40)
    write_copy(tmp_path / "clip.mp4", path, Clip(key.time, 1.5, key.index, key.index + 36))
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert 36 - 4 <= len(clip) <= 36
    assert max(apart(clip, source[key.index : key.index + len(clip)])) == 0


@pytest.mark.parametrize("write_clip", [write_exact, write_copy])
def test_equal_clips_are_equal_files(write_clip: object, tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4")
    for name in ("one.mp4", "two.mp4"):
        write_clip(tmp_path / name, path, Clip(2.0, 1.0, 48, 72))  # type: ignore[operator]
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_source_that_was_replaced_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1, seconds=1))
    with pytest.raises(InputError, match="doesn't have the frames of a clip any more"):
        write_exact(tmp_path / "clip.mp4", path, Clip(5.0, 1.0, 120, 144))
    with pytest.raises(InputError, match="no key frame is there") as caught:
        write_copy(tmp_path / "clip.mp4", path, Clip(0.5, 0.4, 12, 22))
    assert "at_key_frames" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.avi", "a.flv"])
def test_where_seeking_is_inexact_clips_are_exact_all_the_same(name: str, tmp_path: Path) -> None:
    codec, pixels = ("mpeg2video", "yuv420p") if name == "a.mpg" else ("libx264", "yuv420p")
    path = three_shots(tmp_path / name, codec=codec, pixels=pixels)
    source = list(Footage(path))
    for first, end in ((0, 48), (48, 120), (120, 168)):
        clip = Clip(source[first].time, source[end - 1].time + 1 / 24 - source[first].time, first, end)
        write_exact(tmp_path / "clip.mp4", path, clip)
        assert max(apart(list(Footage(tmp_path / "clip.mp4")), source[first:end])) < 8
