"""Loading diffusers pipelines, each resident once per contents, dtype and device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import MissingError
from engine.models import find

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, StableDiffusionXLPipeline

    from engine.node import Context
    from engine.values import ImageModel, ModelReference

# Whose settings fit a checkpoint that has none beside it.
_SDXL_SETTINGS = "hf:stabilityai/stable-diffusion-xl-base-1.0"


def image_pipeline(ctx: Context, model: ImageModel) -> StableDiffusionXLPipeline:
    """The pipeline of an image model without its adapters, shared by all who ask.

    Raises:
        MissingError: files that it needs are not there or can't be read.
    """
    key = (model.identity, model.dtype, ctx.device)
    pipeline: StableDiffusionXLPipeline = ctx.models.get(key, lambda: _load_image_pipeline(ctx, model))
    return pipeline


def _load_image_pipeline(ctx: Context, model: ImageModel) -> StableDiffusionXLPipeline:
    with _quiet():
        from diffusers import StableDiffusionXLPipeline
    path = Path(model.path)
    if path.is_dir():
        return load_folder(StableDiffusionXLPipeline, model, ctx.device, add_watermarker=False)
    settings = path.parent if (path.parent / "model_index.json").is_file() else find(_SDXL_SETTINGS)
    if settings is None:
        raise MissingError(
            f"the settings of {model.source} are not on this machine",
            hint=f"put it beside model_index.json and the components' configurations, or fetch {_SDXL_SETTINGS}",
        )
    return _load(
        StableDiffusionXLPipeline.from_single_file,
        model,
        ctx.device,
        config=str(settings),
        add_watermarker=False,
    )


def load_folder(kind: type[DiffusionPipeline], model: ModelReference, device: str, **options: Any) -> Any:
    """A pipeline of the class `kind` from its folder, on `device`; raises MissingError."""
    return _load(kind.from_pretrained, model, device, use_safetensors=True, **options)


def _load(loader: Any, model: ModelReference, device: str, **options: Any) -> Any:
    from safetensors import SafetensorError

    try:
        with _quiet():
            pipeline = loader(model.path, dtype=getattr(torch, model.dtype), local_files_only=True, **options)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingError(f"{model.source} can't be loaded: {reason}", hint="fetch or copy the model again") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the bars and the advice with which libraries accompany loading; errors still come as exceptions."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            library.enable_progress_bar()
