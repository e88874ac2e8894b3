"""When frames are shown, in files whose timestamps can't be taken at their word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, TypeAlias

import av

Basis: TypeAlias = Literal["pts", "dts", "none"]
"""The timestamp that a frame's time is from; "none" if it has none that can be trusted."""

AHEAD = 8
"""Frames that are looked at before the first is given: wrong timestamps show as soon as frames are reordered."""


class Clock:
    """Decides which of a frame's two timestamps to go by, as FFmpeg's "best effort" does.

    One (PTS) says when the frame is shown. The other (DTS) is of the packet that had the decoder give the frame, and so
    tells the order in which frames came. Both should only ever rise. PTS counts unless it is missing, or has failed to
    rise more often than DTS: as in AVI files with B-frames, whose frames are listed as they are stored.
    """

    def __init__(self) -> None:
        self._faults = {"pts": 0, "dts": 0}
        self._last: dict[str, int | None] = {"pts": None, "dts": None}
        self._has_dts = False

    @property
    def trusted(self) -> bool:
        """Whether PTS can be gone by so far."""
        return self._faults["pts"] <= self._faults["dts"]

    def see(self, pts: int | None, dts: int | None) -> None:
        """Take note of the timestamps of the next frame."""
        self._has_dts |= dts is not None
        for name, stamp, other in (("dts", dts, pts), ("pts", pts, dts)):
            last = self._last[name]
            if stamp is not None and last is not None:
                self._faults[name] += stamp <= last
            self._last[name] = next((known for known in (stamp, other) if known is not None), last)

    def choose(self, pts: int | None, dts: int | None) -> tuple[int | None, Basis]:
        """The timestamp to go by, None if there is none, and which it is.

        The last frames of a file have no DTS. Where PTS isn't trusted, they have none to go by.
        """
        if pts is not None and (self.trusted or not self._has_dts):
            return pts, "pts" if self.trusted else "none"
        return dts, "none" if dts is None else "dts"


def timed(frames: Iterable[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, Basis]]:
    """Frames with their `pts` set to the timestamp to go by, and which it is."""
    frames, clock = iter(frames), Clock()
    ahead = list(islice(frames, AHEAD))
    for frame in ahead:
        clock.see(frame.pts, frame.dts)
    for frame in ahead:
        yield _timed(frame, clock)
    ahead.clear()
    for frame in frames:
        clock.see(frame.pts, frame.dts)
        yield _timed(frame, clock)


def _timed(frame: av.VideoFrame, clock: Clock) -> tuple[av.VideoFrame, Basis]:
    frame.pts, basis = clock.choose(frame.pts, frame.dts)
    return frame, basis
