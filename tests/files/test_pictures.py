from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError, MissingError
from engine.node import Context
from nodes.files import pictures
from nodes.files.nodes import LoadImage
from nodes.files.pictures import MAX_PIXELS
from tests.dataset.films import sprites, write

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


def test_transparent_parts_keep_their_colours_and_are_white_in_the_mask(tmp_path: Path) -> None:
    alpha = np.full((5, 7, 1), 255, dtype=np.uint8)
    alpha[0, 0], alpha[1, 1] = 0, 51
    rgba = Image.fromarray(np.concatenate([RGB, alpha], axis=-1))
    rgba.save(tmp_path / "a.png")
    rgba.save(tmp_path / "a.webp", lossless=True, exact=True)
    for name in ("a.png", "a.webp"):
        np.testing.assert_allclose(load(tmp_path / name), RGB / 255, atol=1e-6)
        np.testing.assert_allclose(mask(tmp_path / name), np.repeat(1 - alpha / 255, 3, -1), atol=1e-6)


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
    assert load(tmp_path / "a.png").tolist() == [[[1, 0, 0], [0, 1, 0]]]
    assert mask(tmp_path / "a.png")[..., 0].tolist() == [[1, 0]]


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


def shown(path: Path) -> list[list[float]]:
    """The first pixel of each picture that is read."""
    found = LoadImage(image=str(path)).run(Context())
    assert found.out.pixels.shape == found.mask.pixels.shape
    return [[round(level, 1) for level in picture[:, 0, 0].tolist()] for picture in found.out.pixels]


RED, GREEN, BLUE = [1, 0, 0], [0, 1, 0], [0, 0, 1]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_an_animation_gives_all_of_its_frames(tmp_path: Path, name: str) -> None:
    first, *more = (Image.new("RGB", (4, 6), colour) for colour in ("#f00", "#0f0", "#00f", "#f00"))
    first.save(tmp_path / name, save_all=True, append_images=more, duration=100, lossless=True)
    assert shown(tmp_path / name) == [RED, GREEN, BLUE, RED]
    found = LoadImage(image=str(tmp_path / name)).run(Context())
    assert found.out.pixels.shape == (4, 3, 6, 4)
    assert not found.mask.pixels.any()


def test_each_frame_has_a_mask_of_its_own(tmp_path: Path) -> None:
    first, second = Image.new("RGBA", (4, 4), (255, 0, 0, 255)), Image.new("RGBA", (4, 4), (0, 255, 0, 51))
    for name in ("a.png", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True, exact=True)
        masks = LoadImage(image=str(tmp_path / name)).run(Context()).mask.pixels
        assert masks[:, :, 0, 0].tolist() == [[0] * 3, [pytest.approx(0.8)] * 3]
        assert shown(tmp_path / name) == [RED, GREEN]


def test_frames_that_only_change_a_part_are_whole(tmp_path: Path) -> None:
    first = Image.new("RGB", (8, 8), "#f00")
    second = first.copy()
    second.paste("#00f", (6, 6, 8, 8))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    _, pixels = LoadImage(image=str(tmp_path / "a.gif")).run(Context()).out.pixels
    assert (pixels[:, 0, 0].tolist(), pixels[:, 7, 7].tolist()) == (RED, BLUE)


def test_a_picture_for_programs_without_animations_is_not_part_of_one(tmp_path: Path) -> None:
    still, *frames = (Image.new("RGB", (4, 4), colour) for colour in ("#f00", "#0f0", "#00f"))
    still.save(tmp_path / "a.png", save_all=True, append_images=frames, default_image=True)
    assert shown(tmp_path / "a.png") == [GREEN, BLUE]


def test_an_animation_is_rotated_as_a_whole(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    first.save(tmp_path / "a.png", save_all=True, append_images=[second], exif=exif)
    pixels = LoadImage(image=str(tmp_path / "a.png")).run(Context()).out.pixels.movedim(1, -1).numpy()
    for picture, wanted in zip(pixels, (RGB, 255 - RGB), strict=True):
        np.testing.assert_allclose(picture, np.rot90(wanted, -1) / 255, atol=1e-7)


def test_a_frame_that_reaches_beyond_the_first_is_shown_within_it(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), "#f00"), Image.new("RGB", (9, 5), "#00f")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert shown(tmp_path / "a.gif") == [RED, BLUE]
    assert LoadImage(image=str(tmp_path / "a.gif")).run(Context()).out.pixels.shape == (2, 3, 4, 4)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_a_cut_animation_is_called_damaged_or_ends_early(tmp_path: Path, name: str) -> None:
    first, *more = (Image.fromarray(np.roll(RGB, shift, 0)) for shift in range(4))
    first.save(tmp_path / name, save_all=True, append_images=more, lossless=True)
    whole = (tmp_path / name).read_bytes()
    for kept in range(40, len(whole), 7):
        (tmp_path / name).write_bytes(whole[:kept])
        with suppress(InputError):
            assert 1 <= len(shown(tmp_path / name)) <= 4


def test_of_the_pages_of_a_document_the_first_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (4, 4), "#f00"), Image.new("RGB", (9, 9), "#00f")
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    assert shown(tmp_path / "a.tif") == [RED]


def test_an_animation_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (10, 10), (level, 0, 0)) for level in range(0, 250, 50)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(pictures, "MAX_FILM_PIXELS", 500)
    assert len(shown(tmp_path / "a.gif")) == 5
    monkeypatch.setattr(pictures, "MAX_FILM_PIXELS", 499)
    with pytest.raises(InputError, match=r"5 frames of 10 × 10 pixels, more than 499"):
        load(tmp_path / "a.gif")


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


def test_a_video_is_not_a_picture_whatever_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png is an MP4 file, not a picture") as caught:
        load(write(tmp_path / "a.mp4", sprites(1)[:2]).rename(tmp_path / "a.png"))
    assert caught.value.hint == "load it as a video"
    (tmp_path / "a.jpg").write_bytes(b"%PDF-1.7")
    with pytest.raises(InputError, match=r"a\.jpg is not a picture but a PDF document"):
        load(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_text("<svg/>")
    with pytest.raises(InputError, match=r"a\.jpg is an SVG picture, which can't be read"):
        load(tmp_path / "a.jpg")


def test_a_picture_is_read_whatever_its_name(tmp_path: Path) -> None:
    for encoding in ("PNG", "AVIF"):
        Image.fromarray(RGB).save(tmp_path / "a.mp4", encoding, quality=100, subsampling="4:4:4")
        np.testing.assert_allclose(load(tmp_path / "a.mp4"), RGB / 255, atol=0.05)


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
