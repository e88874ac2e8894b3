"""Adapters on a shared pipeline, for the duration of a call.

An adapter is a forward hook that adds B(A x) to a layer's output; of another form (`nodes.diffusion.changes`), ΔW x
with a ΔW made when the scope opens. The base weights are never written, so removing the hooks leaves the model bit for
bit as it was. Hooks affect every caller of the model, so a scope holds a lock on
each of the pipeline's models: branches that share a base model with different adapters take turns. Within one thread
scopes nest, and their updates add up. A sampler therefore opens a scope even when it has no adapters.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.bases import base_of_widths
from nodes.diffusion.changes import Change, change, fits
from nodes.diffusion.layers import Layer, all_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from diffusers import DiffusionPipeline

    Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]
    """A forward hook: a layer, its inputs and its output → another output."""


class Factors(NamedTuple):
    """The low-rank update ΔW = scale · up @ down of one layer.

    Linear: up (out, r), down (r, in). Convolution: up (out, r, 1, 1), down (r, in, k, k).
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
    modules = all_layers(pipeline)
    fitted = [conformed(pipeline, adapter) for adapter in adapters]
    update = summed([factors_of(replace(adapter, other={})) for adapter in fitted])
    placed = {name: factors.to(_like(modules[name])) for name, factors in update.items()}
    with patched(pipeline, placed), _changed(modules, fitted):
        yield


@contextmanager
def patched(pipeline: DiffusionPipeline, updates: Mapping[str, Factors]) -> Iterator[None]:
    """Add `updates`, by layer name, to the outputs of the pipeline's layers while the scope is open.

    Differentiable in the factors. Run `backward` inside the scope: gradient checkpointing calls the layers again.
    """
    with hooked(pipeline, {name: _update_hook(factors) for name, factors in updates.items()}):
        yield


