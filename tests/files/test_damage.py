"""Which frames of damaged files are marked: those that the damage reaches, and no others."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
from av.codec.context import Flags

from nodes.dataset.scan.scanner import ScanSettings, scan
from nodes.files.damage import HELD, DamageFinder
from nodes.files.footage import Footage
from tests.dataset.films import sprites, three_shots, write

FORMATS: dict[str, dict[str, str]] = {
    "h264.mp4": {"bf": "0", "g": "24"},
    "b_frames.mp4": {"bf": "3", "g": "24"},
    "hevc.mp4": {"codec": "libx265", "x265-params": "keyint=24:log-level=none"},
    "transport.ts": {"bf": "3", "g": "24"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "0", "g": "24", "qmin": "2", "qmax": "3"},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "bf": "2", "g": "24", "qmin": "2", "qmax": "3"},
}
AT = {"transport.ts": 200}
"""Where in a packet damage begins, in bytes; 20 in other formats."""


def places(path: Path) -> list[tuple[int, int]]:
    """Where in a file each packet is, and its size, as they are decoded."""
    with av.open(str(path)) as container:
        return [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]


def damage(path: Path, at: int, size: int = 1500) -> Path:
    """Overwrite some bytes of a file."""
    data = bytearray(path.read_bytes())
    data[at : at + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_only_clips_that_damage_lies_in_are_marked(name: str, tmp_path: Path) -> None:
    path = three_shots(tmp_path / name, **FORMATS[name])
    whole = Footage(path)
    assert not any(frame.damaged for frame in whole)
    assert not whole.damage
    found = scan(damage(path, places(path)[80][0] + AT.get(name, 20)), ScanSettings(text=False))
    before, *within, after = found.clips
    assert [before["damaged"], after["damaged"]] == [0, 0]
    assert (before["first_frame"], before["end_frame"]) == (0, 48)
    assert (after["end_frame"] - after["first_frame"], after["seconds"]) == (48, pytest.approx(2, abs=1e-3))
    assert 0 < sum(clip["damaged"] for clip in within) <= 2
    assert found.video["problem"]


@pytest.mark.parametrize("name", FORMATS)
def test_frames_are_marked_up_to_the_next_key_frame(name: str, tmp_path: Path) -> None:
    path = three_shots(tmp_path / name, **FORMATS[name])
    good = {frame.picture.tobytes() for frame in Footage(path)}
    frames = list(Footage(damage(path, places(path)[80][0] + AT.get(name, 20))))
    marked = [frame for frame in frames if frame.damaged]
    following = frames[marked[-1].index + 1]
    assert following.key
    assert 3 < marked[0].time < following.time < 4.1
    assert all(frame.damaged or frame.picture.tobytes() in good for frame in frames)


@pytest.mark.parametrize("name", FORMATS)
def test_several_threads_mark_no_frame_since_they_report_damage_late(name: str, tmp_path: Path) -> None:
    path = three_shots(tmp_path / name, **FORMATS[name])
    footage = Footage(damage(path, places(path)[80][0] + AT.get(name, 20)), threads=4)
    frames = list(footage)
    assert len(frames) > 140
    assert not any(frame.damaged for frame in frames)


def test_a_frame_that_is_shown_in_place_of_a_lost_one_is_marked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1), g="1", bf="0")
    at, size = places(path)[10]
    frames = list(Footage(damage(path, at, size)))
    assert [frame.index for frame in frames if frame.damaged] == [9]
    assert [b.time - a.time for a, b in pairwise(frames)][9] == pytest.approx(2 / 24, abs=1e-3)
    at, size = places(write(path, sprites(1), g="1", bf="0"))[-1]
    frames = list(Footage(damage(path, at, size)))
    assert [frame.index for frame in frames if frame.damaged] == [46]


def test_marks_outlive_deinterlacing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(8, 3), g="24", bf="0", **{"x264-params": "tff=1"})
    footage = Footage(damage(path, places(path)[34][0] + 20))
    marked = [frame.index for frame in footage if frame.damaged]
    assert footage.interlaced
    assert marked[0] >= 30
    assert marked[-1] < 48


class Decoder:
    """Stands for a decoder that gives frames in an order of its own."""

    def __init__(self, codec: str = "h264") -> None:
        self.finder = DamageFinder(cast(Any, SimpleNamespace(flags=Flags.bitexact, name=codec)))
        self.marks: dict[int, bool] = {}

    def sends(self, *pts: int, **packet: Any) -> None:
        for each in pts:
            about = {"pts": each, "dts": each, "duration": 1, "is_corrupt": False} | packet
            self.finder.send(cast(Any, SimpleNamespace(**about)))

    def fails(self, pts: int) -> None:
        self.sends(pts)
        self.finder.fail()

    def shows(self, number: int, pts: int, *, key: bool = False, corrupt: bool = False) -> None:
        frame = SimpleNamespace(opaque=number, pts=pts, key_frame=key, is_corrupt=corrupt)
        self._note(self.finder.take(cast(Any, frame)))

    def ends(self) -> dict[int, bool]:
        """The marks of all frames, by PTS."""
        self._note(self.finder.rest())
        return self.marks

    def _note(self, frames: Any) -> None:
        self.marks |= {frame.pts: frame.opaque for frame in frames}


def test_frames_that_are_shown_before_the_bad_one_that_they_are_built_on_are_marked_too() -> None:
    decoder = Decoder()
    decoder.sends(0, 3, 1, 2)
    decoder.shows(0, 0, key=True)
    decoder.shows(2, 1)
    decoder.shows(3, 2)
    decoder.shows(1, 3, corrupt=True)
    assert decoder.ends() == {0: False, 1: True, 2: True, 3: True}


def test_what_failed_between_a_key_frame_and_the_frames_before_it_harms_nothing_after() -> None:
    decoder = Decoder()
    decoder.sends(0, 4)
    decoder.shows(0, 0, key=True)
    decoder.fails(2)
    decoder.sends(3, 5)
    decoder.shows(3, 3)
    decoder.shows(1, 4, key=True)
    decoder.shows(4, 5)
    assert decoder.ends() == {0: False, 3: True, 4: False, 5: False}


def test_what_failed_after_a_key_frame_that_is_shown_late_harms_what_comes_then() -> None:
    decoder = Decoder()
    decoder.sends(0, 1)
    decoder.shows(0, 0, key=True)
    decoder.fails(5)
    decoder.shows(1, 1, key=True)
    decoder.sends(6)
    decoder.shows(3, 6)
    assert decoder.ends() == {0: False, 1: False, 6: True}


@pytest.mark.parametrize(("codec", "marked"), [("h264", False), ("hevc", True)])
def test_a_decoder_that_fails_late_has_the_packet_before_marked_too(codec: str, marked: bool) -> None:
    decoder = Decoder(codec)
    decoder.sends(0, 1, 2)
    decoder.shows(0, 0, key=True)
    decoder.shows(1, 1)
    decoder.shows(2, 2)
    decoder.fails(3)
    decoder.sends(4)
    decoder.shows(4, 4)
    assert decoder.ends() == {0: False, 1: False, 2: marked, 4: True}


def test_a_bad_key_frame_mends_nothing() -> None:
    decoder = Decoder()
    decoder.sends(0, 1, 2, 3)
    decoder.shows(0, 0, key=True)
    decoder.shows(1, 1, key=True, corrupt=True)
    decoder.shows(2, 2)
    decoder.shows(3, 3, key=True)
    assert decoder.ends() == {0: False, 1: True, 2: True, 3: False}


def test_packets_that_give_no_frame_hold_few_others_back() -> None:
    decoder = Decoder()
    decoder.sends(*range(40))
    for number in range(1, 40):
        decoder.shows(number, number)
        assert len(decoder.marks) >= number - HELD
    assert not any(decoder.ends().values())


@pytest.mark.parametrize(("gap", "marked"), [(0, False), (2, True)])
def test_a_packet_that_is_marked_as_corrupt_counts_where_others_are_missing(gap: int, marked: bool) -> None:
    decoder = Decoder()
    decoder.sends(0)
    decoder.shows(0, 0, key=True)
    decoder.sends(1, is_corrupt=True)
    decoder.shows(1, 1)
    decoder.sends(2 + gap)
    number = 3 if gap else 2  # the missing one is counted
    decoder.shows(number, 2 + gap)
    assert decoder.ends() == {0: False, 1: False, 2 + gap: marked}


def test_a_gap_without_a_corrupt_mark_is_a_variable_frame_rate(tmp_path: Path) -> None:
    times = [float(Fraction(i, 24)) + (1.0 if i >= 24 else 0.0) for i in range(48)]
    footage = Footage(write(tmp_path / "a.ts", sprites(1), bf="0", times=times))
    assert not any(frame.damaged for frame in footage)
    assert not footage.damage


def test_after_a_key_frame_none_is_held_back_for_packets_before_it() -> None:
    decoder = Decoder()
    decoder.sends(*range(10))
    decoder.shows(0, 0, key=True)
    decoder.shows(2, 2)
    for number in range(5, 10):
        decoder.shows(number, number, key=number == 5)
    assert 8 in decoder.marks, "only the last is held"
