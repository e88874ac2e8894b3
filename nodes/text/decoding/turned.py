"""Cheaper passes over a few tokens, on a CPU in float32: the same products of weights and states, the other way round.

A linear layer computes states · weightsᵀ. For a few states weights · statesᵀ may be quicker: with MKL on an AMD
processor it takes half the time for two tokens. For how many tokens it is so depends on the library and the processor,
and is measured, once on a machine: it is kept in the user's cache, so that the clock changes no results from process to
process. They differ from plain ones by rounding, as between passes of other sizes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from time import thread_time
from typing import Any

import torch
from torch import Tensor, nn

from nodes.text.kept import keep, place

MOST = 6
"""Tokens of the largest passes for which it may be quicker."""
GAIN = 0.9
"""Of the usual time, at most this is taken, or the layer is left as it is."""
MEASURED = 1 << 24
"""Weights that are measured, more than a processor's cache holds; models with fewer in all are left as they are."""


class Turned(nn.Linear):
    """A linear layer that multiplies the other way round where that is quicker."""

    sizes: frozenset[int]
    """The numbers of states for which it is."""

    def forward(self, states: Tensor) -> Tensor:
        rows = states.numel() // states.shape[-1]
        if rows not in self.sizes:
            return super().forward(states)
        product = turned(states.reshape(rows, -1), self.weight).view(*states.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


def turned(states: Tensor, weight: Tensor) -> Tensor:
    """states · weightᵀ, (T, out), of states (T, in) and a weight (out, in). One state is computed twice, as two are
    quicker than one.
    """
    columns = (states if len(states) > 1 else torch.cat([states, states])).t()
    return torch.mm(weight, columns)[:, : len(states)].t().contiguous()


def quickened(model: Any) -> Any:
    """The model with its weights, hooks and configuration, but its linear layers turned, where that is quicker.

    Layers of other kinds, on other devices or with other types of number stay; if none is left, so does the model.
    """
    linear = [module for module in model.modules() if _may_turn(module)]
    if sum(module.weight.numel() for module in linear) < MEASURED:
        return model
    shapes = sorted({(module.out_features, module.in_features) for module in linear})
    sizes = quicker_sizes(tuple(shapes), torch.get_num_threads())
    return _copy(model, sizes, {}) if sizes else model


def _may_turn(module: nn.Module) -> bool:
    if type(module) is not nn.Linear:
        return False
    return module.weight.device.type == "cpu" and module.weight.dtype == torch.float32


def _copy(module: Any, sizes: frozenset[int], known: dict[int, Any]) -> Any:
    """A module that shares all with another but the modules in it, which are such copies too."""
    if id(module) not in known:
        known[id(module)] = other = copy.copy(module)
        if _may_turn(module):
            other.__class__ = Turned
            other.sizes = sizes
        other._modules = {
            name: None if child is None else _copy(child, sizes, known) for name, child in module._modules.items()
        }
    return known[id(module)]


@cache
def quicker_sizes(shapes: tuple[tuple[int, int], ...], threads: int) -> frozenset[int]:
    """The numbers of states, up to `MOST`, for which turned products with weights of these shapes are quicker.

    Args:
        shapes: (out, in) of each.
        threads: of torch, at present.
    """
    kept = place(["turned products", str(shapes)])
    if (known := _read(kept)) is None:
        found = measured(shapes)
        if (known := _read(kept)) is None:  # else another process has decided meanwhile
            keep(kept, sorted(known := found))
    return known


def _read(kept: Path) -> frozenset[int] | None:
    """The numbers of states that a file has; None if it isn't there or can't be read."""
    try:
        sizes = json.loads(kept.read_text())
    except (OSError, ValueError):
        return None
    is_known = isinstance(sizes, list) and all(size in range(1, MOST + 1) for size in sizes)
    return frozenset(sizes) if is_known else None


def measured(shapes: Sequence[tuple[int, int]]) -> frozenset[int]:
    """The same, by this machine's clock."""
    weights = [*_weights(shapes)]
    states = {width: torch.ones(MOST, width) for _, width in shapes}
    plain, other = dict[int, float](), dict[int, float]()
    with torch.inference_mode():
        for _ in range(3):
            for size in range(1, MOST + 1):
                for times, product in ((plain, nn.functional.linear), (other, turned)):
                    started = thread_time()
                    for weight in weights:
                        product(states[weight.shape[1]][:size], weight)
                    times[size] = min(thread_time() - started, times.get(size, float("inf")))
    return frozenset(size for size in plain if other[size] < GAIN * plain[size])


def _weights(shapes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """Weights of the shapes in turn, until there are enough; of large ones, some rows."""
    left = MEASURED
    for rows, width in islice(cycle(shapes), 1000):
        if left <= 0:
            return
        rows = min(rows, max(MEASURED // len(shapes) // width, 1))
        left -= rows * width
        yield torch.full((rows, width), 0.01)
