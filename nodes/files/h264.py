"""H.264 in MP4: what all written files have in common. Equal pixels give equal bytes, on a busy machine too."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import av
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from numpy.typing import NDArray

from engine.errors import InputError, MissingError

CONTAINER = {"movflags": "+faststart", "fflags": "+bitexact"}
"""Options of the container: browsers play it while it loads, and it records no library versions and no dates."""

# x264 writes its thread count into the stream and cuts its work by it: a fixed count keeps the bytes equal everywhere.
# Each thread takes whole frames: only then does x264 promise equal results.
_THREADS, _THREAD_TYPE = 2, "FRAME"
# Its macroblock tree reads memory that it hasn't written, so that bytes depend on what was there before.
_TREE = "0"
_ENCODER = "libx264"


class Colours(NamedTuple):
    """How a stream's numbers encode colours."""

    pixels: str
    """FFmpeg's name of the pixel format."""
    space: Colorspace
    primaries: ColorPrimaries
    transfer: ColorTrc

    @property
    def profile(self) -> str:
        return "high10" if "10" in self.pixels else "high"


BT709 = Colours("yuv420p", Colorspace.ITU709, ColorPrimaries.BT709, ColorTrc.BT709)


def add_stream(
    container: av.container.OutputContainer,
    width: int,
    height: int,
    fps: float,
    *,
    crf: int,
    colours: Colours = BT709,
    time_base: Fraction | None = None,
) -> av.VideoStream:
    """Add a stream of H.264 to a container that is being written.

    Args:
        width, height: in pixels, both even.
        fps: frames per second.
        crf: x264's constant rate factor.
        colours: how its pixels encode colours.
        time_base: the unit of times; one frame by default.

    Raises:
        InputError: `fps` is too low for a file to record.
        MissingError: PyAV was built without libx264.
    """
    rate = Fraction(fps).limit_denominator(1001)
    if not rate:
        raise InputError(f"{fps} frames a second can't be written", input="fps", hint="give 0.001 or more")
    # Without B-frames files are stored in the order they are shown, so no player needs an edit list.
    options = {"crf": str(crf), "preset": "medium", "profile": colours.profile, "bf": "0"}
    options |= {"threads": str(_THREADS), "mbtree": _TREE}
    try:
        stream = container.add_stream(_ENCODER, rate=rate, options=options)
    except UnknownCodecError as error:
        raise MissingError(
            "the installed PyAV has no H.264 encoder (libx264)",
            hint="reinstall PyAV from its wheel: pip install --force-reinstall av",
        ) from error
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, colours.pixels
    codec = stream.codec_context
    codec.thread_type = _THREAD_TYPE
    codec.time_base = time_base or 1 / rate
    codec.colorspace, codec.color_range = colours.space, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = colours.primaries, colours.transfer
    return stream


def frame_of(picture: NDArray[Any], pts: int, pixels: str = "rgb24", colours: Colours = BT709) -> av.VideoFrame:
    """A picture (H, W, 3) of FFmpeg's format `pixels` as a frame for such a stream, to be shown at `pts`."""
    frame = av.VideoFrame.from_ndarray(picture, format=pixels).reformat(
        format=colours.pixels,
        dst_colorspace=colours.space,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
    )
    frame.pts = pts
    return frame
