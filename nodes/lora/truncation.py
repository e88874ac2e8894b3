"""The nearest update of a lower rank, by singular values, and what is lost with it.

Of all matrices of rank r the one of the r largest singular values is nearest in the Frobenius norm (Eckart and Young
1936). Those of a product B A are found by way of small matrices: with B = Q_b R_b and Aᵀ = Q_a R_a they are those of
R_b R_aᵀ, which is r × r.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from engine.node import Figure


@dataclass(frozen=True, slots=True)
class Limit:
    """Which singular values of a layer are kept: the largest."""

    rank: int = 0
    """How many at most; 0 is any number."""
    keep: float = 1.0
    """The share of the update's Frobenius norm that they have to have, unless the rank forbids it."""

    def count(self, values: Tensor) -> int:
        """How many of these values, in falling order, are kept: one at least."""
        shares = values.square().cumsum(0).sqrt()
        wanted = int((shares < self.keep * shares[-1] * (1 - 1e-15)).sum()) + 1
        return max(1, min(wanted, self.rank or wanted, len(values)))


class Loss(NamedTuple):
    """What became of a layer's update."""

    norm: float
    """Its Frobenius norm."""
    lost: float
    """That of what the new update lacks."""
    before: int
    """Its rank, or the most that it could have."""
    after: int

    @property
    def share(self) -> float:
        """What is lost of the norm, from 0 to 1."""
        return self.lost / self.norm if self.norm else 0.0


class Truncated(NamedTuple):
    """An update of a lower rank, in the type and shapes of the one given."""

    up: Tensor
    down: Tensor
    loss: Loss


def truncated(up: Tensor, down: Tensor, limit: Limit) -> Truncated:
    """The nearest update to up @ down within a limit: the one given, if that is within it.

    Shapes are those of `Factors`. No matrix of the layer's size is made.
    """
    left, values, right = decomposed(up, down)
    count, rank = limit.count(values), len(down)
    norm = values.norm().item()
    if count >= rank:
        return Truncated(up, down, Loss(norm, 0.0, rank, rank))
    roots = values[:count].sqrt()
    return Truncated(
        (left[:, :count] * roots).to(up).reshape(len(up), count, *up.shape[2:]),
        (roots[:, None] * right[:count]).to(down).reshape(count, *down.shape[1:]),
        Loss(norm, values[count:].norm().item(), rank, count),
    )


def decomposed(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """up @ down as left (out, m), falling singular values (m,) and right (m, in·k·k), in float64 on the host."""
    q_up, r_up = torch.linalg.qr(up.flatten(1).cpu().double())
    q_down, r_down = torch.linalg.qr(down.flatten(1).cpu().double().T)
    u, values, v = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return q_up @ u, values, v @ q_down.T


def nearest(matrix: Tensor, limit: Limit) -> Truncated:
    """The nearest update to a whole matrix (out, in) or (out, in, k, k) within a limit, in float32 at least.

    From the eigenvectors of the smaller of M Mᵀ and Mᵀ M, in float64: singular values below 1e-8 of the largest are
    lost in rounding. Of a matrix on one of Apple's GPUs, which have no float64, that is done on the host.
    """
    if matrix.device.type == "mps":
        matrix = matrix.cpu()
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    flat = matrix.flatten(1).double()
    tall = len(flat) > flat.shape[1]
    squares, vectors = torch.linalg.eigh(flat.T @ flat if tall else flat @ flat.T)
    values = squares.flip(0).clamp(min=0).sqrt()
    count = limit.count(values)
    basis, roots = vectors.flip(1)[:, :count], values[:count].sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    up = (flat @ basis if tall else basis * values[:count]) / roots
    down = (basis * roots).T if tall else (basis.T @ flat) / roots[:, None]
    norm = flat.norm().item()
    lost = flat.addmm_(up, down, alpha=-1).norm().item()
    ones = (1,) * (matrix.ndim - 2)
    return Truncated(
        up.to(dtype).reshape(len(matrix), count, *ones),
        down.to(dtype).reshape(count, *matrix.shape[1:]),
        Loss(norm, lost, len(values), count),
    )


def total_loss(losses: Mapping[str, Loss]) -> float:
    """What is lost of the Frobenius norm of all layers together, from 0 to 1."""
    norm = sum(of.norm**2 for of in losses.values()) ** 0.5
    lost = sum(of.lost**2 for of in losses.values()) ** 0.5
    return lost / norm if norm else 0.0


def figures(losses: Mapping[str, Loss]) -> dict[str, Figure | float | str]:
    """What to report of layers that got a lower rank."""
    worst = max(losses, key=lambda layer: losses[layer].share)
    ranks = sorted(of.after for of in losses.values())
    shown = (
        f"{ranks[0]}"
        if ranks[0] == ranks[-1]
        else f"{ranks[0]} to {ranks[-1]}, {sum(ranks) / len(ranks):.1f} on average"
    )
    return {
        "lost of the norm": Figure(100 * total_loss(losses), "%"),
        "in the worst layer": Figure(100 * losses[worst].share, "%"),
        "worst layer": worst,
        "rank": shown,
        "layers": len(losses),
    }
