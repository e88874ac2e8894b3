"""When frames are shown, in files whose timestamps are wrong. True times are known, since the files are made here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import InputError
from engine.node import Context
from nodes.dataset.save.excerpts import Clip, write_copy, write_exact
from nodes.dataset.scan.scanner import ScanSettings, scan
from nodes.files.footage import Footage, Frame, Opening
from nodes.files.nodes import LoadVideo
from nodes.files.timing import Clock
from tests.dataset.films import Frames, sprites, three_shots, write

FPS = 24
PLACEHOLDER = b"\0\0\1\xb6\x50\0\x7f"
"""An MPEG-4 frame without a picture."""


def packed(packets: list[av.Packet]) -> list[av.Packet]:
    """The packets as old AVI files have them: a B-frame is in one packet with the frame that it needs."""
    found: list[av.Packet] = []
    while packets:
        first, *packets = packets
        follows = bool(packets) and (packets[0].pts or 0) < (first.pts or 0)
        data = [bytes(first) + bytes(packets[0]), PLACEHOLDER] if follows else [bytes(first)]
        if not found:
            data[0] = b"\0\0\1\xb2DivX503b1393p\0" + data[0]
        for each in data:
            found.append(av.Packet(each))
            found[-1].is_keyframe = first.is_keyframe and each != PLACEHOLDER
        packets = packets[follows:]
    return found


def faulty(path: Path, film: Frames) -> Path:
    """A file of a film, each of whose packets is listed at the time at which it is decoded.

    So PTS don't say when frames are shown: B-frames are shown before what is stored before them.
    """
    if path.name == "b_frames.avi":  # AVI has no other times
        return write(path, film, bf="3", g="24")
    old = path.stem == "packed"
    options = {"codec": "mpeg4", "bf": "1", "g": "12", "qmin": "2", "qmax": "2"} if old else {"bf": "3", "g": "24"}
    if path.name == "hevc.mp4":
        options |= {"codec": "libx265", "x265-params": "open-gop=1:log-level=none"}
    with av.open(str(write(path.with_name("sound.mp4"), film, **options))) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size]
        with av.open(str(path), "w") as container:
            copied = container.add_stream_from_template(stream)
            for number, packet in enumerate(packed(packets) if old else packets):
                packet.pts, packet.dts, packet.duration = number, number, 1
                packet.stream, packet.time_base = copied, Fraction(1, FPS)
                container.mux(packet)
    return path


FAULTY = ("listed_as_decoded.mp4", "b_frames.avi", "packed.avi")


@pytest.mark.parametrize("name", FAULTY)
def test_frames_whose_timestamps_are_wrong_are_shown_evenly_and_in_order(name: str, tmp_path: Path) -> None:
    film = sprites(1)
    footage = Footage(faulty(tmp_path / name, film))
    with footage.opened() as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps), "the fault is there"
    frames = list(footage)
    assert [frame.time for frame in frames] == pytest.approx([i / FPS for i in range(48)], abs=1e-6)
    errors = [np.abs(f.picture[..., ::-1].astype(int) - shown).mean() for f, shown in zip(frames, film, strict=True)]
    assert max(errors) < 4
    assert footage.opening.basis == "dts"
    assert not footage.damage


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_no_time(threads: int, tmp_path: Path) -> None:
    path = faulty(tmp_path / "b_frames.avi", sprites(1))
    assert [frame.time for frame in Footage(path, threads)] == [frame.time for frame in Footage(path)]


@pytest.mark.parametrize("name", FAULTY)
def test_a_scan_and_a_loaded_video_have_the_true_length(name: str, tmp_path: Path) -> None:
    shots = np.concatenate([sprites(1, 2), sprites(2, 3)])
    path = faulty(tmp_path / name, shots)
    true = scan(write(tmp_path / "true.mp4", shots), ScanSettings(text=False))
    found = scan(path, ScanSettings(text=False))
    assert found.video["seconds"] == pytest.approx(5, abs=1e-6)
    for clip, known in zip(found.clips, true.clips, strict=True):
        assert (clip["first_frame"], clip["end_frame"]) == (known["first_frame"], known["end_frame"])
        assert (clip["start"], clip["seconds"]) == pytest.approx((known["start"], known["seconds"]), abs=1e-3)
        assert clip["motion"] == pytest.approx(known["motion"], rel=0.1)
    video = LoadVideo(file=str(path)).run(Context())
    assert (video.fps, len(video.frames)) == (FPS, 120)
    assert len(LoadVideo(file=str(path), start=2.0).run(Context()).frames) == 72


@pytest.mark.parametrize("name", [*FAULTY, "hevc.mp4"])
def test_clips_of_such_files_have_their_very_frames(name: str, tmp_path: Path) -> None:
    path = faulty(tmp_path / name, np.concatenate([sprites(1, 2), sprites(2, 3)]))
    source = list(Footage(path))
    for first, end in ((0, 48), (48, 120), (60, 84)):
        write_exact(tmp_path / "clip.mp4", Footage(path), Clip(source[first].time, (end - first) / FPS, first, end))
        clip = list(Footage(tmp_path / "clip.mp4"))
        assert [frame.time for frame in clip] == pytest.approx([i / FPS for i in range(end - first)], abs=1e-3)
        for frame, known in zip(clip, source[first:end], strict=True):
            assert np.abs(frame.picture.astype(int) - known.picture).mean() < 4
    with pytest.raises(InputError, match="can't be copied: its timestamps are wrong") as caught:
        write_copy(tmp_path / "clip.mp4", Footage(path), Clip(source[48].time, 1.0, 48, 72))
    assert caught.value.hint == "save it `exact`"


def test_a_clip_is_counted_out_where_its_frames_go_by_another_timestamp_than_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = faulty(tmp_path / "b_frames.avi", sprites(1, 3))
    source = list(Footage(path))
    footage = Footage(path)
    list(footage.frames(source[24].time))
    footage.opening = Opening(footage.opening.time, "pts")
    assert list(footage.frames(source[24].time))
    assert not footage.steady
    sought = Footage.frames

    def misled(self: Footage, begin: float | None = None, layout: str = "bgr24") -> Iterator[Frame]:
        """As if seeking had led to the next frame."""
        for frame in sought(self, begin and begin + 1 / FPS, layout):
            self.steady &= begin is None
            yield frame

    monkeypatch.setattr(Footage, "frames", misled)
    write_exact(tmp_path / "clip.mp4", Footage(path), Clip(source[24].time, 1.0, 24, 48))
    clip = list(Footage(tmp_path / "clip.mp4"))
    assert all(np.abs(f.picture.astype(int) - s.picture).mean() < 4 for f, s in zip(clip, source[24:48], strict=True))


def test_the_clock_goes_by_pts_until_it_fails_more_often_than_dts() -> None:
    def chosen(stamps: list[tuple[int | None, int | None]]) -> list[int | None]:
        clock, found = Clock(), []
        for pts, dts in stamps:
            clock.see(pts, dts)
            found.append(clock.choose(pts, dts)[0])
        return found

    assert chosen([(0, 5), (1, 6), (4, 7)]) == [0, 1, 4], "PTS as long as it rises"
    assert chosen([(0, 5), (4, 6), (2, 7), (9, 8), (9, None)]) == [0, 4, 7, 8, None], "DTS once it didn't"
    assert chosen([(0, 5), (1, 6), (0, 5), (1, 6)]) == [0, 1, 0, 1], "a clock that restarts has both fall"
    assert chosen([(None, 5), (6, 7), (None, 8)]) == [5, 6, 8], "DTS where there is no PTS"
    assert chosen([(3, None), (1, None), (2, None)]) == [3, 1, 2], "PTS where there is no DTS"
    assert chosen([(None, None)]) == [None]
    assert chosen([(1, 1), (1, 2), (2, 3)]) == [1, 2, 3], "one that stays is at fault too"


def patched(path: Path, name: bytes, offset: int, *values: int) -> None:
    """Overwrite four-byte numbers of an MP4's box."""
    data = bytearray(path.read_bytes())
    at = data.index(name) + 4 + offset
    data[at : at + 4 * len(values)] = b"".join(value.to_bytes(4, "big", signed=value < 0) for value in values)
    path.write_bytes(bytes(data))


