"""Batches of the sprite world as tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.sprite.world import Scene, draw


def tensor(pictures: Iterable[NDArray[np.uint8]]) -> Tensor:
    """uint8 pictures (H, W, 3) → float32 (N, 3, H, W) in [0, 1]."""
    stacked = np.stack(list(pictures))
    return torch.from_numpy(stacked).movedim(-1, -3).contiguous().float().div_(255)


def pictures(scenes: Sequence[Scene]) -> Tensor:
    """Draw scenes: float32 (N, 3, 64, 64) in [0, 1]."""
    return tensor(draw(scene) for scene in scenes)
