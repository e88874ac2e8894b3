"""Choosing a model that draws pictures, and components of it that come from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputError
from engine.models import identity, resolve
from engine.values import ImageModel, ModelReference
from nodes.diffusion.checkpoints import family_of_checkpoint
from nodes.diffusion.layout import family_of_folder, own_settings, read_vocabulary
from nodes.diffusion.parts import check_part

if TYPE_CHECKING:
    from engine.models import Progress


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is asked for, as in the inputs of `ImageModelLoad`."""

    source: str
    dtype: str
    prediction: str
    rest: str | None
    vae: str | None


def chosen(choice: Choice, progress: Progress) -> ImageModel:
    """The model; raises InputError or MissingError if it isn't one, or its components don't belong together."""
    path = resolve(choice.source, progress=progress)
    parts = {}
    if choice.vae:
        parts["vae"] = _part(choice.vae, choice.dtype, "vae", progress)
    if choice.rest is None:
        return _model(choice, choice.source, path, parts)
    rest = resolve(choice.rest, progress=progress)
    if not rest.is_dir():
        hint = "give a folder in diffusers' layout; of its own transformer or UNet only `config.json` is needed"
        raise InputError(f"{choice.rest} is a file", input="rest", hint=hint)
    row = family_of_folder(choice.rest, rest, pictures=True, given=["denoiser", *parts])
    parts[row.denoiser] = _part(choice.source, choice.dtype, "source", progress)
    return _model(choice, choice.rest, rest, parts)


def _part(source: str, dtype: str, name: str, progress: Progress) -> ModelReference:
    path = resolve(source, progress=progress)
    check_part(source, path, name)
    return ModelReference(source, str(path), identity(source), dtype)


def _model(choice: Choice, source: str, path: Path, parts: dict[str, ModelReference]) -> ImageModel:
    prediction = None if choice.prediction == "auto" else choice.prediction
    folder: Path | None = path
    if path.is_dir():
        row = family_of_folder(source, path, pictures=True, given=parts)
    elif path.suffix == ".gguf":
        hint = "give the folder of a model of its family as `rest`, which has what the file lacks"
        raise InputError(f"{source} holds no whole model", input="source", hint=hint)
    else:
        row, folder = family_of_checkpoint(source, path, prediction), None if source.startswith("hf:") else path.parent
    schedule = {"prediction_type": prediction} if prediction else {}
    model = ImageModel(
        source, str(path), identity(source), choice.dtype, family=row.name, schedule=schedule, parts=parts
    )
    return replace(model, vocabulary=read_vocabulary(folder), **own_settings(folder)) if folder else model
