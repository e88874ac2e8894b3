"""Which base model an adapter was made for, as its shapes say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BY_TEXT_WIDTH = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x or Stable Video Diffusion",
    1280: "the refiner of SDXL",
    2048: "SDXL",
}
"""Published models by the width of what their UNet attends to."""


def base_of_widths(widths: Mapping[str, int]) -> str | None:
    """The base model, given the input widths of an adapter's layers by name; None if they don't say."""
    if any("temporal_transformer_blocks" in name for name in widths):
        return "Stable Video Diffusion"
    if {width for name, width in widths.items() if name.endswith("self_attn.q_proj")} == {1024}:
        return "Stable Diffusion 2.x"
    ends = (".attn2.to_k", ".attn2.to_v")
    found = {width for name, width in widths.items() if name.startswith("unet.") and name.endswith(ends)}
    return _BY_TEXT_WIDTH.get(found.pop()) if len(found) == 1 else None
