"""A LoRA out of two models: the nearest update of a rank to the difference of their weights, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from engine.errors import InputError
from engine.values import LoRA
from nodes.lora.stored import StoredWeights
from nodes.lora.truncation import Limit, Loss, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from engine.values import ModelReference


class Extracted(NamedTuple):
    """What was found in two models."""

    lora: LoRA
    losses: dict[str, Loss]
    beside: tuple[str, ...]
    """Weights that differ and are in no LoRA of two matrices: biases, norms, embeddings."""


def check_models(base: ModelReference, tuned: ModelReference) -> None:
    """Raise InputError for models of different families, or with LoRAs applied, which no file of them holds, or whose
    weights aren't all in safetensors files of one folder, or in one file."""
    if type(base) is not type(tuned):
        kinds = {"ImageModel": "an image model", "VideoModel": "a video model"}
        tuned_kind, base_kind = (kinds.get(type(of).__name__, type(of).__name__) for of in (tuned, base))
        message = f"{tuned.source} is {tuned_kind}, {base.source} is {base_kind}"
        raise InputError(message, input="tuned", hint="both models have to be of the same family")
    for name, model in (("base", base), ("tuned", tuned)):
        if getattr(model, "adapters", ()):
            message = f"{model.source} has a LoRA applied to it, which its files don't hold"
            raise InputError(message, input=name, hint="give the model without, and merge LoRAs by LoRAMerge")
        _check_whole(name, model)


def _check_whole(name: str, model: ModelReference) -> None:
    """Raise InputError for a model of several sources, apart from its VAE, which isn't compared, or of GGUF."""
    if getattr(model, "motion", None) is not None:
        message = f"{model.source} is moved by a motion adapter, which is a part of no LoRA"
        raise InputError(message, input=name, hint="compare the image models")
    others = {part: of for part, of in getattr(model, "parts", {}).items() if part != "vae"}
    for of in (model, *others.values()):
        if of.path.lower().endswith(".gguf"):
            message = f"{of.source} is a GGUF file, whose weights are quantised"
            raise InputError(message, input=name, hint="give the model in safetensors, from which it was made")
    for part, of in others.items():
        message = f"{model.source} has the {part} of {of.source}, and only weights of one source are compared"
        raise InputError(message, input=name, hint="give a folder, or a file, that holds the whole model")


def extracted(
    base: ModelReference,
    tuned: ModelReference,
    limit: Limit,
    name: str,
    device: str,
    progress: Callable[[int, int], None],
) -> Extracted:
    """The LoRA that makes `base` most like `tuned`; layers that are equal are left out.

    Weights are read one by one, so that one layer's of each model are in memory. `progress(done, total)` counts weights
    and may raise to stop. Raises InputError where one model lacks a layer of the other, has it in another shape, or
    nothing differs, and MissingError where files can't be read.
    """
    device = "cpu" if device.startswith("mps") else device  # Apple's GPUs have no float64
    up: dict[str, Tensor] = {}
    down: dict[str, Tensor] = {}
    losses: dict[str, Loss] = {}
    beside: list[str] = []
    with StoredWeights(base) as before, StoredWeights(tuned) as after:
        _check_known("base", before)
        _check_known("tuned", after)
        _check_alike(before, after)
        there = {*after.names}
        names = [each for each in before.names if each in there]
        for done, each in enumerate(names, 1):
            delta = _difference(each, before, after, device)
            if delta is not None and _is_layer(each, delta.ndim):
                layer = each.removesuffix(".weight")
                found = nearest(delta, limit)
                up[layer], down[layer], losses[layer] = found.up.cpu(), found.down.cpu(), found.loss
            elif delta is not None:
                beside.append(each)
            progress(done, len(names))
    if not up:
        message = f"no layer of {tuned.source} differs from that of {base.source}"
        raise InputError(message, input="tuned", hint="give a model that was trained further")
    return Extracted(LoRA(up, down, name), losses, tuple(beside))


def _check_known(name: str, weights: StoredWeights) -> None:
    """Raise InputError where no weight of a denoiser has a name that is known: others may be in single files."""
    if not any(each.startswith(("unet.", "transformer.")) for each in weights.names):
        message = f"{weights.source} holds no weights of a UNet or transformer by names that are known"
        raise InputError(message, input=name, hint="give the model as a folder in diffusers' layout")


def _is_layer(name: str, dimensions: int) -> bool:
    """Whether a weight is that of a linear layer or convolution."""
    return name.endswith(".weight") and dimensions > 1 and ".embeddings." not in name


def _check_alike(before: StoredWeights, after: StoredWeights) -> None:
    """Raise InputError where the models differ in their layers, or in the shape of one."""
    hint = "both models have to be of the same family"
    layers = [{name for name in of.names if _is_layer(name, len(of.shape(name)))} for of in (before, after)]
    for one, other, lacking in ((layers[0], layers[1], after), (layers[1], layers[0], before)):
        if alone := sorted(one - other):
            more = f" and {len(alone) - 1} more layers" if len(alone) > 1 else ""
            message = f"{lacking.source} has no {alone[0].removesuffix('.weight')}{more}, which the other model has"
            raise InputError(message, input="tuned", hint=hint)
    for name in sorted(layers[0]):
        if (one_shape := before.shape(name)) != (other_shape := after.shape(name)):
            layer = name.removesuffix(".weight")
            message = f"{layer} is {one_shape} in {before.source} and {other_shape} in {after.source}"
            raise InputError(message, input="tuned", hint=hint)


def _difference(name: str, before: StoredWeights, after: StoredWeights, device: str) -> Tensor | None:
    """The difference of a weight in float32 at least, None if there is none; raises InputError if it isn't finite."""
    if before.shape(name) != after.shape(name):
        return None  # no layer's: those are checked
    one, other = before.read(name), after.read(name)
    if not one.is_floating_point() or (one.dtype == other.dtype and torch.equal(one, other)):
        return None
    dtype = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float32)
    delta = other.to(device, dtype) - one.to(device, dtype)
    if not torch.isfinite(delta).all():
        raise InputError(
            f"{name} holds numbers that are not finite", input="tuned", hint="one of the models is damaged"
        )
    return delta if delta.any() else None
