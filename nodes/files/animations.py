"""Animated WebP as a film, since FFmpeg reads only still ones."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
from PIL import Image

from engine.errors import InputError
from nodes.files.pictures import DAMAGED, MAX_FILM_PIXELS, MAX_PIXELS

_MILLISECONDS = Fraction(1, 1000)


def as_film(path: Path) -> bytes:
    """An animated WebP as a Matroska file without loss (FFV1), in RGB on black: each frame with its own time.

    Raises:
        InputError: it is damaged, has no frames, or is too large.
    """
    film = io.BytesIO()
    try:
        lasting = _durations(path.read_bytes())
        if not lasting:
            raise InputError(f"{path} can't be read: it has no frames", hint="the file may be damaged")
        times = [0, *accumulate(lasting)]
        with Image.open(path, formats=["WEBP"]) as picture, av.open(film, "w", format="matroska") as container:
            width, height = picture.size
            if width * height * len(lasting) > MAX_FILM_PIXELS:
                size = f"{len(lasting):,} frames of {width} × {height} pixels"
                raise _too_large(path, f"{size}, more than {MAX_FILM_PIXELS:,}")
            rate = Fraction(1000 * len(lasting), times[-1])
            stream = container.add_stream("ffv1", rate=rate, options={"threads": "1"})
            stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
            stream.codec_context.time_base = _MILLISECONDS
            for index, time in enumerate(times[:-1]):
                picture.seek(index)
                frame = av.VideoFrame.from_ndarray(np.asarray(_on_black(picture)), format="rgb24")
                frame.pts, frame.time_base = time, _MILLISECONDS
                container.mux(stream.encode(frame.reformat(format="bgr0")))
            container.mux(stream.encode(None))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, f"frames of far too many pixels, more than {MAX_PIXELS:,} each") from error
    except DAMAGED as error:
        raise InputError(f"{path} can't be read: {error}", hint="the file may be damaged") from error
    return film.getvalue()


def _durations(data: bytes) -> list[int]:
    """The milliseconds for which each frame is shown."""
    found, at = list[int](), 12
    while at + 24 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            found.append(max(1, int.from_bytes(data[at + 20 : at + 23], "little")))
        at += 8 + size + size % 2
    return found


def _too_large(path: Path, what: str) -> InputError:
    return InputError(f"{path} has {what}", hint="convert it to MP4")


def _on_black(picture: Image.Image) -> Image.Image:
    shown = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown).convert("RGB")
