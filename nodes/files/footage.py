"""Reading a video in one pass, frame by frame, with the time at which each is shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain, dropwhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from av.filter import Graph
from av.stream import Disposition
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from engine import filetypes
from engine.errors import InputError
from nodes.files.damage import DamageFinder
from nodes.files.timing import Basis, timed

Picture: TypeAlias = NDArray[np.uint8]
"""(H, W, 3), blue, green, red, as OpenCV has it."""

SMALL = 256
"""Longest side of `Frame.small`: the size at which PySceneDetect examines frames."""
INDIRECT = frozenset({"concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"})
"""Formats through which FFmpeg would open other files, or network addresses."""
_ONLY = {"format_whitelist": ",".join(sorted(av.formats_available - INDIRECT)), "protocol_whitelist": "file"}
BLOCK = 2**20
"""Bytes that are read at a time."""
MAX_BAD_PACKETS = 50
"""Consecutive packets that can't be decoded, after which reading stops."""

SAME_TIME = 5e-4
"""Seconds within which two times are the same: frames lie further apart."""
LEADS = 0.0, 2.0, 10.0
"""Seconds before a time to seek to, one after the other, where a container can't seek to the frame itself."""
MAX_PIXEL_ASPECT = 4.0
"""Most that a pixel is believed to be wider than it is high, or higher than it is wide."""
FPS = 0.001, 300.0
"""Lowest and highest frames per second that a video is believed to have."""
HDR: dict[int | None, str] = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
"""Transfer curves of videos with a high dynamic range."""


class UnreachableError(InputError):
    """A file can't be read for a reason that lies in the system, not in the file: it may pass."""


@dataclass(frozen=True)
class Frame:
    """A frame as it is shown."""

    index: int
    time: float
    """Seconds since the first frame."""
    key: bool
    """Whether decoding can start at it."""
    picture: Picture
    """Upright, with square pixels."""
    damaged: bool = False
    """Whether the decoder or the container noticed damage in it, or in frames that it is built on.

    Where several threads decode, no frame is marked: they report damage too late to tell which frames it is in."""

    @cached_property
    def small(self) -> Picture:
        """The picture with no side above `SMALL`."""
        return small(self.picture)


class Opening(NamedTuple):
    """How a video begins."""

    time: float
    """Of its first frame, by the container's clock."""
    basis: Basis
    """The timestamp that this is."""


BARE = {"h264", "hevc", "m4v", "mpegvideo", "vvc"}
"""Formats that hold a stream and nothing else: only the stream says at what rate to show it; FFmpeg takes 25."""


