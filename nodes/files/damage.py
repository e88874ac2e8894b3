"""Which frames of a video are damaged, as far as its decoder or container notices."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.codec.context import Flags

HELD = 8
"""Frames held back, at most, since one that is decoded before them but shown later may turn out to be damaged."""
NEAR = 2
"""Packets after one that is marked as corrupt among which some may be missing."""
MISSING = 1.5
"""Durations of a packet until the next is decoded, from which on there was another between them."""
NOTICING = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
"""Decoders that notice most damage within a packet. Others often fail at the next only, with a wrong picture before."""


@dataclass
class _Held:
    frame: av.VideoFrame
    number: int
    damaged: bool


class DamageFinder:
    """Finds the frames that are damaged, or are built on some that are.

    Packets are numbered as they are decoded, and frames carry the numbers of theirs. Where a packet fails, frames from
    its number on are damaged, up to a key frame after it; those that are shown before that one are so too. If no frame
    is built on what was lost, the frame that is shown in its place counts as damaged.

    Args:
        codec: that decodes the packets; not opened yet, and with one thread: with several, failures are reported late.
    """

    def __init__(self, codec: av.VideoCodecContext) -> None:
        codec.flags |= Flags.copy_opaque
        self._notices = codec.name in NOTICING
        self._sent = -1
        """The number of the last packet."""
        self._coming: set[int] = set()
        """The packets that have given no frame so far, and didn't fail."""
        self._failed: dict[int, int | None] = {}
        """The packets that failed since the last key frame, with their PTS."""
        self._unseen: set[int] = set()
        """Those of them that have damaged no frame yet."""
        self._held: deque[_Held] = deque()
        """The last frames, as they are shown."""
        self._suspected = 0
        """How many more packets are near one that is marked as corrupt."""
        self._next: int | None = None
        """The DTS before which the next packet is due, if none is missing."""
        self._pts: int | None = None
        self._before: int | None = None
        """The PTS of the last packet, and of the one before."""

    def send(self, packet: av.packet.Packet[av.VideoStream]) -> None:
        """Number a packet, before it is decoded.

        A corrupt mark alone proves nothing: recordings that were joined have some too, but no gaps.
        """
        gap = packet.dts is not None and self._next is not None and packet.dts > self._next
        if self._suspected and gap:
            self._sent += 1
            self._fail(self._sent, None)
        self._suspected = 1 + NEAR if packet.is_corrupt else max(0, self._suspected - 1)
        self._sent += 1
        self._coming.add(self._sent)
        self._before, self._pts = self._pts, packet.pts
        self._next = None
        if packet.dts is not None and packet.duration:
            self._next = packet.dts + int(MISSING * packet.duration)
        packet.opaque = self._sent

    def fail(self) -> None:
        """Note that the last packet couldn't be decoded."""
        if not self._notices and self._sent - 1 not in self._failed and self._sent:
            self._fail(self._sent - 1, self._before)
        self._fail(self._sent, self._pts)

    def take(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Take in the next frame that is shown.

        Gives those of which it is known by now whether they are damaged: their `opaque` says so.
        """
        number = frame.opaque if isinstance(frame.opaque, int) else self._sent
        self._coming.discard(number)
        if frame.key_frame:
            self._begin_anew(number, frame.pts)
        if frame.is_corrupt:
            self._fail(number, frame.pts)
        damaged = any(failed <= number for failed in self._failed)
        if damaged:
            self._unseen = {failed for failed in self._unseen if failed > number}
        self._held.append(_Held(frame, number, damaged))
        while len(self._held) > 1 and (len(self._held) > HELD or not self._waits(self._held[0])):
            yield self._released()

    def rest(self) -> Iterator[av.VideoFrame]:
        """The last frames, once there are no more."""
        if self._unseen and self._held:
            self._held[-1].damaged = True
        while self._held:
            yield self._released()

    def _fail(self, number: int, pts: int | None) -> None:
        self._coming.discard(number)
        if number not in self._failed:
            self._failed[number] = pts
            self._unseen.add(number)
        for held in self._held:
            held.damaged |= held.number >= number

    def _begin_anew(self, key: int, pts: int | None) -> None:
        """Forget what failed before a key frame, in the order of decoding or of showing: nothing after needs it."""
        over = {
            failed
            for failed, shown in self._failed.items()
            if failed < key or (shown is not None and pts is not None and shown < pts)
        }
        if over & self._unseen and self._held:
            self._held[-1].damaged = True
        self._failed = {failed: shown for failed, shown in self._failed.items() if failed not in over}
        self._unseen -= over
        self._coming = {coming for coming in self._coming if coming > key}

    def _waits(self, held: _Held) -> bool:
        """Whether a frame that was decoded before one is yet to be shown."""
        return any(coming < held.number for coming in self._coming)

    def _released(self) -> av.VideoFrame:
        held = self._held.popleft()
        held.frame.opaque = held.damaged
        return held.frame
