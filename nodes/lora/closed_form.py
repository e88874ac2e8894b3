"""Mergers by least squares, layer by layer: a start for ZipLoRA's gradient descent that costs a few forward passes.

Since diag(m) x = diag(x) m, the error that mergers m = [m_c; m_s] make in one layer's output is quadratic in m. With
the second moments S = E[x xᵀ] of the layer's inputs, as each LoRA's own model sees them, and G_cs = ΔW_cᵀ ΔW_s,

    F(m) = (m − e_c)ᵀ K(S_c) (m − e_c) + (m − e_s)ᵀ K(S_s) (m − e_s)
    K(S) = [[G_cc ∘ S, G_cs ∘ S], [G_csᵀ ∘ S, G_ss ∘ S]],  e_c = [1; 0],  e_s = [0; 1]

which (K(S_c) + K(S_s)) m = K(S_c) e_c + K(S_s) e_s minimises. Inputs seldom span all columns, those made from a single
prompt least of all, so a ridge pulls m to the layer's best pair of scalars. Matching the layer outputs of several LoRAs
by least squares is also what IterIS does (Chen et al. 2024, arXiv 2411.15231), with a dense result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodes.diffusion.adapters import Factors, patched
from nodes.diffusion.layers import layers
from nodes.lora.prediction import encode_captions, predict
from nodes.lora.training.layers import check_not_quantised

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from nodes.lora.references import Draw, Side

RIDGE = 0.01
"""Weight of the ridge, in units of K's mean diagonal element."""
MEMORY = 2**30
"""Bytes of second moments kept at a time, unless a single layer's need more; each group of layers costs a pass."""


@torch.no_grad()
def closed_form_mergers(
    pipeline: StableDiffusionXLPipeline, sides: Sequence[Side], draws: Sequence[Draw], tick: Callable[[], None]
) -> list[dict[str, Tensor]]:
    """A float32 vector (in,) for each layer of each LoRA, from statistics on `draws`, one for each side.

    `tick` is called after each of `closed_form_passes` forward passes and may raise to stop.
    """
    mergers: list[dict[str, Tensor]] = [{} for _ in sides]
    for group in _groups(pipeline, [side.factors for side in sides]):
        moments = [_second_moments(pipeline, side, draw, group, tick) for side, draw in zip(sides, draws, strict=True)]
        for name in group:
            solution = solve_layer([of[name] for of in moments], [side.factors.get(name) for side in sides])
            for columns, merger in zip(solution, mergers, strict=True):
                if columns is not None:
                    merger[name] = columns
    return mergers


def closed_form_passes(pipeline: StableDiffusionXLPipeline, updates: Sequence[Iterable[str]], draws: int) -> int:
    """How many forward passes the fit takes, given the names of each LoRA's layers and the draws of each side."""
    return sum(len(updates) * draws for _ in _groups(pipeline, updates))


def solve_layer(
    moments: Sequence[Tensor], factors: Sequence[Factors | None], ridge: float = RIDGE
) -> list[Tensor | None]:
    """The mergers of one layer: for each LoRA a vector (in,), or None where it leaves the layer alone.

    `moments` are S_c and S_s, (in·k·k, in·k·k) in a convolution; `factors` those of ΔW_c and ΔW_s.
    """
    present = [(i, layer) for i, layer in enumerate(factors) if layer is not None]
    width = present[0][1].down.shape[1]
    quadratics = [_quadratic(s, [layer for _, layer in present]) for s in moments]
    total = torch.stack(quadratics).sum(0)
    # Column p is 1 on the p-th present LoRA's columns: the directions of uniform scaling, and the targets e.
    uniform = torch.eye(len(present)).repeat_interleave(width, dim=0).to(total)
    pull = sum(quadratics[i] @ uniform[:, p] for p, (i, _) in enumerate(present))
    scalars = torch.linalg.pinv(uniform.T @ total @ uniform, hermitian=True) @ (uniform.T @ pull)
    weight = (ridge * total.diagonal().mean()).clamp(min=torch.finfo(total.dtype).tiny)
    system = total + weight * torch.eye(len(total)).to(total)
    solution = torch.linalg.solve(system, pull + weight * (uniform @ scalars)).split(width)
    mergers: list[Tensor | None] = [None for _ in factors]
    for (i, _), columns in zip(present, solution, strict=True):
        mergers[i] = columns.clone()
    return mergers


def _quadratic(moments: Tensor, present: Sequence[Factors]) -> Tensor:
    """K(S), over the columns of the LoRAs that change the layer. A convolution's column is an input channel."""
    ups = [layer.up.flatten(1).to(moments) for layer in present]
    downs = [layer.down.flatten(1).to(moments) for layer in present]
    width, kernel = present[0].down.shape[1], present[0].down.shape[2:].numel()
    rows = []
    for up, down in zip(ups, downs, strict=True):
        grams = [(down.T @ (up.T @ other_up) @ other_down) for other_up, other_down in zip(ups, downs, strict=True)]
        blocks = [(gram * moments).view(width, kernel, width, kernel).sum((1, 3)) for gram in grams]
        rows.append(torch.cat(blocks, dim=1))
    return torch.cat(rows)


def _second_moments(
    pipeline: StableDiffusionXLPipeline,
    side: Side,
    draw: Draw,
    modules: Mapping[str, nn.Module],
    tick: Callable[[], None],
) -> dict[str, Tensor]:
    """S = E[x xᵀ] of the modules' inputs in the model with this side's LoRA, in float32."""
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(modules, 0)

    def watch(name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
        rows = _input_rows(module, *inputs)
        sums[name] = sums[name].addmm_(rows.T, rows) if name in sums else rows.T @ rows
        counts[name] += len(rows)

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(partial(watch, name)).remove)
        stack.enter_context(patched(pipeline, side.factors))
        conditioning = encode_captions(pipeline, [side.prompt])
        for noisy, timestep, _ in zip(*draw, strict=True):  # one at a time, as a convolution's inputs are large
            predict(pipeline, noisy[None], timestep[None], conditioning)
            tick()
    return {name: total / counts[name] for name, total in sums.items()}


def _input_rows(module: nn.Module, x: Tensor) -> Tensor:
    """The vectors that a layer's weights are multiplied with, (count, in) or (count, in·k·k), in float32."""
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str), "diffusers gives paddings in pixels"
        patches = F.unfold(x.float(), module.kernel_size, module.dilation, module.padding, module.stride)
        return patches.transpose(1, 2).flatten(0, 1)
    return x.float().flatten(0, -2)


def _groups(pipeline: StableDiffusionXLPipeline, updates: Iterable[Iterable[str]]) -> Iterator[dict[str, nn.Module]]:
    """The layers of some LoRAs, in consecutive groups whose second moments fit in memory together."""
    modules = layers(pipeline)
    names = list(dict.fromkeys(chain.from_iterable(updates)))
    check_not_quantised({name: modules[name] for name in names}, "merged from a closed-form start")
    group: dict[str, nn.Module] = {}
    used = 0
    for name in names:
        module = modules[name]
        needed = 4 * module.weight[0].numel() ** 2
        if group and used + needed > MEMORY:
            yield group
            group, used = {}, 0
        group[name] = module
        used += needed
    yield group
