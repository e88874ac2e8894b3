from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError, MissingError
from engine.node import Context
from nodes.files.nodes import LoadImage
from nodes.files.pictures import MAX_PIXELS

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def load(path: Path) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    pixels = LoadImage(image=str(path)).run(Context()).out.pixels
    assert pixels.dtype == torch.float32
    assert pixels.shape[:2] == (1, 3)
    return pixels[0].movedim(0, -1).numpy()


def mask(path: Path) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    pixels = LoadImage(image=str(path)).run(Context()).mask.pixels
    assert (pixels.dtype, pixels.is_contiguous()) == (torch.float32, True)
    return pixels[0].movedim(0, -1).numpy()


def test_eight_bits_are_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_allclose(load(tmp_path / "a.png"), RGB / 255, atol=1e-7)


def test_sixteen_bits_of_grey_stay_sixteen(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 256], [1000, 40000, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        np.testing.assert_allclose(load(tmp_path / name), np.repeat(grey[..., None] / 65535, 3, -1), atol=1e-7)


def test_transparent_parts_are_laid_on_black(tmp_path: Path) -> None:
    alpha = np.full((5, 7, 1), 255, dtype=np.uint8)
    alpha[0, 0], alpha[1, 1] = 0, 51
    Image.fromarray(np.concatenate([RGB, alpha], axis=-1)).save(tmp_path / "a.png")
    np.testing.assert_allclose(load(tmp_path / "a.png"), RGB / 255 * (alpha / 255), atol=1e-6)
    np.testing.assert_allclose(mask(tmp_path / "a.png"), np.repeat(1 - alpha / 255, 3, -1), atol=1e-6)


def test_the_mask_of_an_opaque_picture_is_black(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((5, 7), np.uint16)).save(tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert np.array_equal(mask(tmp_path / name), np.zeros((5, 7, 3)))


def test_the_mask_is_rotated_with_its_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise by 90°
    alpha = np.zeros((5, 7, 1), np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=-1)).save(tmp_path / "a.png", exif=exif)
    assert mask(tmp_path / "a.png").shape == load(tmp_path / "a.png").shape == (7, 5, 3)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png", transparency=0)
    assert load(tmp_path / "a.png").tolist() == [[[0, 0, 0], [0, 1, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (3, 2), "white")
    picture = Image.new("F", (3, 2), 1.0) if mode == "F" else white.convert(mode)
    picture.save(tmp_path / "a.tif")
    np.testing.assert_allclose(load(tmp_path / "a.tif"), np.ones((2, 3, 3)), atol=0.01)


def test_the_orientation_of_a_camera_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise by 90°
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(load(tmp_path / "a.png"), np.rot90(RGB, -1) / 255, atol=1e-7)


def test_the_first_of_several_pictures_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    np.testing.assert_allclose(load(tmp_path / "a.gif")[0, 0], [1, 0, 0], atol=0.01)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no file .*gone\.png") as caught:
        load(tmp_path / "gone.png")
    assert caught.value.input == "image"


def test_a_folder_is_not_a_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        load(tmp_path)


def test_another_kind_of_file_is_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(InputError, match="not a picture") as caught:
        load(tmp_path / "a.png")
    assert "PNG, JPEG" in str(caught.value)


def test_a_program_that_draws_a_picture_is_not_started(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.eps")
    with pytest.raises(InputError, match="not a picture"):
        load(tmp_path / "a.eps")


@pytest.mark.parametrize("kept", [60, 100])
def test_a_cut_file_is_called_damaged(tmp_path: Path, kept: int) -> None:
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:kept])
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path / "cut.png")


@pytest.mark.parametrize("side", [9_000, 12_000, 40_000])
def test_a_picture_that_would_fill_the_memory_is_refused_unread(tmp_path: Path, side: int) -> None:
    assert side**2 > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(_png_header(side))
    with pytest.raises(InputError, match=r"more than 67,108,864"):
        load(tmp_path / "bomb.png")


def _png_header(side: int) -> bytes:
    """The start of a PNG that claims to be a square of this side."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
