"""What is trained: the matrices of each layer, and for a DoRA the lengths of its weight's rows.

They act by forward hooks (`nodes.diffusion.adapters.hooked`), which leave no trace in the model once they are removed,
and which know the step, the dropout and whether the run was cancelled. PEFT's layers would be put into the shared model
and taken out again, and their dropout draws from torch's global state, which no kept state could hold for a step.

With W the layer's weight, b its bias and V = W + ΔW, a DoRA's output is b + m/‖V‖ · (V x): the lengths ‖V‖ of V's rows
count as constants, as its authors have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.values import LoRA
from nodes.diffusion.changes import low_rank
from nodes.lora.training.chance import chance

if TYPE_CHECKING:
    from nodes.diffusion.adapters import Hook
    from nodes.lora.training.settings import TrainingSettings

Tensors = dict[str, Tensor]


@dataclass(slots=True)
class _Layer:
    """One trained layer: down (r, in[, k, k]), up (out, r[, 1, 1]), and of a DoRA the lengths (out,)."""

    up: nn.Parameter
    down: nn.Parameter
    lengths: nn.Parameter | None

    def parts(self) -> dict[str, nn.Parameter]:
        parts = {"up": self.up, "down": self.down}
        return parts if self.lengths is None else parts | {"lengths": self.lengths}


class Network:
    """The parameters of all trained layers, in float32, and how they act.

    Args:
        modules: the layers to train, by name.
        check: called in each pass of each layer; may raise to stop.
    """

    def __init__(
        self, modules: Mapping[str, nn.Linear | nn.Conv2d], settings: TrainingSettings, check: Callable[[], None]
    ) -> None:
        self.settings, self.check = settings, check
        alpha = settings.rank if settings.alpha is None else settings.alpha
        self.scale = alpha / (settings.rank**0.5 if settings.rslora else settings.rank)
        generator = chance(settings.seed, "start")
        self.layers = {name: self._layer(module, generator) for name, module in modules.items()}
        self._turn: int | None = None
        self._shares: dict[str, Tensor] = {}

    def _layer(self, module: nn.Linear | nn.Conv2d, generator: torch.Generator) -> _Layer:
        """`down` is random and `up` zero, so that training starts from ΔW = 0."""
        weight = module.weight.detach()
        out, *inputs = weight.shape
        rank = self.settings.rank
        down = nn.init.kaiming_uniform_(torch.empty(rank, *inputs), a=5**0.5, generator=generator)
        up = torch.zeros(out, rank, *(1 for _ in inputs[1:]))
        lengths = nn.Parameter(_lengths(weight.float())) if self.settings.dora else None
        return _Layer(nn.Parameter(up.to(weight.device)), nn.Parameter(down.to(weight.device)), lengths)

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters by name, such as "up.unet.mid_block…"; those of one layer follow each other."""
        for name, layer in self.layers.items():
            for part, parameter in layer.parts().items():
                yield f"{part}.{name}", parameter

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Within it ranks are left out, as `dropout` says: the same ones for the same number, in each pass."""
        self._turn = number
        try:
            yield
        finally:
            self._turn = None

    def changed(self) -> None:
        """To be called after the parameters have changed."""
        self._shares.clear()

    @torch.no_grad()
    def limit(self) -> None:
        """Scale updates down to the largest norm that is allowed, both matrices alike, as kohya's trainers do."""
        if self.settings.max_norm is None:
            return
        for layer in self.layers.values():
            up, down = layer.up.flatten(1), layer.down.flatten(1)
            # ‖BA‖² = tr(BᵀB AAᵀ), without the dense product.
            norm = self.scale * ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()
            share = (self.settings.max_norm / norm.clamp(min=self.settings.max_norm)).sqrt()
            layer.up.mul_(share)
            layer.down.mul_(share)

    def hooks(self) -> dict[str, Hook]:
        """The forward hook of each layer."""
        return {name: self._hook(name, layer) for name, layer in self.layers.items()}

    def _hook(self, name: str, layer: _Layer) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            self.check()
            (x,) = inputs
            down, up = layer.down.to(x), layer.up.to(x)
            if isinstance(module, nn.Conv2d):
                inner = F.conv2d(x, down, None, module.stride, module.padding, module.dilation)
                update = F.conv2d(self._thinned(name, inner, 1) * self.scale, up)
            else:
                update = F.linear(self._thinned(name, F.linear(x, down), -1) * self.scale, up)
            if layer.lengths is None:
                return output + update
            assert isinstance(module, nn.Linear | nn.Conv2d)
            share = self._share(name, layer, module, output.ndim)
            bias = 0 if module.bias is None else module.bias.view(share.shape)
            lengthened = bias + share * (output - bias + update)
            return lengthened.to(output.dtype)

        return hook

    def _thinned(self, name: str, inner: Tensor, axis: int) -> Tensor:
        """Inner values without the ranks that are left out in this turn; the others make up for them."""
        share = self.settings.dropout
        if not share or self._turn is None:
            return inner
        generator = chance(self.settings.seed, "dropout", self._turn, name)
        kept = torch.rand(len(inner), self.settings.rank, generator=generator) >= share
        shape = [len(inner), *(1 for _ in inner.shape[1:])]
        shape[axis] = self.settings.rank
        return inner * (kept.view(shape) / (1 - share)).to(inner)

    def _share(self, name: str, layer: _Layer, module: nn.Linear | nn.Conv2d, ndim: int) -> Tensor:
        """m/‖V‖ of a DoRA's layer, in a shape that multiplies its output; ‖V‖ is computed once a step."""
        assert layer.lengths is not None
        if name not in self._shares:
            with torch.no_grad(), torch.autocast(module.weight.device.type, enabled=False):
                update = self.scale * low_rank(layer.up, layer.down).view(module.weight.shape)
                length = _lengths(module.weight.float() + update)
                self._shares[name] = length.clamp(min=torch.finfo(torch.float32).eps)
        shape = [1] * ndim
        shape[1 if isinstance(module, nn.Conv2d) else -1] = -1
        return (layer.lengths / self._shares[name]).view(shape)

    def lora(self, name: str, words: Mapping[str, tuple[str, ...]]) -> LoRA:
        """What was trained, on the CPU: a DoRA is in `LoRA.other`."""
        up: Tensors = {}
        down: Tensors = {}
        other: dict[str, Tensors] = {}
        for path, layer in self.layers.items():
            matrices = {"up": layer.up.detach().cpu() * self.scale, "down": layer.down.detach().cpu().clone()}
            if layer.lengths is None:
                up[path], down[path] = matrices["up"], matrices["down"]
            else:
                other[path] = matrices | {"row_norms": layer.lengths.detach().cpu().clone()}
        return LoRA(up, down, name=name, words=dict(words), other=other)


def _lengths(weight: Tensor) -> Tensor:
    """The lengths of a weight's rows, (out,)."""
    lengths: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return lengths
