from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from engine.values import LoRA
from nodes.diffusion.layers import layers
from nodes.lora.training.layers import ATTENTION, CONVOLUTIONS, FEED_FORWARD, PROJECTIONS, TEXT_ATTENTION
from tests.lora.reference import Make
from tests.tiny import tiny_sdxl


@pytest.fixture(scope="session")
def pipeline() -> StableDiffusionXLPipeline:
    return tiny_sdxl()


@pytest.fixture(scope="session")
def exact() -> StableDiffusionXLPipeline:
    """A copy of the pipeline in float64."""
    return StableDiffusionXLPipeline(**copy.deepcopy(tiny_sdxl().components), add_watermarker=False).to(torch.float64)


@pytest.fixture(scope="session")
def names(pipeline: StableDiffusionXLPipeline) -> dict[str, list[str]]:
    """Names of the pipeline's layers: "attention", "convolutions", "text" and "all"."""
    return {
        "attention": _ending(pipeline, "unet.", ATTENTION),
        "convolutions": _ending(pipeline, "unet.", CONVOLUTIONS + PROJECTIONS + FEED_FORWARD),
        "text": _ending(pipeline, "text_encoder", TEXT_ATTENTION),
        "all": [name for name in layers(pipeline) if name.startswith(("unet.", "text_encoder"))],
    }


@pytest.fixture(scope="session")
def make(pipeline: StableDiffusionXLPipeline) -> Make:
    """Make a random LoRA for layers of the pipeline, of one rank or a repeating row of ranks."""
    modules = layers(pipeline)

    def make(names: Iterable[str], seed: int = 0, ranks: tuple[int, ...] = (3,), **rest: object) -> LoRA:
        generator = torch.Generator().manual_seed(seed)
        up, down = {}, {}
        for i, name in enumerate(names):
            out, *inputs = modules[name].weight.shape
            rank = ranks[i % len(ranks)]
            up[name] = torch.randn(out, rank, *(1 for _ in inputs[1:]), generator=generator) * 0.2
            down[name] = torch.randn(rank, *inputs, generator=generator) * 0.2
        return LoRA(up, down, **{"name": f"lora {seed}"} | rest)

    return make


def _ending(pipeline: StableDiffusionXLPipeline, component: str, ends: tuple[str, ...]) -> list[str]:
    return [name for name in layers(pipeline) if name.startswith(component) and name.endswith(ends)]
