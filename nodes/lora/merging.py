"""Merging LoRAs without training, by published methods.

Each method makes one update of the ΔWᵢ of several LoRAs (their strengths folded in) with weights wᵢ, layer by layer:

    sum              Σ wᵢ ΔWᵢ: task arithmetic (Ilharco et al. 2022, arXiv 2212.04089); PEFT's "cat"
    average          Σ wᵢ ΔWᵢ / Σ wᵢ: model soups (Wortsman et al. 2022, arXiv 2203.05482)
    svd              the sum, cut to a rank; PEFT's "svd"
    magnitude_prune  Σ wᵢ T(ΔWᵢ), where T keeps the largest elements; PEFT's "magnitude_prune_svd"
    ties             each element's sign is that of Σ T(ΔWᵢ), and those wᵢ T(ΔWᵢ) that have it are averaged (Yadav et
                     al. 2023, arXiv 2306.01708); PEFT's "ties_svd"
    dare             Σ wᵢ D(ΔWᵢ), where D keeps elements by chance and divides them by its probability (Yu et al. 2023,
                     arXiv 2311.03099); PEFT's "dare_linear_svd"
    dare_ties        as ties, with D in place of T; PEFT's "dare_ties_svd"

The sum and the average are [w₁B₁ w₂B₂ …] [A₁; A₂; …], exact at the sum of the ranks. What works on single elements
makes the ΔWᵢ of one layer at a time, in float32, and its result is cut to a rank. As in PEFT elements are kept by
layer, where the paper of TIES ranks those of all layers together, and a layer is merged among the LoRAs that change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import Factors, factors_of
from nodes.diffusion.changes import low_rank
from nodes.lora.truncation import Limit, Loss, nearest, truncated
from nodes.lora.words import joined

Method = Literal["sum", "average", "svd", "magnitude_prune", "ties", "dare", "dare_ties"]
_EXACT = ("sum", "average")
"""Methods whose result two matrices hold without a loss."""


@dataclass(frozen=True, slots=True)
class MergeSettings:
    """How LoRAs are merged."""

    method: Method = "sum"
    density: float = 0.2
    """The share of elements that are kept, where a method keeps a share."""
    limit: Limit = field(default_factory=Limit)
    """The ranks of the result; a rank of 0 is the largest of the LoRAs in a layer, and in exact methods their sum."""
    seed: int = 0
    """Of the chances in dare and dare_ties."""


class _Part(NamedTuple):
    """What a LoRA does to a layer."""

    number: int
    """Which LoRA it is."""
    weight: float
    factors: Factors


def merged_loras(
    loras: Sequence[LoRA],
    weights: Sequence[float],
    settings: MergeSettings,
    device: str,
    progress: Callable[[int, int], None],
) -> tuple[LoRA, dict[str, Loss]]:
    """The merged LoRA, in float32 at least, and what the cut to a rank costs by layer. Trigger words are those of all.

    No weights are weights of 1. `progress(done, total)` counts layers and may raise to stop. Raises InputError where
    LoRAs have other parts than two matrices a layer, layers differ in shape, or the weights don't fit.
    """
    weights = weights or [1.0] * len(loras)
    _check(loras, weights, settings.method)
    scale = 1 / sum(weights) if settings.method == "average" else 1.0
    layers: dict[str, list[_Part]] = {}
    for number, (lora, weight) in enumerate(zip(loras, weights, strict=True)):
        for name, factors in factors_of(lora).items():
            layers.setdefault(name, []).append(_Part(number, weight * scale, factors))
    up, down, losses = {}, {}, {}
    for done, (name, parts) in enumerate(layers.items(), 1):
        up[name], down[name], losses[name] = _merged(name, _alike(name, parts, loras), settings, device)
        progress(done, len(layers))
    name, words = "+".join(lora.name for lora in loras), reduce(joined, (lora.words for lora in loras))
    return LoRA(up, down, name, words), losses


def _check(loras: Sequence[LoRA], weights: Sequence[float], method: Method) -> None:
    if not loras:
        raise InputError("there are no LoRAs to merge", input="first", hint="link at least one")
    if len(weights) != len(loras):
        message = f"there are {len(weights)} weights for {len(loras)} LoRAs"
        raise InputError(message, input="weights", hint="give one for each, in their order, or none")
    if method == "average" and abs(sum(weights)) < 1e-6:
        raise InputError("the weights sum to 0, by which an average divides", input="weights", hint="take the sum")


def _alike(name: str, parts: list[_Part], loras: Sequence[LoRA]) -> list[_Part]:
    """The parts, kernels of one pixel as matrices if some are given so; raises InputError if their shapes differ."""
    if len({part.factors.down.ndim for part in parts}) > 1:
        parts = [part._replace(factors=_as_matrices(part.factors)) for part in parts]
    shapes = [(len(part.factors.up), *part.factors.down.shape[1:]) for part in parts]
    for part, shape in zip(parts, shapes, strict=True):
        if shape != shapes[0]:
            one, other = (loras[of.number].name for of in (parts[0], part))
            message = f"the LoRAs {one!r} and {other!r} change {name} by {shapes[0]} and {shape}"
            raise InputError(message, hint="merge LoRAs of the same base model")
    return parts


def _as_matrices(factors: Factors) -> Factors:
    """A layer's factors without a kernel, if that is of one pixel."""
    up, down, _ = factors
    return Factors(up.flatten(1), down.flatten(1)) if down.shape[2:].numel() == 1 else factors


