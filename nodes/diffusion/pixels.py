"""Pictures as tensors, as bytes and as Pillow images. Tensors are float32 RGB in [0, 1], channels first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from PIL import Image

from engine.errors import NodeError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def to_bytes(pictures: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] → contiguous uint8 (N, H, W, 3), rounded to the nearest of 256 levels."""
    levels = pictures.detach().float().clamp(0, 1).mul(255).round()
    return levels.to(device="cpu", dtype=torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def to_pillow(picture: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] → an 8-bit RGB Pillow image."""
    return Image.fromarray(to_bytes(picture[None])[0])


def check_finite(pixels: Tensor, dtype: str) -> Tensor:
    """Return the pixels as they are; raises NodeError if some are not finite."""
    if not torch.isfinite(pixels).all():
        hint = "load the model in float32 or bfloat16" if dtype == "float16" else None
        raise NodeError(f"the model produced values that are not finite in {dtype}", hint=hint)
    return pixels
