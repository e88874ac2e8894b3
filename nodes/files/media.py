"""Pictures and videos as the bytes of PNG and MP4 files. Equal pixels give equal bytes."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from PIL import Image

from engine.errors import InputError, MissingError
from nodes.image.pixels import to_bytes

if TYPE_CHECKING:
    from torch import Tensor

# x264 writes its thread count into the stream and cuts its work by it: a fixed count keeps the bytes equal everywhere.
_THREADS = 2
_ENCODER = "libx264"


def encode_png(picture: Tensor, *, scale: int = 1) -> bytes:
    """(3, H, W) in [0, 1] → an 8-bit RGB PNG of scale·H × scale·W pixels, enlarged by nearest neighbour."""
    file = io.BytesIO()
    Image.fromarray(_enlarge(to_bytes(picture[None]), scale)[0]).save(file, format="PNG")
    return file.getvalue()


def encode_mp4(frames: Tensor, fps: float, *, crf: int = 18, scale: int = 1) -> bytes:
    """Encode (T, 3, H, W) in [0, 1] as H.264 in an MP4 that browsers play while it loads.

    The format is yuv420p in BT.709, so sides must be even: an odd one repeats its last column or row once. There are
    exactly T frames, and frame i is shown from i/fps to (i+1)/fps seconds.

    Args:
        crf: x264's constant rate factor, 1 (best) to 51; 0 would be lossless, in a profile that browsers don't play.
        scale: enlarge by this integer factor, nearest neighbour.

    Raises:
        MissingError: PyAV was built without libx264.
    """
    pictures = _pad_to_even(_enlarge(to_bytes(frames), scale))
    with tempfile.TemporaryDirectory() as folder:  # moving the index to the front needs a real file
        path = Path(folder, "video.mp4")
        options = {"movflags": "+faststart", "fflags": "+bitexact"}  # bitexact: no library versions, no dates
        with av.open(path, "w", format="mp4", container_options=options) as container:
            stream = _add_h264(container, pictures.shape[2], pictures.shape[1], fps, crf)
            for index, picture in enumerate(pictures):
                container.mux(stream.encode(_to_yuv(picture, index)))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _add_h264(container: av.container.OutputContainer, width: int, height: int, fps: float, crf: int) -> av.VideoStream:
    rate = Fraction(fps).limit_denominator(1001)
    if not rate:
        raise InputError(f"{fps} frames a second can't be written", input="fps", hint="give 0.001 or more")
    # Without B-frames files are stored in the order they are shown, so no player has to heed an edit list.
    options = {"crf": str(crf), "preset": "medium", "profile": "high", "threads": str(_THREADS), "bf": "0"}
    try:
        stream = container.add_stream(_ENCODER, rate=rate, options=options)
    except UnknownCodecError as error:
        raise MissingError(
            "the installed PyAV has no H.264 encoder (libx264)",
            hint="reinstall PyAV from its wheel: pip install --force-reinstall av",
        ) from error
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    codec = stream.codec_context
    codec.time_base = 1 / rate
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def _to_yuv(picture: np.ndarray, index: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
    )
    frame.pts = index
    return frame


def _enlarge(pictures: np.ndarray, scale: int) -> np.ndarray:
    return pictures.repeat(scale, axis=1).repeat(scale, axis=2)


def _pad_to_even(pictures: np.ndarray) -> np.ndarray:
    _, height, width, _ = pictures.shape
    return np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
