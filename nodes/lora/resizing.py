"""Giving the layers of a LoRA a lower rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import InputError
from nodes.diffusion.adapters import check_low_rank
from nodes.lora.truncation import Limit, Loss, truncated

if TYPE_CHECKING:
    from engine.values import LoRA


def resized(lora: LoRA, limit: Limit, progress: Callable[[int, int], None]) -> tuple[LoRA, dict[str, Loss]]:
    """The LoRA with each layer within the limit, and what that costs by layer. Layers within it stay as they are.

    `progress(done, total)` counts layers and may raise to stop. Raises InputError for a LoRA that has no low-rank
    matrices, or other parts too.
    """
    check_low_rank(lora)
    if not lora.up:
        raise InputError(f"the LoRA {lora.name!r} has no layers", hint="give one that changes something")
    up, down, losses = {}, {}, {}
    for done, name in enumerate(lora.up, 1):
        up[name], down[name], losses[name] = truncated(lora.up[name], lora.down[name], limit)
        progress(done, len(lora.up))
    return replace(lora, up=up, down=down), losses
