"""Loading diffusers pipelines, each resident once per contents, dtype and device."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import MissingError
from engine.models import find
from nodes.diffusion.layout import SDXL
from nodes.loading import loading, unchanged

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from engine.node import Context
    from engine.values import ImageModel, ModelReference

# The model whose settings serve a checkpoint that has none beside it.
_SDXL_SETTINGS = "hf:stabilityai/stable-diffusion-xl-base-1.0"


def image_pipeline(ctx: Context, model: ImageModel) -> StableDiffusionXLPipeline:
    """The pipeline of an image model without its adapters, shared by all callers; raises MissingError."""
    key = (model.identity, model.dtype, ctx.device)
    pipeline: StableDiffusionXLPipeline = ctx.models.get(
        key, lambda: load(SDXL, model, add_watermarker=False), ctx.device
    )
    return pipeline


def load(kind: str, model: ModelReference, **options: Any) -> Any:
    """A pipeline of diffusers' class `kind` from its folder or a single checkpoint, in host memory.

    Raises:
        MissingError: a file that it needs is missing or can't be read.
        NodeError: it has been replaced since it was chosen.
    """
    if Path(model.path).is_dir():
        method, options = "from_pretrained", options | {"use_safetensors": True}
    else:
        method, options = "from_single_file", options | {"config": str(_settings(model))}
    with unchanged(model.source, model.identity), loading(model.source, hint="fetch or copy the model again"):
        loader = getattr(getattr(import_module("diffusers"), kind), method)
        pipeline = loader(model.path, dtype=getattr(torch, model.dtype), local_files_only=True, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _settings(model: ModelReference) -> Path:
    """The folder with the components' settings for a single checkpoint."""
    beside = Path(model.path).parent
    settings = beside if (beside / "model_index.json").is_file() else find(_SDXL_SETTINGS)
    if settings is None:
        raise MissingError(
            f"the settings of {model.source} are not on this machine",
            hint="put it beside SDXL's model_index.json and its components' configurations",
        )
    return settings
