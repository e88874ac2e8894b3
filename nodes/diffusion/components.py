"""The components of a model on disk: what they are called, what identifies each, and how each is loaded by itself.

Each is resident by its own contents, so that models which share a text encoder or a VAE hold it once.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from engine.errors import MissingError
from engine.models import digest, find
from nodes.diffusion.families import family
from nodes.diffusion.layout import INDEX, component_classes, read_object

if TYPE_CHECKING:
    from engine.values import ImageModel, VideoModel

# The model whose settings serve a checkpoint that has none beside it.
_SDXL_SETTINGS = "hf:stabilityai/stable-diffusion-xl-base-1.0"


class Components(Protocol):
    """Where the components of a model come from."""

    index: dict[str, Any]
    """What the model's index says: classes by component, and the pipeline's own settings."""
    classes: dict[str, tuple[str, str]]
    """Library and class of each component."""

    def identity(self, name: str) -> str:
        """A digest of what a component is made of."""

    def load(self, name: str) -> Any:
        """A component in host memory, in the model's dtype; raises what libraries raise."""


def components(model: ImageModel | VideoModel) -> Components:
    """The components of a model in a folder or in a single file."""
    return Folder(model) if Path(model.path).is_dir() else Checkpoint(model)


class Folder:
    """A folder in the layout of diffusers' `save_pretrained`, with a folder for each component."""

    def __init__(self, model: ImageModel | VideoModel) -> None:
        self.path, self.dtype = Path(model.path), model.dtype
        self.index = read_object(self.path / INDEX)
        self.classes = component_classes(self.index, family(model.family))

    def identity(self, name: str) -> str:
        return digest(self.path / name)

    def load(self, name: str) -> Any:
        kind = component_class(*self.classes[name])
        options: dict[str, Any] = {"local_files_only": True}
        if issubclass(kind, torch.nn.Module):
            options |= {"dtype": getattr(torch, self.dtype), "use_safetensors": True}
        return kind.from_pretrained(str(self.path / name), **options)


def component_class(library: str, name: str) -> Any:
    """The class of a component by what an index says; libraries may be a pipeline's own folder in diffusers."""
    if library not in ("diffusers", "transformers"):
        library = f"diffusers.pipelines.{library}"
    return getattr(import_module(library), name)


class Checkpoint:
    """A single file, by settings in the layout of a folder; diffusers takes it apart."""

    def __init__(self, model: ImageModel | VideoModel) -> None:
        self.model, self.row, self.settings = model, family(model.family), _settings(model)
        self.index = read_object(self.settings / INDEX)
        self.classes = component_classes(self.index, self.row)

    def identity(self, name: str) -> str:
        return f"{self.model.identity}/{name}"

    def load(self, name: str) -> Any:
        return self._all[name]

    @cached_property
    def _all(self) -> dict[str, Any]:
        task = next(iter(self.row.pipelines))
        kind = component_class("diffusers", self.row.pipelines[task])
        options = {"config": str(self.settings), "local_files_only": True, "dtype": getattr(torch, self.model.dtype)}
        loaded = kind.from_single_file(self.model.path, **options, **self.row.options)
        return dict(loaded.components)


def _settings(model: ImageModel | VideoModel) -> Path:
    """The folder with the components' settings for a single checkpoint."""
    beside = Path(model.path).parent
    settings = beside if (beside / INDEX).is_file() else find(_SDXL_SETTINGS)
    if settings is None:
        raise MissingError(
            f"the settings of {model.source} are not on this machine",
            hint=f"put it beside SDXL's {INDEX} and its components' configurations",
        )
    return settings
