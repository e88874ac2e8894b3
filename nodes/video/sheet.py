"""A contact sheet of a video."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contact_sheet(frames: Tensor, columns: int, gap: int) -> Tensor:
    """Lay frames (T, 3, H, W) out in rows from the top left, white between and after them.

    Returns (1, 3, H', W') with H' = rows · H + (rows − 1) · gap and W' likewise.
    """
    columns = min(columns, len(frames))
    missing = -len(frames) % columns
    filled = torch.cat([frames, frames.new_ones(missing, *frames.shape[1:])])
    framed = F.pad(filled, (0, gap, 0, gap), value=1.0)
    _, _, height, width = framed.shape
    rows = framed.reshape(-1, columns, 3, height, width)
    sheet: Tensor = rows.permute(2, 0, 3, 1, 4).reshape(1, 3, len(rows) * height, columns * width)
    return sheet[..., : sheet.shape[-2] - gap, : sheet.shape[-1] - gap].contiguous()
