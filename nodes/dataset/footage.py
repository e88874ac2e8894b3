"""Reading a video once, frame by frame, by the time at which each is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError

Picture: TypeAlias = NDArray[np.uint8]
"""(H, W, 3), blue, green, red, as OpenCV has it."""

SMALL = 256
"""Longest side of `Frame.small`: the size at which PySceneDetect looks at frames."""
TEXTS = frozenset({"concat", "hls", "dash", "sdp"})
"""Formats of texts by which FFmpeg would open other files."""
MOST_DAMAGE = 50
"""Packets in a row that can't be decoded, after which a video is given up."""


@dataclass(frozen=True)
class Frame:
    """A frame as it is shown, turned upright."""

    index: int
    time: float
    """Seconds since the first frame."""
    key: bool
    """Whether decoding can start at it."""
    picture: Picture

    @cached_property
    def small(self) -> Picture:
        """The picture with no side above `SMALL`."""
        return small(self.picture)


class Footage:
    """A video file. Iterating decodes it, once; it can be iterated anew.

    Args:
        path: the file.
        threads: of the decoder.

    Raises:
        InputError: it can't be opened, or holds no video.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self.threads = threads
        self.damage = ""
        """What went wrong while it was decoded, if anything did."""
        with self.opened() as container:
            stream = video_stream(container, path)
            codec = stream.codec_context
            if codec is None:
                raise InputError(f"{path} is in a codec that can't be decoded here")
            if container.format.name in TEXTS:
                raise InputError(f"{path} is a text that names other files")
            self.codec = codec.name
            self.pixel_format = codec.pix_fmt or ""
            self.fps = float(stream.average_rate or stream.guessed_rate or 25)
            """Frames per second, on average."""
            self.duration = _duration(container, stream)
            """Seconds, as the file declares; 0 if it doesn't."""
            self.has_audio = bool(container.streams.audio)

    def __iter__(self) -> Iterator[Frame]:
        self.damage = ""
        with self.opened() as container:
            stream = video_stream(container, self.path)
            stream.thread_type, stream.codec_context.thread_count = "AUTO", self.threads
            start, last, index, size = None, -1.0, 0, None
            for frame in self._decoded(container, stream):
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    self.damage = f"its picture changes its size after {last:.1f} s"
                    return
                start = (frame.time or 0.0) if start is None else start
                time = last + 1 / self.fps if frame.time is None else frame.time - start
                if time < last - 1 / self.fps:  # the clock starts anew, as where recordings were joined
                    start, time = start - (last + 1 / self.fps - time), last + 1 / self.fps
                elif time <= last:  # a time told twice
                    time = last + 1e-3
                yield Frame(index, max(time, 0.0), bool(frame.key_frame), _upright(frame))
                last, index = time, index + 1
        if self.duration and index and last < 0.9 * self.duration - 1:
            self.damage = self.damage or f"ends after {last:.1f} s of {self.duration:.1f} s"

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """All frames that can be decoded; of what can't, `damage` tells the last."""
        packets, broken, last = container.demux(stream), 0, 0.0
        while broken < MOST_DAMAGE:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except av.error.FFmpegError as error:
                broken += 1
                self.damage = f"{error.strerror} at {last:.1f} s"
                continue
            for frame in decoded:
                broken, last = 0, frame.time or last
                yield frame

    def require_frames(self, count: int) -> None:
        """Raise InputError if not one frame could be decoded."""
        if not count:
            raise InputError(f"{self.path} holds no picture that can be decoded: {self.damage or 'it is empty'}")

    def opened(self) -> av.container.InputContainer:
        """The file, to be read in another way."""
        try:
            return av.open(str(self.path), "r", metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.path} can't be opened as a video: {error.strerror or error}") from error


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The first video of a file; raises InputError if there is none."""
    if not container.streams.video:
        raise InputError(f"{path} holds no video")
    return container.streams.video[0]


def _duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else 0.0


def small(picture: Picture) -> Picture:
    """A picture with no side above `SMALL`, shrunk linearly as PySceneDetect does it."""
    height, width = picture.shape[:2]
    if (factor := max(height, width) / SMALL) <= 1:
        return picture
    size = max(1, round(width / factor)), max(1, round(height / factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)


def turns(frame: av.VideoFrame) -> int:
    """How many quarter turns, against the clock, set a frame upright."""
    return round(frame.rotation / 90) % 4


def _upright(frame: av.VideoFrame) -> Picture:
    """The frame turned as its display matrix says."""
    picture: Picture = frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
    return np.ascontiguousarray(np.rot90(picture, turns(frame))) if turns(frame) else picture
