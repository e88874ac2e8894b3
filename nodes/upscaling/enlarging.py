"""Making pictures larger with an upscaler, in tiles that fit into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from engine.errors import InputError
from engine.models import is_out_of_memory, room_on
from engine.node import Figure
from nodes.diffusion.pixels import check_finite
from nodes.scaling import scaled
from nodes.upscaling.reading import upscaler
from nodes.upscaling.tiles import Grid, enlarged, grid, padded

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import UpscaleModel
    from nodes.upscaling.nets import Upscaler

LARGEST, SMALLEST = 512, 32
"""Sides of tiles, in pixels of the given picture, between which memory chooses."""
SHARE = 0.5
"""What part of the memory that is free a tile may take."""


class Enlargement(NamedTuple):
    """How pictures are made larger."""

    scale: float = 0
    """How many times; 0 is the model's own, less is made of that."""
    tile: int = 0
    """The side of a tile; 0: `LARGEST`, or less where memory doesn't suffice."""
    overlap: int = 40
    """Pixels around a tile that are computed too."""
    at_once: int = 1
    """The most pictures that are computed together, if they have no more pixels than the largest tile."""


def enlarge(ctx: Context, model: UpscaleModel, pixels: Tensor, how: Enlargement) -> Tensor:
    """Pictures (N, 3, h, w) in [0, 1] → larger ones, in host memory.

    Raises:
        Cancelled: the run was cancelled; no further tile is computed.
        InputError: the model makes pictures less large than is asked for.
        NodeError: the result is not finite.
    """
    times = how.scale or model.scale
    if times > model.scale:
        raise InputError(
            f"the model makes pictures {model.scale} times as large, not {times:g} times",
            input="scale",
            hint="give at most that; for more, let a second node enlarge the result, or use ImageScale",
        )
    net = upscaler(ctx, model)
    count, _, height, width = pixels.shape
    size = (max(1, round(height * times)), max(1, round(width * times)))
    made, done = torch.empty(count, 3, *size), 0
    plan = _plan(ctx, net, height, width, how)
    while done < count:
        some = pixels[done : done + plan.together]
        part = _attempt(ctx, net, some, plan, done, count)
        if part is None:
            plan = plan.smaller(len(some), height, width)
            continue
        part = check_finite(part[:, :, : height * net.scale, : width * net.scale], model.dtype).clamp(0, 1)
        made[done : done + len(some)] = part if part.shape[2:] == size else scaled(part, size[1], size[0], "lanczos")
        done += len(some)
    tiles = count * _grid(net, height, width, plan).count
    ctx.progress(tiles, tiles, unit="tile")
    ctx.report({"tiles": tiles, "tile": Figure(plan.tile, "px")})
    return made


class _Plan(NamedTuple):
    """What is computed at a time."""

    tile: int
    overlap: int
    together: int
    """How many pictures."""

    def smaller(self, pictures: int, height: int, width: int) -> _Plan:
        """For half as many pictures of these sides, or a tile half as large of one."""
        if pictures > 1:
            return self._replace(together=pictures // 2)
        return self._replace(tile=max(SMALLEST, min(self.tile, max(height, width)) // 2))


def _plan(ctx: Context, net: Upscaler, height: int, width: int, how: Enlargement) -> _Plan:
    """The largest tile, halved as often as free memory asks for, unless one is asked for."""
    room = int(room_on(ctx.device) * SHARE) // (net.numbers * next(net.parameters()).element_size())
    together = max(1, min(how.at_once, min(room, LARGEST**2) // (height * width)))
    plan = _Plan(how.tile or LARGEST, how.overlap, together)
    while not how.tile and plan.tile > SMALLEST and _grid(net, height, width, plan).pixels > room:
        plan = plan._replace(tile=plan.tile // 2)
    return plan


def _grid(net: Upscaler, height: int, width: int, plan: _Plan) -> Grid:
    return grid(net, net.padded(height), net.padded(width), plan.tile, plan.overlap)


def _attempt(ctx: Context, net: Upscaler, pixels: Tensor, plan: _Plan, done: int, count: int) -> Tensor | None:
    """The larger pictures, of padded sides; None if memory ran out but would suffice for less at a time.

    Args:
        done, count: how many pictures are done before, of how many; all are taken to have as many tiles.
    """
    _, _, height, width = pixels.shape
    tiles = _grid(net, height, width, plan)

    def report(index: int) -> None:
        ctx.progress(done * tiles.count + index * len(pixels), count * tiles.count, unit="tile")

    try:
        return enlarged(net, padded(pixels, net.padded(height), net.padded(width)), tiles, report)
    except (RuntimeError, MemoryError) as error:
        is_last = len(pixels) == 1 and plan.tile <= SMALLEST
        if is_last or not is_out_of_memory(error):
            raise
    return None