class Footage:
    """A video file. Each iteration decodes it anew, once.

    Args:
        path: the file.
        threads: for the decoder.

    Raises:
        UnreachableError: it isn't there, may not be read, or its disk fails.
        InputError: it is of another type, can't be opened, or holds no video.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self._type = _require_no_other(path)
        self.threads = threads
        self.damage = ""
        """What went wrong while it was decoded, if anything did."""
        self.steady = True
        """Whether all decoded frames had times of their own, in order and all from the same timestamp; otherwise frames
        can't be found by time."""
        self.basis: Basis | None = None
        """The timestamp that the first of them went by, once there is one."""
        self.interlaced = False
        """Whether decoded frames were interlaced; they are given deinterlaced."""
        with self.opened() as container:
            stream = video_stream(container, path)
            codec = stream.codec_context
            if codec is None:
                raise InputError(
                    f"{path} is in a codec that can't be decoded here", hint="convert it to another, such as H.264"
                )
            self.codec = "webp" if self._type == filetypes.ANIMATED_WEBP else codec.name
            self.pixel_format = codec.pix_fmt or ""
            self.fps = _rate(stream)
            """Frames per second, on average."""
            self.duration = _duration(container, stream)
            """Seconds, as the file declares; 0 if it doesn't."""
            self.has_audio = bool(container.streams.audio)
            self.aspect = _aspect(stream)
            """Width of a stored pixel over its height."""
            self.hdr = HDR.get(codec.color_trc, "")
            """"PQ" or "HLG" for a high dynamic range."""

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, begin: float | None = None, layout: str = "bgr24") -> Iterator[Frame]:
        """The frames from a time on; none if the frame that is shown then can't be found.

        Args:
            begin: seconds after the first frame; the frame at that time becomes the first, with index and time 0.
            layout: FFmpeg's name for the pixel format of pictures (H, W, 3).
        """
        wanted = None if begin is None else self.opening.time + begin
        self.damage, self.steady, self.basis = "", True, self.opening.basis if begin is not None else None
        reformatter = VideoReformatter()  # shared: setting up a conversion costs more than converting a small picture
        with self.opened() as container:
            stream = video_stream(container, self.path)
            stream.thread_type, stream.codec_context.thread_count = "AUTO", self.threads
            decoded = self._decoded(container, stream) if wanted is None else self._sought(container, stream, wanted)
            start, stamp, last, index, size, crowded = None, -1.0, -1 / self.fps, 0, None, 0.0
            for frame in decoded:
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    self.damage = f"its picture changes its size after {last + (begin or 0):.1f} s"
                    return
                start = (frame.time or 0.0) if start is None else start
                time = last + 1 / self.fps if frame.time is None else frame.time - start
                self.steady &= time > last
                if time < stamp - 1 / self.fps:  # the clock restarts, as where recordings were joined
                    start, time = start - (last + 1 / self.fps - time), last + 1 / self.fps
                stamp = time
                if time < last + 1 / FPS[1]:  # a repeated time, or more frames in a second than memory allows
                    crowded, time = crowded + last + 1 / FPS[1] - time, last + 1 / FPS[1]
                picture = _shown(frame, self.aspect, layout, reformatter)
                if damaged := bool(frame.opaque):
                    self.damage = self.damage or f"is damaged at {max(time, 0.0) + (begin or 0):.1f} s"
                yield Frame(index, max(time, 0.0), bool(frame.key_frame), picture, damaged)
                last, index = time, index + 1
        if crowded > 1:
            self.damage = self.damage or f"has more than {FPS[1]:.0f} frames in a second, and is taken for slower"
        last += begin or 0.0
        if self.duration and index and last < 0.9 * self.duration - 1:
            self.damage = self.damage or f"ends after {last:.1f} s of {self.duration:.1f} s"

    @cached_property
    def opening(self) -> Opening:
        """How it begins."""
        with self.opened() as container:
            for frame, basis in timed(self._stored(container, video_stream(container, self.path))):
                return Opening(frame.time or 0.0, basis)
        return Opening(0.0, "none")

    def _sought(
        self, container: av.container.InputContainer, stream: av.VideoStream, wanted: float
    ) -> Iterator[av.VideoFrame]:
        """The frames from a time on, by the container's clock, decoded from a key frame before it.

        There are none if no frame of that time is found.
        """
        for earlier in LEADS:
            with suppress(av.error.FFmpegError):  # a container may refuse to seek
                container.seek(int((wanted - earlier) / (stream.time_base or Fraction(1, av.time_base))), stream=stream)
            frames = self._decoded(container, stream)
            first = next(frames, None)
            if first is None or first.time is None or first.time > wanted + SAME_TIME:
                continue
            frames = dropwhile(lambda frame: (frame.time or 0.0) < wanted - SAME_TIME, chain([first], frames))
            if (found := next(frames, None)) is not None and abs((found.time or 0.0) - wanted) <= SAME_TIME:
                yield found
                yield from frames
            return

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """All frames that can be decoded, deinterlaced; `damage` gives the last error."""
        filters: Graph | None = None
        for frame, basis in timed(self._stored(container, stream)):
            self.basis = self.basis or basis
            self.steady &= basis == self.basis != "none"
            if filters is None and frame.interlaced_frame:
                self.interlaced, filters = True, _deinterlacer(frame)
            if filters is None:
                yield frame
            else:
                filters.vpush(frame)
                yield from _pulled(filters)
        if filters is not None:
            filters.vpush(None)
            yield from _pulled(filters)

    def _stored(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """All frames that can be decoded, as they are stored; `opaque` is whether they are known to be damaged."""
        packets, broken, last = container.demux(stream), 0, 0.0
        finder = DamageFinder(stream.codec_context) if self.threads == 1 else None
        while broken < MAX_BAD_PACKETS:
            packet = None
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                if finder:
                    finder.send(packet)
                decoded = packet.decode()
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):
                    require_readable(self.path)
                broken += 1
                self.damage = f"{error.strerror} at {last:.1f} s"
                if packet is not None and finder:
                    finder.fail()
                continue
            for frame in decoded:
                broken, last = 0, frame.time or last
                yield from finder.take(frame) if finder else (frame,)
        if finder:
            yield from finder.rest()

    def require_frames(self, count: int) -> None:
        """Raise InputError if not one frame could be decoded."""
        if not count:
            raise InputError(
                f"{self.path} holds no picture that can be decoded: {self.damage or 'it is empty'}",
                hint="the file may be damaged",
            )

    def opened(self) -> av.container.InputContainer:
        """The file as an open container."""
        try:
            file = io.BytesIO(self._converted) if self._type == filetypes.ANIMATED_WEBP else str(self.path)
            return av.open(file, "r", options=_ONLY, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            require_readable(self.path, wholly=isinstance(error, OSError))
            known = f"{self._type.name}, and may be cut short or damaged" if self._type else "a video"
            raise InputError(
                f"{self.path} can't be opened as {known}: {error.strerror or error}",
                hint="give a video file, such as MP4 or WebM",
            ) from error

    @cached_property
    def _converted(self) -> bytes:
        """An animated WebP as a film that FFmpeg reads."""
        from nodes.files.animations import as_film

        return as_film(self.path)


def _require_no_other(path: Path) -> filetypes.FileType | None:
    """The type of a file that may hold a video; raises InputError if it is of a type that doesn't."""
    try:
        found = filetypes.of(path)
    except OSError:
        require_readable(path)
        raise
    if found is None or found.group in ("video", "sound"):  # a sound may have a picture: opening it tells
        return found
    hint = "load it as a picture" if found.group == "picture" else "give a video file, such as MP4 or WebM"
    raise InputError(f"{path} is {found.name}, not a video", hint=hint)


def require_readable(path: Path, *, wholly: bool = True) -> None:
    """Check that the system gives a file. FFmpeg's errors don't tell: it calls a truncated one an input/output error.

    Args:
        path: the file.
        wholly: read all of it, rather than only its start.

    Raises:
        UnreachableError: it isn't there, may not be read, or its disk fails.
        InputError: it is empty.
    """
    try:
        with path.open("rb") as file:
            block = file.read(BLOCK)
            empty = not block
            while wholly and block:
                block = file.read(BLOCK)
    except FileNotFoundError:
        raise UnreachableError(
            f"{path} isn't there", hint="it may have been moved, or its disk isn't mounted"
        ) from None
    except PermissionError:
        raise UnreachableError(f"{path} may not be read", hint="change its permissions") from None
    except OSError as error:
        raise UnreachableError(f"{path} can't be read: {error.strerror}", hint="check its disk") from None
    if empty:
        raise InputError(f"{path} is empty", hint="copy it again")


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video stream of a file, without cover pictures; raises InputError if there is none."""
    pictures = container.streams.video
    videos = [stream for stream in pictures if not stream.disposition & Disposition.attached_pic]
    if not videos:
        held = ["sound"] * bool(container.streams.audio) + ["a cover picture"] * bool(pictures)
        found = f"has {' and '.join(held)}, no video" if held else "holds no video"
        raise InputError(f"{path} {found}", hint="give a file with a video stream")
    return max(videos, key=lambda stream: stream.frames > 1)  # an animated AVIF has a still before its film


def _rate(stream: av.VideoStream) -> float:
    """The first believable frame rate that a file declares, or else that its index comes to, or else 25."""
    if _lasts_too_long(stream):
        return min(max(stream.frames / _listed_seconds(stream), FPS[0]), FPS[1])
    rates = [stream.average_rate, stream.guessed_rate]
    if stream.container.format.name in BARE:
        rates.reverse()
    declared = (float(rate) for rate in rates if rate)
    return next((rate for rate in declared if FPS[0] <= rate <= FPS[1]), 25.0)


def _listed_seconds(stream: av.VideoStream) -> float:
    """How long a file's frames are shown by its index, the last one as long as the others on average.

    It is 0 for a file without a list of all its frames, as most formats are.
    """
    index = stream.index_entries
    if stream.frames < 2 or len(index) != stream.frames or not stream.time_base:
        return 0.0
    first, last = index[0].timestamp, index[-1].timestamp
    return float((last - first) * stream.time_base) * stream.frames / (stream.frames - 1)


def _lasts_too_long(stream: av.VideoStream) -> bool:
    """Whether a file's last frame is declared to be shown for longer than can be meant: for most of the video."""
    declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    return 0 < 2 * _listed_seconds(stream) < declared


def _aspect(stream: av.VideoStream) -> float:
    declared = float(stream.sample_aspect_ratio or 1)
    return declared if 1 / MAX_PIXEL_ASPECT <= declared <= MAX_PIXEL_ASPECT else 1.0


def _shown(frame: av.VideoFrame, aspect: float, layout: str, reformatter: VideoReformatter) -> Picture:
    """The frame rotated as its display matrix says, and enlarged so that its pixels are square and none is lost."""
    width = round(frame.width * max(aspect, 1))
    height = round(frame.height / min(aspect, 1))
    method = Interpolation.BICUBIC
    laid_out = reformatter.reformat(frame, width=width, height=height, format=layout, interpolation=method)
    picture: Any = laid_out.to_ndarray()
    turns = round(frame.rotation / 90) % 4  # anticlockwise
    shown: Picture = np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
    return shown


def _deinterlacer(frame: av.VideoFrame) -> Graph:
    """A filter graph that deinterlaces frames of this form, keeping their rate."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            yield graph.vpull()


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if _lasts_too_long(stream):
        return _listed_seconds(stream)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else 0.0


def small(picture: Picture) -> Picture:
    """A picture with no side above `SMALL`, shrunk linearly as PySceneDetect does it."""
    import cv2  # from an extra that reading videos doesn't need

    height, width = picture.shape[:2]
    if (factor := max(height, width) / SMALL) <= 1:
        return picture
    size = max(1, round(width / factor)), max(1, round(height / factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