@contextmanager
def hooked(pipeline: DiffusionPipeline, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Let `hooks`, by layer name, replace the outputs of the pipeline's layers while the scope is open."""
    modules = all_layers(pipeline)
    with _exclusive(pipeline), ExitStack() as stack:
        for name, hook in hooks.items():
            stack.callback(modules[name].register_forward_hook(hook).remove)
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
    """The adapter's factors by layer, its strength folded in, in float32 at least.

    Raises InputError if it changes layers in other ways too.
    """
    check_low_rank(adapter)
    return {
        name: Factors(up if adapter.strength == 1 else _exact(up) * adapter.strength, adapter.down[name])
        for name, up in adapter.up.items()
    }


def check_low_rank(adapter: LoRA) -> None:
    """Raise InputError if an adapter changes layers in other ways than by two matrices."""
    for name, parts in adapter.other.items():
        message = f"the LoRA {adapter.name!r} changes {name} by more than two matrices ({', '.join(sorted(parts))})"
        raise InputError(message, hint="LoRAApply takes it as it is; here a plain LoRA is needed")


def _exact(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


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


def conformed(pipeline: DiffusionPipeline, adapter: LoRA) -> LoRA:
    """The adapter with its matrices in the shapes of the pipeline's layers: files give those of a kernel of one pixel
    as matrices, and the other way round.

    Raises InputError naming the layers that the pipeline lacks or has in another shape.
    """
    modules = all_layers(pipeline)
    hint = _base_hint(adapter)
    missing = [name for name in adapter.layers if name not in modules]
    if missing:
        message = f"the LoRA {adapter.name!r} has {_first_of(missing)}, which this model does not have"
        raise InputError(message, hint=hint)
    up, down = {}, {}
    for name, own in adapter.up.items():
        weight, update = _shape(modules[name]), (len(own), *adapter.down[name].shape[1:])
        if not fits(update, weight):
            message = f"the LoRA {adapter.name!r} changes {name} by {update} where this model's weight is {weight}"
            raise InputError(message, hint=hint)
        up[name] = own.reshape(*own.shape[:2], *(1 for _ in weight[2:]))
        down[name] = adapter.down[name].reshape(-1, *weight[1:])
    return replace(adapter, up=up, down=down)


def _shape(module: Layer) -> tuple[int, ...]:
    """The shape of a layer's weight, also if it is quantised, and packed."""
    return (module.out_features, module.in_features) if isinstance(module, nn.Linear) else tuple(module.weight.shape)


def _like(module: Layer) -> Tensor:
    """A tensor of the type that a layer computes in, on its device: its weight, unless that is quantised."""
    weight: Tensor = module.weight
    computes: Any = getattr(module, "compute_dtype", None)
    return weight if weight.is_floating_point() else torch.empty((), dtype=computes, device=weight.device)


def _base_hint(adapter: LoRA) -> str:
    base = base_of_widths({name: down.shape[1] for name, down in adapter.down.items()})
    made_for = f"{base}, as its shapes say" if base else "another base model"
    return f"the adapter was made for {made_for}: use it with the one it was trained on"


def _first_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
    return f"the layer {names[0]}{more}"


@contextmanager
def _changed(modules: Mapping[str, Layer], adapters: Sequence[LoRA]) -> Iterator[None]:
    """Add what the adapters do beside their low-rank matrices, while the scope is open."""
    changes: dict[str, Change] = {}
    for adapter in adapters:
        for name, parts in adapter.other.items():
            module = modules[name]
            if not module.weight.is_floating_point():
                message = f"the LoRA {adapter.name!r} changes {name} by more than two matrices, which is quantised"
                raise InputError(message, hint="use a plain LoRA, or the model in float16 or bfloat16")
            try:
                found = change(parts, module.weight.detach(), module.bias, adapter.strength)
            except ValueError as error:
                message = f"the LoRA {adapter.name!r} doesn't fit {name}: it {error}"
                raise InputError(message, hint=_base_hint(adapter)) from error
            found = Change(*(None if part is None else part.to(module.weight.dtype) for part in found))
            changes[name] = _added(changes[name], found) if name in changes else found
    with ExitStack() as stack:
        for name, added in changes.items():
            stack.callback(modules[name].register_forward_hook(_change_hook(added)).remove)
        yield


def _added(one: Change, other: Change) -> Change:
    return Change(*(a if b is None else b if a is None else a + b for a, b in zip(one, other, strict=True)))


def _change_hook(added: Change) -> Hook:
    weight, bias = added

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs
        if weight is None:
            assert bias is not None, "a change changes something"
            return output + bias.view(-1, *(1 for _ in range(_after_channels(module, x))))
        match module:
            case nn.Linear():
                return output + F.linear(x, weight, bias)
            case nn.Conv2d() | nn.Conv3d():
                convolved: Tensor = module._conv_forward(x, weight, bias)
                return output + convolved
            case nn.GroupNorm():
                return output + F.group_norm(x, module.num_groups, weight, bias, module.eps)
            case nn.LayerNorm():
                return output + F.layer_norm(x, module.normalized_shape, weight, bias, module.eps)
        raise TypeError(f"{type(module).__name__} can't be changed")

    return hook


def _after_channels(module: nn.Module, x: Tensor) -> int:
    """How many dimensions follow the channels in a layer's output."""
    if isinstance(module, nn.GroupNorm):
        return x.ndim - 2
    return len(module.kernel_size) if isinstance(module, nn.Conv2d | nn.Conv3d) else 0


def _update_hook(factors: Factors) -> Hook:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs
        up, down, scale = factors.to(x)
        if isinstance(module, nn.Conv2d):
            inner = F.conv2d(x, down, None, module.stride, module.padding, module.dilation)
            return output + F.conv2d(_scaled(inner, scale), up)
        if isinstance(module, nn.Conv3d):
            inner = F.conv3d(x, down, None, module.stride, module.padding, module.dilation)
            return output + F.conv3d(_scaled(inner, scale), up)
        return output + F.linear(_scaled(F.linear(x, down), scale), up)

    return hook


def _scaled(inner: Tensor, scale: float) -> Tensor:
    """A layer's inner values times a scale, which is 1 but in training: adapters have their strength in `up`."""
    return inner if scale == 1 else inner * scale


_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_guard = Lock()


@contextmanager
def _exclusive(pipeline: DiffusionPipeline) -> Iterator[None]:
    """Hold the locks of the pipeline's models, any of which other pipelines may share."""
    models = {id(part): part for part in pipeline.components.values() if isinstance(part, nn.Module)}
    with _guard:
        locks = [_locks.setdefault(model, RLock()) for _, model in sorted(models.items())]
    with ExitStack() as stack:
        for lock in locks:  # in the same order by all
            stack.enter_context(lock)
        yield
