"""Adapters on a shared pipeline, for the duration of a call.

An adapter is a forward hook that adds B(A x) to a layer's output. The base weights are never written, so removing the
hooks leaves the model bit for bit as it was. Hooks affect every caller of the model, so a scope holds a lock on
the pipeline's model: branches that share a base model with different adapters take turns. Within one thread scopes
nest, and their updates add up. A sampler therefore opens a scope even when it has no adapters.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import InputError
from nodes.diffusion.layers import layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from diffusers import DiffusionPipeline

    from engine.values import LoRA


class Factors(NamedTuple):
    """The low-rank update ΔW = scale · up @ down of one layer.

    Linear: up (out, r), down (r, in). Conv2d: up (out, r, 1, 1), down (r, in, k, k).
    """

    up: Tensor
    down: Tensor
    scale: float = 1.0

    def to(self, like: Tensor) -> Factors:
        """With the dtype and on the device of `like`."""
        return Factors(self.up.to(like), self.down.to(like), self.scale)


@contextmanager
def applied(pipeline: DiffusionPipeline, adapters: Sequence[LoRA]) -> Iterator[None]:
    """Add the updates of `adapters` (each times its strength) to the pipeline's layers while the scope is open.

    Raises InputError, before anything is changed, when the pipeline lacks a layer of an adapter or has it in another
    shape.
    """
    modules = layers(pipeline)
    for adapter in adapters:
        check_fits(modules, adapter)
    update = summed([factors_of(adapter) for adapter in adapters])
    placed = {name: factors.to(modules[name].weight) for name, factors in update.items()}
    with patched(pipeline, placed):
        yield


@contextmanager
def patched(pipeline: DiffusionPipeline, updates: Mapping[str, Factors]) -> Iterator[None]:
    """Add `updates`, by layer name, to the outputs of the pipeline's layers while the scope is open.

    Differentiable in the factors. Run `backward` inside the scope: gradient checkpointing calls the layers again.
    """
    modules = layers(pipeline)
    with _exclusive(pipeline), ExitStack() as stack:
        for name, factors in updates.items():
            stack.callback(modules[name].register_forward_hook(_update_hook(factors)).remove)
        yield


@contextmanager
def frozen(pipeline: DiffusionPipeline) -> Iterator[None]:
    """No parameter of the pipeline collects a gradient while the scope is open."""
    models = [model for model in pipeline.components.values() if isinstance(model, nn.Module)]
    with _exclusive(pipeline):
        trainable = [parameter for model in models for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)


def factors_of(adapter: LoRA) -> dict[str, Factors]:
    """The adapter's factors by layer, its strength folded in."""
    return {name: Factors(up * adapter.strength, adapter.down[name]) for name, up in adapter.up.items()}


def summed(updates: Sequence[Mapping[str, Factors]]) -> dict[str, Factors]:
    """The sum of several updates as one: [B₁ B₂] [A₁; A₂] = B₁A₁ + B₂A₂, layer by layer. Scales must be 1."""
    terms: dict[str, list[Factors]] = {}
    for update in updates:
        for name, factors in update.items():
            terms.setdefault(name, []).append(factors)
    return {
        name: Factors(torch.cat([term.up for term in parts], dim=1), torch.cat([term.down for term in parts]))
        for name, parts in terms.items()
    }


def check_fits(modules: Mapping[str, nn.Linear | nn.Conv2d], adapter: LoRA) -> None:
    """Raise InputError naming the layers of `adapter` that `modules` lacks or has in another shape."""
    hint = "the adapter was made for another base model: use it with the one it was trained on"
    missing = [name for name in adapter.up if name not in modules]
    if missing:
        message = f"the LoRA {adapter.name!r} has {_first_of(missing)}, which this model does not have"
        raise InputError(message, hint=hint)
    for name, up in adapter.up.items():
        update = (up.shape[0], *adapter.down[name].shape[1:])
        weight = tuple(modules[name].weight.shape)
        if update != weight:
            message = f"the LoRA {adapter.name!r} changes {name} by {update} where this model's weight is {weight}"
            raise InputError(message, hint=hint)


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
    return f"the layer {names[0]}{more}"


def _update_hook(factors: Factors) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs
        up, down, scale = factors.to(x)
        if isinstance(module, nn.Conv2d):
            inner = F.conv2d(x, down, None, module.stride, module.padding, module.dilation)
            return output + F.conv2d(_scaled(inner, scale), up)
        return output + F.linear(_scaled(F.linear(x, down), scale), up)

    return hook


def _scaled(inner: Tensor, scale: float) -> Tensor:
    """A layer's inner values times a scale, which is 1 but in training: adapters have their strength in `up`."""
    return inner if scale == 1 else inner * scale


_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_guard = Lock()


@contextmanager
def _exclusive(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Hold the lock of the pipeline's denoiser, which pipelines made from one another share."""
    with _guard:
        lock = _locks.setdefault(pipeline.unet, RLock())
    with lock:
        yield
