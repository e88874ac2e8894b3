"""Keeping the precision of a model's weights, which pipelines change in passing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def precision_kept(model: nn.Module) -> Iterator[None]:
    """The model's weights leave the scope in the precision that they came in, whatever happens.

    diffusers puts a VAE in float16 into float32 while it encodes or decodes. If memory runs out in between, it would
    stay so, perhaps in part, and all later uses would fail. There is no room on the device to convert it then: it is
    converted in host memory.
    """
    before = _dtypes(model)
    try:
        yield
    finally:
        if _dtypes(model) != before:
            device = next(model.parameters()).device
            model.to("cpu").to(before[0]).to(device)


def _dtypes(model: nn.Module) -> list[torch.dtype]:
    """The dtype of each weight; pipelines have all of a model's in one."""
    return [weight.dtype for weight in model.parameters()]
