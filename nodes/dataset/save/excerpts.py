"""Clips cut out of videos, as MP4 files without sound. Equal sources give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc

from engine.errors import InputError, NodeError
from nodes.files.footage import SAME_TIME, Footage, Frame, video_stream
from nodes.files.h264 import BT709, CONTAINER, Colours, add_stream, frame_of

CRF = 18
_BASE = Fraction(1, 90_000)
"""The unit of times in clips."""
_COPIED = frozenset({"h264", "hevc", "av1", "libdav1d", "mpeg4", "vp9", "libvpx-vp9"})
"""Codecs that MP4 takes as they are."""
_LAID_OUT = {
    "": ("rgb24", BT709),
    "PQ": ("rgb48le", Colours("yuv420p10le", Colorspace.BT2020, ColorPrimaries.BT2020, ColorTrc.SMPTE2084)),
    "HLG": ("rgb48le", Colours("yuv420p10le", Colorspace.BT2020, ColorPrimaries.BT2020, ColorTrc.ARIB_STD_B67)),
}
"""How pictures are decoded and encoded, by the video's dynamic range."""


class Clip(NamedTuple):
    """Where a clip is in its video: seconds after the first frame, and frames."""

    start: float
    seconds: float
    first_frame: int
    end_frame: int


class Written(NamedTuple):
    """What a written clip must be found to hold."""

    packets: int
    encoded: bool
    """Whether each packet was made of one picture here; copied ones may be damaged."""


def write_exact(path: Path, footage: Footage, clip: Clip) -> Written:
    """Cut a clip exactly to the frame, encoding it as H.264 in BT.709, or in ten bits of BT.2020 if it is HDR.

    Frames are upright and deinterlaced, have square pixels, and keep their intervals in time; an odd side loses its
    last row or column.

    Raises:
        InputError: the footage can't be read, or doesn't have the clip's frames any more.
        MissingError: PyAV was built without libx264.
        OSError: the clip can't be written.
    """
    wanted = clip.end_frame - clip.first_frame
    layout = _LAID_OUT[footage.hdr][0]
    sought = footage.frames(clip.start, layout)
    found = _encode(path, footage, takewhile(lambda frame: frame.time < clip.seconds - SAME_TIME, sought))
    if found == wanted and footage.steady:
        return Written(wanted, encoded=True)
    # Where frames can't be found by their times: from the start, counting, as the clip was found.
    counted = (frame for frame in footage.frames(layout=layout) if frame.index >= clip.first_frame)
    if _encode(path, footage, islice(counted, wanted)) != wanted:
        raise InputError(f"{footage.path} doesn't have the frames of a clip any more", hint="curate it again")
    return Written(wanted, encoded=True)


def _encode(path: Path, footage: Footage, frames: Iterator[Frame]) -> int:
    """Encode frames with the times at which they are shown; returns their number."""
    first, count, last = next(frames, None), 0, -1
    if first is None:
        return 0
    layout, colours = _LAID_OUT[footage.hdr]
    height, width = (side // 2 * 2 for side in first.picture.shape[:2])
    with av.open(path, "w", format="mp4", container_options=CONTAINER) as target:
        stream = add_stream(target, width, height, footage.fps, crf=CRF, colours=colours, time_base=_BASE)
        for frame in chain([first], frames):
            last = max(round((frame.time - first.time) / _BASE), last + 1)
            encoded = frame_of(np.ascontiguousarray(frame.picture[:height, :width]), last, layout, colours)
            encoded.time_base = _BASE
            target.mux(stream.encode(encoded))
            count += 1
        target.mux(stream.encode(None))
    return count


def write_copy(path: Path, footage: Footage, clip: Clip) -> Written:
    """Cut a clip from its key frame on, copying the packets: nothing is encoded again.

    The clip may end some frames early: it holds no frame that needs one from beyond its end.

    Raises:
        InputError: the footage can't be read, has no key frame there, or is in a codec that MP4 doesn't take.
        OSError: the clip can't be written.
    """
    source, count = footage.path, 0
    if footage.codec not in _COPIED:
        raise InputError(f"{source} is in {footage.codec}, which can't be copied into MP4", hint="save it `exact`")
    with footage.opened() as container:
        stream = video_stream(container, source)
        base = stream.time_base or _BASE
        if footage.opening.basis != "pts":
            raise InputError(f"{source} can't be copied: its timestamps are wrong", hint="save it `exact`")
        begin = footage.opening.time + clip.start
        container.seek(int((begin + SAME_TIME) / base), stream=stream)
        packets = _packets(container, stream, begin, begin + clip.seconds, base)
        first = next(packets, None)
        if first is None or abs(float((first.pts or 0) * base) - begin) > SAME_TIME:
            hint = "save it `exact`, or curate it `at_key_frames`"
            raise InputError(f"{source} can't be copied from {clip.start:.2f} s on: there is no key frame", hint=hint)
        offset = first.dts or 0
        with av.open(path, "w", format="mp4", container_options=CONTAINER) as target:
            copied = target.add_stream_from_template(stream)
            for packet in chain([first], packets):
                packet.pts, packet.dts = (packet.pts or 0) - offset, (packet.dts or 0) - offset
                packet.stream = copied
                target.mux(packet)
                count += 1
    return Written(count, encoded=False)


def check_written(path: Path, written: Written) -> None:
    """Read a clip back, all of it.

    Raises:
        NodeError: it isn't what was written.
        InputError: it is, but what was copied can't be decoded.
    """
    packets, pictures, problem = 0, 0, ""
    try:
        with av.open(path, options={"ignore_editlist": "1"}) as container:
            for packet in container.demux(video_stream(container, path)):
                packets += packet.size > 0 and not packet.is_corrupt
                pictures += len(packet.decode())
    except (av.error.FFmpegError, InputError) as error:
        problem = str(error)
    whole = packets == written.packets and (not written.encoded or pictures == packets)
    if not whole or (written.encoded and problem):
        raise NodeError(
            f"a clip was not written as it should be: {pictures:,} of {written.packets:,} frames can be read back",
            hint="check the disk, and run again",
        )
    if problem or not pictures:
        raise InputError(f"its pictures can't be decoded: {problem or 'there are none'}")


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, begin: float, end: float, base: Fraction
) -> Iterator[av.packet.Packet[av.VideoStream]]:
    """The packets from a key frame on, up to the first that is shown at `end` or later: later ones may need it."""
    key: int | None = None
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        time = float(packet.pts * base)
        if key is None and packet.is_keyframe and time > begin - SAME_TIME:
            key = packet.pts
        if key is None or packet.pts < key:
            continue  # before the key frame, or after it but shown before it, and so part of the previous shot
        if time >= end - SAME_TIME:
            return
        yield packet
