"""Reading picture files as float32 RGB and a mask, whatever their depth, orientation or transparency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import InputError, MissingError

# A small file can decode to any size: one with more pixels than this is refused before it is decoded.
MAX_PIXELS = 64 * 1024 * 1024
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names of the formats that are read; for some others it would start other programs."""


def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture in a file, or the first of several, and its mask: both (1, 3, H, W) in [0, 1].

    The mask is 1 where the picture is transparent, the same in all channels. The EXIF orientation is applied,
    transparency is laid over black, and 16 bits of grey stay 16 bits.

    Raises:
        MissingError: the file doesn't exist.
        InputError: it isn't a picture, or is damaged or too large.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise _too_large(path, f"{width} × {height}")
            pixels, alpha = _colours_and_opacity(ImageOps.exif_transpose(picture))
    except FileNotFoundError as error:
        raise MissingError(
            f"there is no file {path}", input="image", hint=f"put it into {path.absolute().parent}"
        ) from error
    except UnidentifiedImageError as error:
        hint = "give a PNG, JPEG, WebP, GIF, BMP or TIFF file"
        raise InputError(f"{path} is not a picture", input="image", hint=hint) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, "far too many") from error
    except (OSError, ValueError, SyntaxError) as error:  # how Pillow reports a damaged file
        raise InputError(f"{path} can't be read: {error}", input="image", hint="the file may be damaged") from error
    colours = torch.from_numpy(pixels).movedim(-1, 0)[None].contiguous()
    mask = torch.zeros_like(colours) if alpha is None else torch.from_numpy(1 - alpha).expand_as(colours).contiguous()
    return colours, mask


def _colours_and_opacity(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """The colours over black (H, W, 3), and the opacity (H, W) unless all is opaque: float32 in [0, 1]."""
    if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits of grey
        grey = np.asarray(picture, dtype=np.float32) / np.float32(1 if picture.mode == "F" else 65535)
        return np.repeat(grey.clip(0, 1)[..., None], 3, axis=-1), None
    if picture.has_transparency_data:
        rgba = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
        return rgba[..., :3] * rgba[..., 3:], rgba[..., 3]
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255, None


def _too_large(path: Path, size: str) -> InputError:
    return InputError(f"{path} has {size} pixels, more than {MAX_PIXELS:,}", input="image", hint="scale it down first")
