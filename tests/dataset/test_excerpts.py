"""Clips cut out of videos."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from PIL import Image

from engine.errors import InputError
from nodes.dataset.save.excerpts import Clip, write_copy, write_exact
from nodes.files.footage import Footage, Frame
from tests.dataset.films import REAL, sprites, three_shots, write


def apart(clip: list[Frame], source: list[Frame]) -> list[float]:
    """Mean differences between the frames of two clips, in levels of 255."""
    return [float(np.abs(a.picture.astype(int) - b.picture).mean()) for a, b in zip(clip, source, strict=True)]


def test_an_exact_clip_has_the_frames_and_times_of_its_source(tmp_path: Path) -> None:
    frames = list(Footage(REAL / "bikes.mp4"))
    write_exact(tmp_path / "clip.mp4", Footage(REAL / "bikes.mp4"), Clip(frames[37].time, 2.0, 37, 87))
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert max(apart(clip, frames[37:87])) < 3
    assert [frame.time for frame in clip] == pytest.approx([i / 25 for i in range(50)], abs=1e-3)


def test_a_variable_frame_rate_stays_as_it_is(tmp_path: Path) -> None:
    times = [0, 0.04, 0.5, 0.54, 1.2, 1.25, 1.9, 2.5]
    path = write(tmp_path / "a.mp4", sprites(1)[:8], times=times)
    write_exact(tmp_path / "clip.mp4", Footage(path), Clip(0.5, 1.4, 2, 6))
    assert [f.time for f in Footage(tmp_path / "clip.mp4")] == pytest.approx([0, 0.04, 0.7, 0.75], abs=1e-3)


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_a_copied_clip_has_the_very_pictures_of_its_source(b_frames: str, tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4", bf=b_frames, g="24")
    source = list(Footage(path))
    key = next(frame for frame in source if frame.key and frame.index > 40)
    write_copy(tmp_path / "clip.mp4", Footage(path), Clip(key.time, 1.5, key.index, key.index + 36))
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert 36 - 4 <= len(clip) <= 36
    assert max(apart(clip, source[key.index : key.index + len(clip)])) == 0


@pytest.mark.parametrize("write_clip", [write_exact, write_copy])
def test_equal_clips_are_equal_files(write_clip: object, tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4")
    for name in ("one.mp4", "two.mp4"):
        write_clip(tmp_path / name, Footage(path), Clip(2.0, 1.0, 48, 72))  # type: ignore[operator]
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_source_that_was_replaced_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1, seconds=1))
    with pytest.raises(InputError, match="doesn't have the frames of a clip any more"):
        write_exact(tmp_path / "clip.mp4", Footage(path), Clip(5.0, 1.0, 120, 144))
    with pytest.raises(InputError, match="there is no key frame") as caught:
        write_copy(tmp_path / "clip.mp4", Footage(path), Clip(0.5, 0.4, 12, 22))
    assert "at_key_frames" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.avi", "a.flv"])
def test_where_seeking_is_inexact_clips_are_still_exact(name: str, tmp_path: Path) -> None:
    codec, pixels = ("mpeg2video", "yuv420p") if name == "a.mpg" else ("libx264", "yuv420p")
    path = three_shots(tmp_path / name, codec=codec, pixels=pixels)
    source = list(Footage(path))
    for first, end in ((0, 48), (48, 120), (120, 168)):
        clip = Clip(source[first].time, source[end - 1].time + 1 / 24 - source[first].time, first, end)
        write_exact(tmp_path / "clip.mp4", Footage(path), clip)
        assert max(apart(list(Footage(tmp_path / "clip.mp4")), source[first:end])) < 8


def test_a_frame_missed_by_seeking_is_searched_for_a_little_earlier_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.ts", np.concatenate([sprites(seed, 4) for seed in range(8)]), g="48")
    source = list(Footage(path))
    asked = list[float | None]()
    original = Footage.frames

    def frames(self: Footage, begin: float | None = None, layout: str = "bgr24") -> Any:
        asked.append(begin)
        return original(self, begin, layout)

    monkeypatch.setattr(Footage, "frames", frames)
    for first in (30, 300, 690):
        write_exact(tmp_path / "clip.mp4", Footage(path), Clip(source[first].time, 1.0, first, first + 24))
    assert None not in asked  # never decoded from the start


def test_clips_of_anamorphic_videos_have_the_shape_that_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1)[:, :96], aspect=Fraction(4, 3))
    source, clip = list(Footage(path)), Clip(0.0, 1.0, 0, 24)
    assert source[0].picture.shape == (96, 171, 3)
    write_exact(tmp_path / "exact.mp4", Footage(path), clip)
    write_copy(tmp_path / "copy.mp4", Footage(path), clip)
    exact, copy = Footage(tmp_path / "exact.mp4"), Footage(tmp_path / "copy.mp4")
    assert (exact.aspect, next(iter(exact)).picture.shape) == (1, (96, 170, 3))
    assert (copy.aspect, next(iter(copy)).picture.shape) == (pytest.approx(4 / 3), (96, 171, 3))


@pytest.mark.parametrize(("transfer", "hdr"), [(ColorTrc.SMPTE2084, "PQ"), (ColorTrc.ARIB_STD_B67, "HLG")])
@pytest.mark.parametrize("write_clip", [write_exact, write_copy])
def test_clips_of_a_high_dynamic_range_keep_it(
    write_clip: Callable[[Path, Footage, Clip], None], transfer: ColorTrc, hdr: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.mp4", sprites(1), pixels="yuv420p10le", transfer=transfer, bf="0")
    write_clip(tmp_path / "clip.mp4", Footage(path), Clip(0.0, 1.0, 0, 24))
    clip = Footage(tmp_path / "clip.mp4")
    assert (clip.hdr, clip.pixel_format) == (hdr, "yuv420p10le")
    with clip.opened() as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries) == (Colorspace.BT2020, ColorPrimaries.BT2020)
    assert max(apart(list(clip), list(Footage(path))[:24])) < 3


def test_a_codec_that_can_not_be_copied_is_named_as_the_file_has_it(tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    pictures = [Image.fromarray(picture) for picture in film]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100)
    write(tmp_path / "a.mkv", film, codec="ffv1")
    for name, codec in (("a.webp", "webp"), ("a.mkv", "ffv1")):
        with pytest.raises(InputError, match=f"{name} is in {codec}, which can't be copied into MP4") as caught:
            write_copy(tmp_path / "clip.mp4", Footage(tmp_path / name), Clip(0.0, 1.0, 0, 10))
        assert caught.value.hint == "save it `exact`"
