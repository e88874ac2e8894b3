"""Reading picture files as float32 RGB and a mask, whatever their depth, orientation or transparency."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from engine import filetypes
from engine.errors import InputError, MissingError

MAX_PIXELS = 64 * 1024 * 1024
"""Most pixels of a picture: a small file can decode to any size, so one with more is refused before it is decoded."""
MAX_FILM_PIXELS = 256 * 1024 * 1024
"""Most pixels of all frames of an animation together."""
ANIMATED = ("PNG", "WEBP", "GIF", "AVIF")
"""The formats of which all frames are read; the further pictures in other files are pages or smaller copies."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are read; for some others it would start other programs."""

DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)
"""How Pillow reports a damaged file."""


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture in a file, or all frames of an animated one, and their masks: both (N, 3, H, W) in [0, 1].

    The mask is 1 − alpha, the same in all channels: the colours are those that the file has, under transparency too.
    The EXIF orientation is applied, and 16 bits of grey stay 16 bits.

    Raises:
        MissingError: the file doesn't exist.
        InputError: it isn't a picture, or is damaged or too large.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            frames = _frames(path, picture)
            height, width = _upright_size(picture)
            colours = torch.empty(len(frames), 3, height, width)
            mask = torch.zeros_like(colours)
            for index, frame in enumerate(frames):
                picture.seek(frame)
                pixels, alpha = _colours_and_opacity(ImageOps.exif_transpose(picture))
                # Later frames of a GIF may reach beyond the first, but are shown within it.
                colours[index] = torch.from_numpy(pixels[:height, :width]).movedim(-1, 0)
                if alpha is not None:
                    mask[index] = torch.from_numpy(1 - alpha[:height, :width])
    except FileNotFoundError as error:
        raise MissingError(
            f"there is no file {path}", input="image", hint=f"put it into {path.absolute().parent}"
        ) from error
    except UnidentifiedImageError as error:
        raise _no_picture(path) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "far too many", MAX_PIXELS) from error
    except DAMAGED as error:
        raise InputError(f"{path} can't be read: {error}", input="image", hint="the file may be damaged") from error
    return colours, mask


def _no_picture(path: Path) -> InputError:
    """What to say of a file that isn't a picture of a known format."""
    found = filetypes.of(path)
    if found and found.group == "video":
        return InputError(f"{path} is {found.name}, not a picture", input="image", hint="load it as a video")
    what = f" but {found.name}" if found and found.group != "picture" else ""
    known = f"{found.name}, which can't be read" if found and found.group == "picture" else f"not a picture{what}"
    return InputError(f"{path} is {known}", input="image", hint="give a PNG, JPEG, WebP, GIF, AVIF, BMP or TIFF file")


def _frames(path: Path, picture: Image.Image) -> range:
    """Which pictures of an opened file are read; raises InputError if they are too large."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width} × {height}", MAX_PIXELS)
    count = getattr(picture, "n_frames", 1) if picture.format in ANIMATED else 1
    # An APNG may begin with a picture for programs that don't know animations, which is not part of this one.
    frames = range(1 if count > 1 and picture.info.get("default_image") else 0, count)
    if width * height * len(frames) > MAX_FILM_PIXELS:
        raise _too_large(path, f"{len(frames)} frames of {width} × {height}", MAX_FILM_PIXELS)
    return frames


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    """Height and width of a picture once its EXIF orientation is applied."""
    width, height = picture.size
    turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (width, height) if turned else (height, width)


def _colours_and_opacity(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """The colours (H, W, 3), and the opacity (H, W) unless all is opaque: float32 in [0, 1]."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits of grey
        grey = np.asarray(picture, dtype=np.float32) / np.float32(1 if picture.mode == "F" else 65535)
        return np.repeat(grey.clip(0, 1)[..., None], 3, axis=-1), None
    if picture.has_transparency_data:
        rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
        return rgba[..., :3], rgba[..., 3]
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255, None


def _too_large(path: Path, size: str, most: int) -> InputError:
    return InputError(f"{path} has {size} pixels, more than {most:,}", input="image", hint="scale it down first")
