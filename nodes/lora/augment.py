"""More views of a few pictures, so that a LoRA learns what they show and not where in the picture it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nodes.lora.training import Example

if TYPE_CHECKING:
    from collections.abc import Sequence


def with_views(
    examples: Sequence[Example], views: int, *, shift: float = 0.08, scale: float = 0.08, seed: int = 0
) -> list[Example]:
    """The examples, and `views` more of each, moved and scaled at random under the same caption.

    `shift` is the furthest that a picture is moved, in pictures' widths and heights; `scale` how much larger or smaller
    it gets at most. What comes in over the edge is the picture mirrored.
    """
    generator = torch.Generator().manual_seed(seed)
    more = [
        Example(_view(example.pixels, shift, scale, generator), example.caption)
        for example in examples
        for _ in range(views)
    ]
    return [*examples, *more]


def _view(pixels: Tensor, shift: float, scale: float, generator: torch.Generator) -> Tensor:
    across, down, larger = (torch.rand(3, generator=generator) * 2 - 1).tolist()
    zoom = 1 / (1 + larger * scale)
    # In the units of affine_grid a picture is 2 wide.
    placement = torch.tensor([[zoom, 0, 2 * shift * across], [0, zoom, 2 * shift * down]])
    grid = F.affine_grid(placement[None], [1, *pixels.shape], align_corners=False)
    seen = F.grid_sample(pixels[None], grid.to(pixels), padding_mode="reflection", align_corners=False)
    return seen[0].clamp(0, 1)
