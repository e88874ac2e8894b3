"""Pipelines of diffusers, put together of components that are resident once by contents, dtype and device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from nodes.diffusion.checkpoints import Checkpoint
from nodes.diffusion.components import Animated, Components, Folder, component_class
from nodes.diffusion.dtypes import chosen_dtype
from nodes.diffusion.families import Task, family
from nodes.diffusion.parts import load_part
from nodes.loading import loading, quiet, unchanged

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import ImageModel, ModelReference, VideoModel


def pipeline_for(ctx: Context, model: ImageModel | VideoModel, task: Task) -> Any:
    """diffusers' pipeline for a task, of a model without its adapters.

    It is a light object of the caller's own, with a scheduler that no other call changes; the weights in it are shared
    by all callers.

    Raises:
        InputError: the model, or all of its family, can't do the task.
        MissingError: a file that it needs is missing or can't be read.
        NodeError: the model has been replaced since it was chosen.
    """
    row, model = family(model.family), replace(model, dtype=chosen_dtype(model, ctx.device))
    kind = getattr(import_module("diffusers"), row.pipeline_for(task))
    with unchanged(model.source, model.identity), loading(model.source, hint="fetch or copy the model again"):
        source = _source(model)
        if row.one_task:
            _check_task(model, str(source.index.get("_class_name")), task)
        parts = {name: _resident(ctx, model, source, name) for name in source.classes}
    parts["scheduler"] = _rescheduled(parts["scheduler"], getattr(model, "schedule", {}))
    # Components that the index lists without a class, and those that aren't loaded, are None.
    settings = {name: None if isinstance(value, list) else value for name, value in source.index.items()}
    arguments = dict.fromkeys(row.without) | settings | parts | dict(row.options)
    expected = signature(kind).parameters
    with quiet():
        pipeline = kind(**{name: value for name, value in arguments.items() if name in expected})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


_INSTEAD = {"image to video": "give it a picture", "text to video": "leave the picture out"}


def _check_task(model: ImageModel | VideoModel, own: str, task: Task) -> None:
    """Raise InputError for a task other than that of the pipeline that a model's index names."""
    row = family(model.family)
    able = next((able for able, pipeline in row.pipelines.items() if pipeline == own), task)
    if able != task:
        hint = f"{_INSTEAD[able]}, or load the {row.name} model for {task}"
        raise InputError(f"{model.source} is the {row.name} model for {able}", input="model", hint=hint)


def _source(model: ImageModel | VideoModel) -> Components:
    """Where the components of a model come from."""
    if motion := getattr(model, "motion", None):
        return Animated(model, motion)
    return Folder(model) if Path(model.path).is_dir() else Checkpoint(model)


def _resident(ctx: Context, model: ImageModel | VideoModel, source: Components, name: str) -> Any:
    """A component, on the device."""
    if name in model.parts:
        return _resident_part(ctx, replace(model.parts[name], dtype=model.dtype), source, name)

    def load() -> Any:
        with ExitStack() as stack:
            for part in filter(None, (model, getattr(model, "motion", None))):
                stack.enter_context(unchanged(part.source, part.identity))  # or it would be kept for what it isn't
            return source.load(name)

    key = (source.classes[name][1], source.identity(name), model.dtype, ctx.device)
    return ctx.models.get(key, load, ctx.device)


def _resident_part(ctx: Context, part: ModelReference, source: Components, name: str) -> Any:
    """A component that comes from elsewhere, on the device."""
    settings = source.settings(name)

    def load() -> Any:
        with unchanged(part.source, part.identity):
            return load_part(name, component_class(*source.classes[name]), part, settings)

    with unchanged(part.source, part.identity), loading(part.source, hint=f"give a {name} of the same family"):
        key = (source.classes[name][1], part.identity, json.dumps(settings, sort_keys=True), part.dtype, ctx.device)
        return ctx.models.get(key, load, ctx.device)


def _rescheduled(scheduler: Any, settings: Mapping[str, Any]) -> Any:
    """A scheduler of the caller's own, with other settings, and of another class if they name one.

    Raises InputError if the scheduler has no such settings.
    """
    kind = type(scheduler)
    if "_class_name" in settings:
        kind = getattr(import_module("diffusers"), settings["_class_name"])
    if unknown := sorted(settings.keys() - signature(kind).parameters.keys() - {"_class_name"}):
        message = f"the model's {kind.__name__} has no {' and no '.join(unknown)}"
        raise InputError(message, input="prediction", hint="leave it to the model: 'auto'")
    return kind.from_config(scheduler.config, **{name: settings[name] for name in settings if name != "_class_name"})
