"""A tiny Swin2SR in the real architecture."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution


def tiny_swin2sr(**settings: Any) -> Swin2SRForImageSuperResolution:
    """A model of random weights, which makes pictures twice as large; settings are those of `Swin2SRConfig`."""
    small = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "image_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Swin2SRForImageSuperResolution(Swin2SRConfig(**small | settings)).eval()
        with torch.no_grad():
            for weight in model.parameters():  # those that transformers draws hardly change anything
                weight += 0.1 * torch.randn_like(weight) / max(1, weight[0].numel()) ** 0.5
    return model
