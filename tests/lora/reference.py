"""References for the tests of LoRAs: dense updates, and the pipeline's state."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from engine.values import LoRA
from nodes.diffusion.adapters import Factors, factors_of
from nodes.diffusion.layers import layers
from nodes.lora.prediction import encode_captions, predict

Make = Callable[..., LoRA]
Names = dict[str, list[str]]


class OnApple(Tensor):
    """A tensor that is told to be on a GPU without float64, and has none until it is moved to the host."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("mps")

    def cpu(self, *_: object) -> Tensor:
        return self.as_subclass(Tensor)

    def double(self, *_: object) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64")


def output(pipeline: StableDiffusionXLPipeline, caption: str = "a red snail") -> Tensor:
    """What the pipeline's text encoders and UNet make of a caption and fixed noise."""
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return predict(pipeline, noise, torch.tensor([400]), encode_captions(pipeline, [caption]))


def with_dense(pipeline: StableDiffusionXLPipeline, *deltas: dict[str, Tensor]) -> StableDiffusionXLPipeline:
    """A copy of the pipeline with dense updates added to its weights."""
    changed = StableDiffusionXLPipeline(**copy.deepcopy(pipeline.components), add_watermarker=False)
    modules = layers(changed)
    with torch.no_grad():
        for delta in deltas:
            for name, update in delta.items():
                modules[name].weight += update
    return changed


def dense(update: LoRA | Mapping[str, Factors]) -> dict[str, Tensor]:
    """ΔW of each layer by the definition, in float64 and in the shape of the weight."""
    factors = factors_of(update) if isinstance(update, LoRA) else update
    return {
        name: (up.double().flatten(1) @ down.double().flatten(1)).reshape(up.shape[0], *down.shape[1:])
        for name, (up, down, _) in factors.items()
    }


def state(pipeline: StableDiffusionXLPipeline) -> dict[str, Tensor]:
    """A copy of all weights of the pipeline."""
    return {
        f"{component}.{name}": weight.clone()
        for component in ("unet", "text_encoder", "text_encoder_2", "vae")
        for name, weight in getattr(pipeline, component).state_dict().items()
    }


def untouched(pipeline: StableDiffusionXLPipeline, before: dict[str, Tensor]) -> bool:
    """Whether weights are bit for bit as before, none is frozen, none has a gradient, and no hook is left."""
    now = state(pipeline)
    models = [pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.vae]
    return (
        now.keys() == before.keys()
        and all(torch.equal(now[name], before[name]) for name in now)
        and all(parameter.requires_grad and parameter.grad is None for m in models for parameter in m.parameters())
        and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers(pipeline).values())
    )
