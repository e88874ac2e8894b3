"""Loading diffusers pipelines, each resident once per contents, dtype and device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import MissingError
from engine.models import find
from nodes.image.layout import SDXL

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from engine.node import Context
    from engine.values import ImageModel, ModelReference

# Whose settings fit a checkpoint that has none beside it.
_SDXL_SETTINGS = "hf:stabilityai/stable-diffusion-xl-base-1.0"


def image_pipeline(ctx: Context, model: ImageModel) -> StableDiffusionXLPipeline:
    """The pipeline of an image model without its adapters, shared by all who ask; raises MissingError."""
    key = (model.identity, model.dtype, ctx.device)
    pipeline: StableDiffusionXLPipeline = ctx.models.get(
        key, lambda: load(SDXL, model, add_watermarker=False), ctx.device
    )
    return pipeline


def load(kind: str, model: ModelReference, **options: Any) -> Any:
    """A pipeline of diffusers' class `kind` from its folder or a single checkpoint, in host memory.

    Raises:
        MissingError: files that it needs are not there or can't be read.
    """
    if Path(model.path).is_dir():
        method, options = "from_pretrained", options | {"use_safetensors": True}
    else:
        method, options = "from_single_file", options | {"config": str(_settings(model))}
    with loading(model.source, hint="fetch or copy the model again"):
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


@contextmanager
def loading(source: str, hint: str) -> Iterator[None]:
    """Load quietly what a source string names; raises MissingError, with the hint, where it can't be loaded."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingError(f"{source} can't be loaded: {reason}", hint=hint) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the bars and the advice with which libraries accompany loading; errors still come as exceptions."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
