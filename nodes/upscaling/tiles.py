"""Making pictures larger in tiles, so that the memory for a tile is enough.

A picture is cut into tiles. The network is given each with the pixels around it, `overlap` of them, and what it makes
of those isn't used, but for the innermost: there neighbouring tiles are blended, one fading out while the other fades
in. Where the network looks no further than the overlap less the blend, that is what it makes of the whole picture; else
tiles differ from it by little near their edges, and blended edges don't show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from nodes.upscaling.nets import Upscaler

BLEND = 8
"""What part of the overlap, 1 of so many, the blend reaches into a tile and out of it."""


class Span(NamedTuple):
    """Where a tile lies along one side of a picture, in pixels."""

    start: int
    stop: int
    """What the network is given."""
    first: int
    last: int
    """What is used of it."""


class Side(NamedTuple):
    """The tiles along one side of a picture."""

    spans: tuple[Span, ...]
    blend: int
    """How many pixels into a tile, and out of it, it is blended with the next."""


def side(length: int, tile: int, overlap: int, unit: int = 1) -> Side:
    """Cut a side of `length` pixels, a multiple of `unit`, into as few tiles as there need be, of about equal length.

    Args:
        tile: the most pixels of a tile without what is around it, rounded up to multiples of `unit`.
        overlap: pixels around a tile that the network is given too, likewise.
    """
    units, most, around = length // unit, -(-tile // unit), -(-overlap // unit) * unit
    count = -(-units // most)
    edges = [units * index // count * unit for index in range(count + 1)]
    cores = [*pairwise(edges)]
    blend = min(overlap // BLEND, min(b - a for a, b in cores) // 2) if count > 1 else 0
    spans = (
        Span(max(0, a - around), min(length, b + around), max(0, a - blend), min(length, b + blend)) for a, b in cores
    )
    return Side(tuple(spans), blend)


def weights(side: Side, index: int, scale: int) -> Tensor:
    """How much each pixel that is made of a tile counts, ((last - first) · scale,); over all tiles it is 1."""
    span, width = side.spans[index], 2 * side.blend * scale
    found = torch.ones((span.last - span.first) * scale)
    rising = (torch.arange(width) + 0.5) / width
    if width and index > 0:
        found[:width] = rising
    if width and index < len(side.spans) - 1:
        found[-width:] = 1 - rising
    return found


@dataclass(frozen=True, slots=True)
class Grid:
    """The tiles of a picture."""

    rows: Side
    columns: Side

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.rows.spans) * len(self.columns.spans)

    @property
    def pixels(self) -> int:
        """The most that the network is given at a time."""
        tallest, widest = (max(span.stop - span.start for span in cut.spans) for cut in (self.rows, self.columns))
        return tallest * widest


def grid(net: Upscaler, height: int, width: int, tile: int, overlap: int) -> Grid:
    """The tiles of a picture with these sides, as `padded` gives them.

    No more is computed around a tile than has an influence on it.
    """
    if net.radius is not None:
        overlap = min(overlap, -(-net.radius * BLEND // (BLEND - 1)))
    return Grid(side(height, tile, overlap, net.unit), side(width, tile, overlap, net.unit))


@torch.no_grad()
def enlarged(net: Upscaler, pictures: Tensor, tiles: Grid, on_tile: Callable[[int], None]) -> Tensor:
    """Pictures (N, 3, h, w) of padded sides → float32 (N, 3, h · scale, w · scale) in host memory, not clamped.

    Args:
        on_tile: called before each tile with how many are done; may raise to stop.
    """
    scale, weight = net.scale, next(net.parameters())
    count, channels, height, width = pictures.shape
    made = torch.zeros(count, channels, height * scale, width * scale)
    across_all = tiles.columns.spans
    for i, down in enumerate(tiles.rows.spans):
        for j, across in enumerate(across_all):
            on_tile(i * len(across_all) + j)
            given = pictures[:, :, down.start : down.stop, across.start : across.stop].to(weight)
            part = net(given)[:, :, _used(down, scale), _used(across, scale)].float().cpu()
            share = weights(tiles.rows, i, scale)[:, None] * weights(tiles.columns, j, scale)
            rows, columns = (slice(span.first * scale, span.last * scale) for span in (down, across))
            made[:, :, rows, columns] += part * share
    return made


def _used(span: Span, scale: int) -> slice:
    """What is used of what the network makes of a tile."""
    return slice((span.first - span.start) * scale, (span.last - span.start) * scale)


def padded(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures (N, 3, h, w) → (N, 3, height, width): continued to the right and below by mirror images."""
    return _mirrored(_mirrored(pictures, 2, height), 3, width)


def _mirrored(pictures: Tensor, axis: int, length: int) -> Tensor:
    own = pictures.shape[axis]
    if length == own:
        return pictures
    place = torch.arange(length, device=pictures.device) % (2 * own)
    return pictures.index_select(axis, torch.minimum(place, 2 * own - 1 - place))
