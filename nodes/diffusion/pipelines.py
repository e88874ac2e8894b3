"""Pipelines of diffusers, put together of components that are resident once by contents, dtype and device."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from nodes.diffusion.components import Components, components
from nodes.diffusion.families import Task, family
from nodes.loading import loading, quiet, unchanged

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import ImageModel, VideoModel


def pipeline_for(ctx: Context, model: ImageModel | VideoModel, task: Task) -> Any:
    """diffusers' pipeline for a task, of a model without its adapters.

    It is a light object of the caller's own, with a scheduler that no other call changes; the weights in it are shared
    by all callers.

    Raises:
        InputError: the model's family can't do the task.
        MissingError: a file that it needs is missing or can't be read.
        NodeError: the model has been replaced since it was chosen.
    """
    row = family(model.family)
    kind = getattr(import_module("diffusers"), row.pipeline_for(task))
    with unchanged(model.source, model.identity), loading(model.source, hint="fetch or copy the model again"):
        source = components(model)
        parts = {name: _resident(ctx, source, name, model.dtype) for name in source.classes}
    parts["scheduler"] = type(parts["scheduler"]).from_config(parts["scheduler"].config)
    expected = signature(kind).parameters
    given = {name: value for name, value in source.index.items() if not name.startswith("_")}
    given = {name: value for name, value in given.items() if not isinstance(value, list)}
    absent = {name: None for name, value in source.index.items() if isinstance(value, list)}
    arguments = {name: value for name, value in (absent | given | parts | dict(row.options)).items() if name in expected}
    with quiet():
        pipeline = kind(**arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _resident(ctx: Context, source: Components, name: str, dtype: str) -> Any:
    """A component, on the device."""
    key = (source.classes[name][1], source.identity(name), dtype, ctx.device)
    return ctx.models.get(key, lambda: source.load(name), ctx.device)
