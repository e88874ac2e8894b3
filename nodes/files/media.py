"""Pictures and videos as the bytes of PNG and MP4 files. Equal pixels give equal bytes."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

from nodes.diffusion.pixels import to_bytes
from nodes.files.h264 import CONTAINER, add_stream, frame_of

if TYPE_CHECKING:
    from torch import Tensor


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
    with tempfile.TemporaryDirectory() as folder:  # moving the index to the front needs a file on disk
        path = Path(folder, "video.mp4")
        with av.open(path, "w", format="mp4", container_options=CONTAINER) as container:
            stream = add_stream(container, pictures.shape[2], pictures.shape[1], fps, crf=crf)
            for index, picture in enumerate(pictures):
                container.mux(stream.encode(frame_of(picture, index)))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _enlarge(pictures: np.ndarray, scale: int) -> np.ndarray:
    return pictures.repeat(scale, axis=1).repeat(scale, axis=2)


def _pad_to_even(pictures: np.ndarray) -> np.ndarray:
    _, height, width, _ = pictures.shape
    return np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