def _merged(name: str, parts: list[_Part], settings: MergeSettings, device: str) -> tuple[Tensor, Tensor, Loss]:
    """One layer, back on the host."""
    limit, ranks = settings.limit, [len(part.factors.down) for part in parts]
    if settings.method not in _EXACT and not limit.rank:
        limit = Limit(max(ranks), limit.keep)
    if settings.method in ("sum", "average", "svd"):
        up = torch.cat([part.factors.up.float() * part.weight for part in parts], dim=1)
        return truncated(up, torch.cat([part.factors.down.float() for part in parts]), limit)
    dense = [low_rank(*(side.to(device, torch.float32) for side in part.factors[:2])) for part in parts]
    weights = torch.tensor([part.weight for part in parts], device=device)
    if settings.method.startswith("dare"):
        kept = [
            dropped(delta, settings.density, f"{settings.seed} {part.number} {name}")
            for delta, part in zip(dense, parts, strict=True)
        ]
    else:
        kept = [trimmed(delta, settings.density) for delta in dense]
    del dense
    merge = elected if settings.method.endswith("ties") else weighted
    up, down, loss = nearest(merge(kept, weights), limit)
    return up.cpu(), down.cpu(), loss


def trimmed(delta: Tensor, density: float) -> Tensor:
    """The share of elements that is largest in magnitude, zeros elsewhere."""
    kept = torch.zeros(delta.numel(), dtype=torch.bool, device=delta.device)
    kept[delta.abs().flatten().topk(int(density * delta.numel())).indices] = True
    return delta * kept.view(delta.shape)


def dropped(delta: Tensor, density: float, chance: str) -> Tensor:
    """Each element by chance, divided by its probability, zeros elsewhere. `chance` stands for the random numbers."""
    seed = int.from_bytes(hashlib.sha256(chance.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(delta.shape, generator=generator) < density  # on the host, for the same on every device
    return delta * kept.to(delta.device) / density


def weighted(deltas: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Σ wᵢ ΔWᵢ"""
    total = torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total += delta * weight
    return total


def elected(deltas: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The mean of those wᵢ ΔWᵢ, element by element, whose ΔWᵢ has the sign of Σ ΔWᵢ; of a sum of 0 that is plus."""
    positive = weighted(deltas, torch.ones_like(weights)) >= 0
    total, count = torch.zeros_like(deltas[0]), torch.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = torch.where(positive, delta > 0, delta < 0)
        total += delta * weight * agrees
        count += agrees
    return total / count.clamp(min=1)