def test_a_last_frame_that_claims_to_last_for_long_lengthens_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1, 3), bf="0", times=[*(i / FPS for i in range(72))])
    with Footage(path).opened() as container:
        base = container.streams.video[0].time_base
    assert base is not None
    data = path.read_bytes()
    at = data.index(b"stts") + 8
    runs = int.from_bytes(data[at : at + 4], "big")
    patched(path, b"stts", 4 + 4 + 8 * (runs - 1) + 4, round(30 / base))
    patched(path, b"mdhd", 16, round(33 / base))
    patched(path, b"elst", 8, 33_000)
    patched(path, b"tkhd", 20, 33_000)
    with Footage(path).opened() as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert float(stream.duration * base) > 30, "the fault is there"
    footage = Footage(path)
    assert footage.duration == pytest.approx(3, abs=0.05)
    assert footage.fps == pytest.approx(FPS, rel=0.02)
    assert list(footage)[-1].time == pytest.approx(71 / FPS, abs=1e-3)
    assert not footage.damage
    assert scan(path, ScanSettings(text=False)).video["seconds"] == pytest.approx(3, abs=0.01)
    assert len(LoadVideo(file=str(path), fps=FPS).run(Context()).frames) == 72


def test_an_edit_list_leaves_out_what_it_says_and_frames_are_found_after_it(tmp_path: Path) -> None:
    path = three_shots(tmp_path / "a.mp4", g="24", bf="3")
    whole = list(Footage(path))
    with Footage(path).opened() as container:
        base = container.streams.video[0].time_base
    assert base is not None
    data = path.read_bytes()
    at = data.index(b"elst") + 4
    begin = int.from_bytes(data[at + 12 : at + 16], "big")
    patched(path, b"elst", 8, 4000, begin + round(1.5 / base))
    footage = Footage(path)
    frames = list(footage)
    assert footage.steady
    assert not footage.damage
    assert len(frames) == pytest.approx(4 * FPS, abs=3)
    assert np.array_equal(frames[0].picture, whole[36].picture)
    assert [frame.time for frame in frames[:90]] == pytest.approx([i / FPS for i in range(90)], abs=1e-3)
    found = list(footage.frames(frames[40].time))
    assert np.array_equal(found[0].picture, whole[76].picture)


def test_a_gap_in_the_recording_stays(tmp_path: Path) -> None:
    times = [i / FPS + (5.0 if i >= 24 else 0.0) for i in range(48)]
    path = write(tmp_path / "a.mkv", sprites(1), bf="3", times=times)
    footage = Footage(path)
    assert [frame.time for frame in footage] == pytest.approx(times, abs=2e-3)
    assert footage.steady
    assert math.isclose(scan(path, ScanSettings(text=False)).video["seconds"], 7, abs_tol=0.01)


@pytest.mark.parametrize("name", ["bare.h264", "bare.m2v"])
def test_a_bare_stream_which_has_no_times_is_shown_at_its_rate_from_the_start(name: str, tmp_path: Path) -> None:
    codec = "mpeg2video" if name.endswith(".m2v") else "libx264"
    path = write(tmp_path / name, sprites(1), FPS, codec=codec)
    frames = list(Footage(path))
    assert [frame.time for frame in frames] == pytest.approx([number / FPS for number in range(48)])
