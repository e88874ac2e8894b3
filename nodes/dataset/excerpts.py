"""Clips cut out of videos, as MP4 files without sound. Equal sources give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from engine.errors import InputError, MissingError
from nodes.dataset.footage import Footage, turns, video_stream

CRF = 18
_CLOSE = 5e-4
"""Seconds within which two times are the same: frames lie further apart."""
_BASE = Fraction(1, 90_000)
"""The unit of times in clips."""
_COPIED = frozenset({"h264", "hevc", "av1", "libdav1d", "mpeg4", "vp9", "libvpx-vp9"})
"""Codecs that MP4 takes as they are."""
_OPTIONS = {"movflags": "+faststart", "fflags": "+bitexact"}
_X264 = {"crf": str(CRF), "preset": "medium", "threads": "1", "bf": "0"}


class Clip(NamedTuple):
    """Where a clip is in its video: seconds after the first frame, and frames."""

    start: float
    seconds: float
    first_frame: int
    end_frame: int


def write_exact(path: Path, source: Path, clip: Clip) -> None:
    """Cut a clip to the frame, encoding it anew as H.264 in BT.709.

    Frames stand upright and keep their distances in time; an odd side loses its last row or column.

    Raises:
        InputError: the source can't be read, or doesn't have the clip's frames any more.
        MissingError: PyAV was built without libx264.
    """
    wanted = clip.end_frame - clip.first_frame
    if _encode(path, source, _sought(source, clip)) == wanted:
        return
    # Some containers can't be sought in to the frame: then from the start, counting, as the clip was found.
    counted = (frame for frame in Footage(source) if frame.index >= clip.first_frame)
    pictures = ((frame.time, frame.picture[..., ::-1]) for frame in islice(counted, wanted))
    if _encode(path, source, pictures) != wanted:
        raise InputError(f"{source} doesn't have the frames of a clip any more", hint="curate it again")


def _encode(path: Path, source: Path, pictures: Iterator[tuple[float, NDArray[np.uint8]]]) -> int:
    """Encode pictures (H, W, 3), RGB, with the times at which they are shown; returns how many there were."""
    count, first, last = 0, 0.0, -1
    with av.open(path, "w", format="mp4", container_options=_OPTIONS) as target:
        stream = None
        for time, picture in pictures:
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
            if stream is None:
                stream, first = _x264(target, source, width, height), time
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.time_base = _BASE
            frame.pts = last = max(round((time - first) / _BASE), last + 1)
            target.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            target.mux(stream.encode(None))
    return count


def write_copy(path: Path, source: Path, clip: Clip) -> None:
    """Cut a clip from its key frame on, with the packets as they are: nothing is decoded.

    The clip may end some frames early: it holds no frame that needs one from beyond its end.

    Raises:
        InputError: the source can't be read, has no key frame there, or is in a codec that MP4 doesn't take.
    """
    with Footage(source).opened() as container:
        stream = video_stream(container, source)
        if (codec := stream.codec_context.name) not in _COPIED:
            raise InputError(f"{source} is in {codec}, which can't be copied into MP4", hint="save it `exact`")
        base = stream.time_base or _BASE
        begin = _first_time(container, source) + clip.start
        container.seek(int((begin + _CLOSE) / base), stream=stream)
        packets = _closed(container, stream, begin, begin + clip.seconds, base)
        if not packets or abs(float((packets[0].pts or 0) * base) - begin) > _CLOSE:
            hint = "save it `exact`, or curate it `at_key_frames`"
            raise InputError(f"{source} can't be copied from {clip.start:.2f} s on: no key frame is there", hint=hint)
        with av.open(path, "w", format="mp4", container_options=_OPTIONS) as target:
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


def _sought(source: Path, clip: Clip) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The pictures of a clip with their times, from the key frame before it on; none if they can't be had so."""
    with Footage(source).opened() as container:
        stream = video_stream(container, source)
        begin = _first_time(container, source) + clip.start
        with suppress(av.error.FFmpegError):
            container.seek(int(begin / (stream.time_base or _BASE)), stream=stream)
            for frame in container.decode(stream):
                time = frame.time or 0.0
                if time >= begin + clip.seconds - _CLOSE:
                    return
                if time >= begin - _CLOSE:
                    picture = np.rot90(frame.to_ndarray(format="rgb24"), turns(frame))
                    yield time, picture.astype(np.uint8, copy=False)


def _first_time(container: av.container.InputContainer, source: Path) -> float:
    """When the first frame is shown."""
    first = next(container.decode(video_stream(container, source)), None)
    return float(first.time or 0.0) if first else 0.0


def _x264(target: av.container.OutputContainer, source: Path, width: int, height: int) -> av.VideoStream:
    rate = Fraction(Footage(source).fps).limit_denominator(1001)
    try:
        stream = target.add_stream("libx264", rate=rate, options=_X264)
    except UnknownCodecError as error:
        hint = "reinstall PyAV from its wheel: pip install --force-reinstall av"
        raise MissingError("the installed PyAV has no H.264 encoder (libx264)", hint=hint) from error
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    codec = stream.codec_context
    codec.time_base = _BASE
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream
