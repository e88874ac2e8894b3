"""Videos as found in the wild: variable frame rates, rotation, odd sizes, deep colours, damage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorTrc

from engine.errors import InputError
from nodes.dataset.scan.cuts import CutFinder
from nodes.files.footage import Footage
from tests.dataset.films import REAL, sprites, three_shots, write


def test_frames_come_with_the_times_at_which_they_are_shown(tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.21, 3]
    footage = Footage(write(tmp_path / "a.mp4", sprites(1)[:8], times=times))
    assert [frame.time for frame in footage] == pytest.approx(times, abs=1e-3)
    assert [frame.index for frame in footage] == list(range(8))  # and anew
    assert not footage.damage


def test_recordings_that_were_joined_follow_on_from_each_other(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ts", sprites(1, seconds=0.5)).read_bytes()
    (tmp_path / "joined.ts").write_bytes(one * 3)  # each begins at its own clock's start
    footage = Footage(tmp_path / "joined.ts")
    assert [frame.time for frame in footage] == pytest.approx([index / 24 for index in range(36)], abs=1e-3)
    assert not footage.damage


def test_frames_with_b_frames_come_in_the_order_they_are_shown(tmp_path: Path) -> None:
    film = sprites(2)
    frames = list(Footage(write(tmp_path / "a.mp4", film, bf="3", g="12")))
    assert len(frames) == len(film)
    errors = [np.abs(f.picture[..., ::-1].astype(int) - shown).mean() for f, shown in zip(frames, film, strict=True)]
    assert max(errors) < 4
    assert [frame.index for frame in frames if frame.key][:3] == [0, 12, 24]


@pytest.mark.parametrize(("codec", "pixels"), [("libx264", "yuv420p10le"), ("libx264", "yuv444p"), ("ffv1", "yuv420p")])
def test_other_formats_are_read_as_eight_bits(codec: str, pixels: str, tmp_path: Path) -> None:
    film = sprites(3)[:10, :101, :75] if pixels == "yuv444p" else sprites(3)[:10]  # odd sides as well
    frames = list(Footage(write(tmp_path / "a.mkv", film, codec=codec, pixels=pixels)))
    assert [frame.picture.shape for frame in frames] == [film.shape[1:]] * 10
    assert np.abs(frames[5].picture[..., ::-1].astype(int) - film[5]).mean() < 4


def test_a_video_stored_sideways_is_rotated_upright(tmp_path: Path) -> None:
    film = sprites(4)[:5, :64]
    path = write(tmp_path / "a.mp4", film)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the track's display matrix
    data[at : at + 36] = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(bytes(data))
    turned = next(iter(Footage(path))).picture[..., ::-1]
    assert turned.shape == (128, 64, 3)
    assert np.abs(turned.astype(int) - np.rot90(film[0], -1)).mean() < 4


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    film = sprites(4)[:5, :96]
    wide = write(tmp_path / "wide.mp4", film, aspect=Fraction(4, 3))
    high = write(tmp_path / "high.mkv", film, aspect=Fraction(3, 4))
    absurd = write(tmp_path / "absurd.mp4", film, aspect=Fraction(100))
    for path, shape in ((wide, (96, 171, 3)), (high, (128, 128, 3)), (absurd, (96, 128, 3))):
        frame = next(iter(Footage(path)))
        assert frame.picture.shape == shape
        expected = cv2.resize(film[0], shape[1::-1], interpolation=cv2.INTER_CUBIC)
        assert np.abs(frame.picture[..., ::-1].astype(int) - expected).mean() < 4


def test_interlaced_video_is_deinterlaced(tmp_path: Path) -> None:
    moving = sprites(8, seconds=2, bucket=255)
    woven = moving[::2].copy()
    woven[:, 1::2] = moving[1::2, 1::2]
    path = write(tmp_path / "a.mp4", woven, g="12", **{"x264-params": "tff=1"})
    footage = Footage(path)
    frames = list(footage)
    assert footage.interlaced
    assert len(frames) == len(woven)
    assert [frame.time for frame in frames] == pytest.approx([i / 24 for i in range(len(woven))], abs=1e-3)
    assert next(frame.index for frame in frames if frame.key) == 0

    def combs(pictures: list[np.ndarray]) -> float:
        """How far lines are from the mean of their neighbours."""
        lines = np.stack(pictures).astype(float)
        return float(np.abs(lines[:, 1:-1] - (lines[:, :-2] + lines[:, 2:]) / 2).mean())

    whole = combs(list(moving[::2]))
    assert combs([frame.picture for frame in frames]) - whole < 0.3 * (combs(list(woven)) - whole)
    plain = Footage(write(tmp_path / "b.mp4", moving))
    assert len(list(plain)) == len(moving)
    assert not plain.interlaced


def test_more_frames_in_a_second_than_memory_allows_are_slowed_down(tmp_path: Path) -> None:
    pictures = np.repeat(sprites(1)[:1, :16, :16], 4000, axis=0)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=90_000, options={"preset": "ultrafast", "bf": "0"})
        stream.width = stream.height = 16
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    footage = Footage(tmp_path / "a.mp4")
    finder, most = CutFinder(footage.fps), 0
    for frame in footage:
        finder.add(frame)
        most = max(most, len(finder._times))
    assert frame.index == 3999
    assert frame.time == pytest.approx(4000 / 300, rel=0.01)
    assert most < 3300
    assert "more than 300 frames in a second" in footage.damage


def test_frames_are_found_by_their_times(tmp_path: Path) -> None:
    footage = Footage(three_shots(tmp_path / "a.mp4", g="24"))
    source = list(footage)
    found = list(footage.frames(source[60].time))
    assert [frame.index for frame in found] == list(range(108))
    assert [frame.time for frame in found] == pytest.approx([f.time - source[60].time for f in source[60:]], abs=1e-6)
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(found, source[60:], strict=True))
    assert not list(footage.frames(source[60].time + 0.02))


def test_a_high_dynamic_range_is_recognised(tmp_path: Path) -> None:
    for transfer, name in ((ColorTrc.SMPTE2084, "PQ"), (ColorTrc.ARIB_STD_B67, "HLG"), (None, "")):
        path = write(tmp_path / f"{name}.mp4", sprites(1)[:3], pixels="yuv420p10le", transfer=transfer)
        assert Footage(path).hdr == name


def test_frames_are_shrunk_as_pyscenedetect_shrinks_them() -> None:
    frame = next(iter(Footage(REAL / "bigbuckbunny.mp4")))
    assert frame.picture.shape == (720, 1280, 3)
    assert frame.small.shape == (144, 256, 3)


def test_a_truncated_file_gives_the_frames_that_it_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sprites(5, seconds=6))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    footage = Footage(path)
    frames = list(footage)
    assert 0 < len(frames) < 144


def test_damage_within_is_skipped_and_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(6, seconds=6), g="12")
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + len(data) // 3
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(bytes(data))
    footage = Footage(path)
    assert len(list(footage)) > 72
    assert "at" in footage.damage


def test_a_file_that_is_not_a_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4 is a text, not a video"):
        Footage(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"sound\.mp4 has sound, no video"):
        Footage(tmp_path / "sound.mp4")
