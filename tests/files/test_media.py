from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import torch

from engine.errors import InputError, MissingError
from nodes.files import h264
from nodes.files.media import encode_mp4, encode_png

ROOT = Path(__file__).parents[2]


def gradient(frames: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """A soft pattern that moves to the right."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    shift = [torch.sin(3 * x - 0.3 * t) / 2 + 0.5 for t in range(frames)]
    return torch.stack([torch.stack([x, y, moved]) for moved in shift])


def levels(frames: torch.Tensor) -> np.ndarray:
    """(T, H, W, 3) in 0…255, by rounding."""
    return np.rint(frames.double().numpy() * 255).transpose(0, 2, 3, 1)


def decode(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_png_keeps_every_level() -> None:
    picture = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    read = np.asarray(PIL.Image.open(io.BytesIO(encode_png(picture))))
    assert np.array_equal(read, levels(picture[None])[0])


def test_png_is_enlarged_pixel_by_pixel() -> None:
    picture = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    read = np.asarray(PIL.Image.open(io.BytesIO(encode_png(picture, scale=3))))
    assert read.shape == (15, 21, 3)
    for dy, dx in itertools.product(range(3), repeat=2):
        assert np.array_equal(read[dy::3, dx::3], levels(picture[None])[0])


def test_mp4_shows_the_frames() -> None:
    frames = gradient(14)
    decoded = decode(encode_mp4(frames, 7))
    assert decoded.shape == (14, 64, 64, 3)
    for shown, meant in zip(decoded, levels(frames), strict=True):
        assert psnr(shown, meant) > 35


def test_mp4_keeps_saturated_colours() -> None:
    colours = torch.eye(3)[:, :, None, None].expand(3, 3, 64, 64)
    assert psnr(decode(encode_mp4(colours, 1)), levels(colours)) > 45


def test_lower_crf_is_closer_and_larger() -> None:
    frames = gradient(4)
    best, worst = encode_mp4(frames, 7, crf=1), encode_mp4(frames, 7, crf=51)
    assert len(best) > len(worst)
    assert psnr(decode(best), levels(frames)) > psnr(decode(worst), levels(frames)) + 3


@pytest.mark.parametrize("fps", [1.0, 6.5, 7.0, 23.976, 24000 / 1001, 60.0])
@pytest.mark.parametrize("count", [1, 14])
def test_each_frame_is_shown_for_its_share_of_a_second(fps: float, count: int) -> None:
    with av.open(io.BytesIO(encode_mp4(gradient(count), fps))) as container:
        stream = container.streams.video[0]
        starts = [float(frame.pts * frame.time_base) for frame in container.decode(stream)]
        assert stream.frames == count
        assert float(stream.duration * stream.time_base) == pytest.approx(count / fps, rel=1e-4)
        assert container.duration / av.time_base == pytest.approx(count / fps, abs=1e-5, rel=1e-4)
    assert starts == pytest.approx([i / fps for i in range(count)], rel=1e-4)


@pytest.mark.parametrize("crf", [1, 18, 51])
def test_mp4_is_what_browsers_play(crf: int) -> None:
    data = encode_mp4(gradient(3), 7, crf=crf)
    with av.open(io.BytesIO(data)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.profile, codec.pix_fmt) == ("h264", "High", "yuv420p")
    assert data.index(b"moov") < data.index(b"mdat"), "the index comes first, so that playing starts while loading"


@pytest.mark.parametrize(("height", "width"), [(33, 35), (1, 1), (64, 35)])
def test_odd_sides_repeat_their_last_pixels(height: int, width: int) -> None:
    frames = gradient(3, 64, 64)[:, :, :height, :width]
    decoded = decode(encode_mp4(frames, 7, crf=1))
    assert decoded.shape == (3, height + height % 2, width + width % 2, 3)
    assert psnr(decoded[:, :height, :width], levels(frames)) > 30
    assert np.abs(decoded[:, height - 1].astype(int) - decoded[:, -1]).max() <= 8


def test_mp4_is_enlarged_pixel_by_pixel() -> None:
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    decoded = decode(encode_mp4(frames, 7, crf=1, scale=8))
    assert decoded.shape == (2, 64, 64, 3)
    assert psnr(decoded[:, 4::8, 4::8], levels(frames)) > 30


def test_equal_frames_give_equal_bytes() -> None:
    frames = gradient(14)
    assert encode_mp4(frames, 7) == encode_mp4(frames.clone(), 7)
    assert encode_png(frames[0]) == encode_png(frames[0].clone())


def test_files_record_no_date_and_no_library() -> None:
    data = encode_mp4(gradient(2), 7)
    with av.open(io.BytesIO(data)) as container:
        metadata = container.metadata | container.streams.video[0].metadata
    assert not {"creation_time", "encoder"} & metadata.keys()
    assert PIL.Image.open(io.BytesIO(encode_png(gradient(1)[0]))).info == {}


def test_a_missing_encoder_comes_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h264, "_ENCODER", "no-such-encoder")
    with pytest.raises(MissingError, match=r"no H\.264 encoder") as caught:
        encode_mp4(gradient(1), 7)
    assert "pip install" in str(caught.value)


def test_a_video_needs_a_frame_rate() -> None:
    with pytest.raises(InputError, match="frames a second"):
        encode_mp4(gradient(2), 0.0004)


NOISE = """
import hashlib, io, av, numpy
from nodes.files.h264 import add_stream, frame_of
y, x, t = numpy.mgrid[:144, :192, :12]
film = (127 + 120 * numpy.sin(x / 9 + t) * numpy.sin(y / 7 - t / 2)).astype(numpy.uint8)
file = io.BytesIO()
with av.open(file, "w", format="mp4") as container:
    stream = add_stream(container, 192, 144, 25, crf=18)
    for index in range(12):
        container.mux(stream.encode(frame_of(film[..., index, None].repeat(3, 2), index)))
    container.mux(stream.encode(None))
print(hashlib.sha256(file.getvalue()).hexdigest())
"""
"""Encodes a film of 192×144, a size at which x264's macroblock tree reads memory that nothing was written to."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc's way of filling new memory")
def test_the_bytes_of_a_video_do_not_depend_on_what_was_in_memory_before() -> None:
    def encoded(filling: int) -> str:
        command = [sys.executable, "-c", NOISE]
        environment = os.environ | {"MALLOC_PERTURB_": str(filling)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert encoded(0) == encoded(1)
