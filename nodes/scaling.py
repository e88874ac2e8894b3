"""Resizing and arranging pictures, (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from nodes.inputs import Method


def fitted(own_width: int, own_height: int, width: int, height: int) -> tuple[int, int]:
    """The size asked for: a 0 stands for the side in proportion to the other, two for the own size."""
    if not width and not height:
        return own_width, own_height
    return width or max(1, round(own_width * height / own_height)), height or max(
        1, round(own_height * width / own_width)
    )


def cropped(pictures: Tensor, ratio: float) -> Tensor:
    """The largest part around the middle of pictures that has this ratio of width to height."""
    height, width = pictures.shape[2:]
    kept_width, kept_height = max(1, min(width, round(height * ratio))), max(1, min(height, round(width / ratio)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return pictures[:, :, top : top + kept_height, left : left + kept_width]


def scaled(pictures: Tensor, width: int, height: int, method: Method) -> Tensor:
    """Pictures of this width and height; all methods but "nearest-exact" average the pixels that they shrink."""
    if method == "lanczos":
        return torch.stack([torch.stack([_lanczos(plane, width, height) for plane in picture]) for picture in pictures])
    smooth = {"antialias": True} if method in ("bilinear", "bicubic") else {}
    return F.interpolate(pictures, (height, width), mode=method, **smooth).clamp(0, 1)


def grid(pictures: Tensor, columns: int, gap: int) -> Tensor:
    """Pictures side by side in rows, with white between them, as one: (3, H, W)."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    whole = torch.ones(3, rows * (height + gap) - gap, columns * (width + gap) - gap)
    for index, picture in enumerate(pictures):
        top, left = (height + gap) * (index // columns), (width + gap) * (index % columns)
        whole[:, top : top + height, left : left + width] = picture
    return whole


def _lanczos(plane: Tensor, width: int, height: int) -> Tensor:
    """(H, W) → (height, width), as Pillow does it."""
    picture = Image.fromarray(plane.cpu().numpy().astype(np.float32, copy=False))
    return torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.LANCZOS))).clamp(0, 1)
