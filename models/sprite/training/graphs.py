"""Networks with passes recorded as CUDA graphs: a small network spends its time on a GPU launching kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Recorded:
    """A network's forward and backward pass in bfloat16, on a GPU as one CUDA graph for each shape of its inputs.

    `forward(*inputs)` calls the network with tensors alone.
    """

    def __init__(self, network: nn.Module, forward: Callable[..., Tensor]) -> None:
        self.network, self.forward = network, forward
        self._passes: dict[tuple[torch.Size, ...], Callable[..., Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._passes:
            self._passes[shapes] = self._recorded(inputs)
        return self._passes[shapes](*inputs).float()

    def _recorded(self, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        one_pass = _Pass(self.network, self.forward)
        if inputs[0].device.type != "cuda":
            return one_pass
        samples = tuple(tensor.detach().clone() for tensor in inputs)
        with _HalfNorms():
            recorded = torch.cuda.make_graphed_callables(one_pass, samples, allow_unused_input=True)
        return cast("Callable[..., Tensor]", recorded)


class _Pass(nn.Module):
    def __init__(self, network: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, torch.bfloat16, cache_enabled=False):
            return self.call(*inputs)


class _HalfNorms(TorchFunctionMode):
    """Group norms in the precision of their input; autocast would convert it to single precision and back."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        called = _group_norm if func is F.group_norm else func
        return called(*args, **(kwargs or {}))


def _group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return F.group_norm(x, groups, weight.to(x.dtype), bias.to(x.dtype), eps)
