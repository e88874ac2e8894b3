"""Clips cut out of videos, as MP4 files without sound. Equal sources give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.codec import UnknownCodecError

from engine.errors import InputError, MissingError
from nodes.dataset.footage import Footage, turns, video_stream

CRF = 18
_CLOSE = 5e-4
"""Seconds within which two times are the same: frames lie further apart."""
_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}
_X264 = {"crf": str(CRF), "preset": "medium", "threads": "1", "bf": "0"}


def write_exact(path: Path, source: Path, start: float, seconds: float) -> None:
    """Cut from `start` seconds after the first frame on, to the frame, encoding anew as H.264.

    Frames stand upright and keep their distances in time; an odd side loses its last row or column.

    Raises:
        InputError: the source can't be read, or has no frame there.
        MissingError: PyAV was built without libx264.
    """
    with Footage(source).opened() as container, av.open(path, "w", format="mp4", container_options=_OPTIONS) as target:
        stream, first = None, 0
        for frame in _frames(container, source, start, seconds):
            if stream is None:
                stream, first = _x264(target, frame, source), frame.pts or 0
            picture = _even(frame)
            picture.pts, picture.time_base = (frame.pts or 0) - first, frame.time_base
            target.mux(stream.encode(picture))
        if stream is None:
            raise InputError(f"{source} has no frame at {start:.2f} s any more", hint="curate it again")
        target.mux(stream.encode(None))


def write_copy(path: Path, source: Path, start: float, seconds: float) -> None:
    """Cut from the key frame at `start` on, with the packets as they are: nothing is decoded.

    The clip may end some frames early: it holds no frame that needs one from beyond its end.

    Raises:
        InputError: the source can't be read, or has no key frame there.
    """
    with Footage(source).opened() as container, av.open(path, "w", format="mp4", container_options=_OPTIONS) as target:
        stream = video_stream(container, source)
        base = stream.time_base or Fraction(1, 90_000)
        begin = _first_time(container, source) + start
        container.seek(int((begin + _CLOSE) / base), stream=stream)
        packets = _closed(container, stream, begin, begin + seconds, base)
        if not packets or not packets[0].is_keyframe:
            raise InputError(f"{source} has no key frame at {start:.2f} s any more", hint="curate it again")
        copied = target.add_stream_from_template(stream)
        offset = packets[0].dts or 0
        for packet in packets:
            packet.pts, packet.dts = (packet.pts or 0) - offset, (packet.dts or 0) - offset
            packet.stream = copied
            target.mux(packet)


def _closed(
    container: av.container.InputContainer, stream: av.VideoStream, begin: float, end: float, base: Fraction
) -> list[av.packet.Packet[av.VideoStream]]:
    """The packets from a key frame on that are shown before `end`, without those that need one shown later."""
    packets: list[av.packet.Packet[av.VideoStream]] = []
    whole, latest = 0, -1
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        time = float(packet.pts * base)
        if not packets and not (packet.is_keyframe and time > begin - _CLOSE):
            continue
        if packets and packet.pts < (packets[0].pts or 0):
            continue  # shown before the key frame that it follows, and so of the shot before
        if packet.pts > latest:  # none of those so far is shown after it: they end here if it is left out
            whole = len(packets)
        if time >= end - _CLOSE:
            return packets[:whole] if packet.pts > latest else packets[:-1]
        packets.append(packet)
        latest = max(latest, packet.pts)
    return packets


def _frames(
    container: av.container.InputContainer, source: Path, start: float, seconds: float
) -> Iterator[av.VideoFrame]:
    """The frames that are shown within a stretch."""
    stream = video_stream(container, source)
    begin = _first_time(container, source) + start
    container.seek(int(begin / (stream.time_base or Fraction(1, 90_000))), stream=stream)
    for frame in container.decode(stream):
        time = frame.time or 0.0
        if time >= begin + seconds - _CLOSE:
            return
        if time >= begin - _CLOSE:
            yield frame


def _first_time(container: av.container.InputContainer, source: Path) -> float:
    """When the first frame is shown."""
    first = next(container.decode(video_stream(container, source)), None)
    return float(first.time or 0.0) if first else 0.0


def _even(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame upright, in yuv420p, with even sides."""
    picture = np.rot90(frame.to_ndarray(format="rgb24"), turns(frame)).astype(np.uint8, copy=False)
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    turned = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
    return turned.reformat(format="yuv420p")


def _x264(target: av.container.OutputContainer, frame: av.VideoFrame, source: Path) -> av.VideoStream:
    rate = Fraction(Footage(source).fps).limit_denominator(1001)
    try:
        stream = target.add_stream("libx264", rate=rate, options=_X264)
    except UnknownCodecError as error:
        hint = "reinstall PyAV from its wheel: pip install --force-reinstall av"
        raise MissingError("the installed PyAV has no H.264 encoder (libx264)", hint=hint) from error
    picture = _even(frame)
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.codec_context.time_base = frame.time_base or Fraction(1, 90_000)
    return stream
