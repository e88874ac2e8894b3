"""The components of a model on disk: what they are called, what identifies each, and how each is loaded by itself.

Each is resident by its own contents, so that models which share a text encoder or a VAE hold it once.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from engine.models.digest import digest
from nodes.diffusion.families import family
from nodes.diffusion.layout import INDEX, component_classes, read_object
from nodes.diffusion.weights import variant

if TYPE_CHECKING:
    from engine.values import ImageModel, ModelReference, VideoModel


class Components(Protocol):
    """Where the components of a model come from."""

    index: dict[str, Any]
    """What the model's index says: classes by component, and the pipeline's own settings."""
    classes: dict[str, tuple[str, str]]
    """Library and class of each component."""

    def identity(self, name: str) -> str:
        """A digest of what a component is made of."""

    def settings(self, name: str) -> dict[str, Any]:
        """The settings of a component with weights."""

    def load(self, name: str) -> Any:
        """A component in host memory, in the model's dtype; raises what libraries raise."""


class Folder:
    """A folder in the layout of diffusers' `save_pretrained`, with a folder for each component."""

    def __init__(self, model: ImageModel | VideoModel) -> None:
        self.path, self.dtype = Path(model.path), model.dtype
        self.index = read_object(self.path / INDEX)
        self.classes = component_classes(self.index, family(model.family))

    def identity(self, name: str) -> str:
        return digest(self.path / name)

    def settings(self, name: str) -> dict[str, Any]:
        return read_object(self.path / name / "config.json")

    def load(self, name: str) -> Any:
        kind = component_class(*self.classes[name])
        if not issubclass(kind, torch.nn.Module):
            return kind.from_pretrained(str(self.path / name), local_files_only=True)
        return load_weights(name, kind, self.path / name, self.dtype)


class Animated(Folder):
    """A folder of an image model, of whose UNet and a motion adapter one for videos is made."""

    def __init__(self, model: ImageModel | VideoModel, motion: ModelReference) -> None:
        super().__init__(model)
        self.motion = motion
        self.classes |= {"unet": ("diffusers", "UNetMotionModel"), "scheduler": ("diffusers", "DDIMScheduler")}

    def identity(self, name: str) -> str:
        own = super().identity(name)
        return f"{own}/{self.motion.identity}" if name in ("unet", "scheduler") else own

    def load(self, name: str) -> Any:
        kind, folder = component_class(*self.classes[name]), self.path / name
        if name == "scheduler":  # motion adapters were trained with this one, whatever the image model's is
            settings = read_object(folder / "scheduler_config.json")
            return kind.from_config(settings | _MOTION_SCHEDULE)
        if name != "unet":
            return super().load(name)
        parts = {
            "UNet2DConditionModel": (name, folder),
            "MotionAdapter": (f"the motion adapter {self.motion.source}", Path(self.motion.path)),
        }
        unet, adapter = (
            load_weights(called, component_class("diffusers", part), path, self.dtype)
            for part, (called, path) in parts.items()
        )
        return kind.from_unet2d(unet, adapter).to(getattr(torch, self.dtype))


_MOTION_SCHEDULE = {
    "beta_schedule": "linear",
    "clip_sample": False,
    "timestep_spacing": "linspace",
    "steps_offset": 1,
}


def load_weights(name: str, kind: Any, folder: Path, dtype: str) -> Any:
    """A component with weights, of the class `kind`, from its own folder, in host memory.

    Args:
        name: what it is called in errors.
        dtype: the name of a torch dtype.

    Raises what libraries raise, and ValueError if weights are missing, or aren't in safetensors.
    """
    options = {"dtype": getattr(torch, dtype), "use_safetensors": True, "local_files_only": True}
    module, found = kind.from_pretrained(str(folder), variant=variant(folder), output_loading_info=True, **options)
    check_complete(name, found["missing_keys"])
    return module


def check_complete(name: str, missing: Collection[str]) -> None:
    """Raise ValueError if a component lacks weights: libraries would go on with random ones."""
    if missing:
        more = f" and {len(missing) - 1} more weights" if len(missing) > 1 else ""
        raise ValueError(f"{name} lacks {min(missing)}{more}")


def component_class(library: str, name: str) -> Any:
    """The class of a component by what an index says; libraries may be a pipeline's own folder in diffusers.

    Raises ValueError if it isn't the class of a model, tokenizer, scheduler or processor, or needs another library.
    """
    module = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"there is no {name} in {library}, which {INDEX} names") from error
    if needed := getattr(kind, "_backends", None):  # what stands in for it without them
        raise ValueError(f"{name}, which {INDEX} names, needs {' and '.join(needed)}")
    fits = isinstance(kind, type) and issubclass(kind, _component_bases())
    if not fits:
        raise ValueError(f"{name} of {library}, which {INDEX} names, is no model, tokenizer, scheduler or processor")
    return kind


def _component_bases() -> tuple[type, ...]:
    """What the classes of components derive from; AutoTokenizer chooses one that does."""
    import diffusers
    import transformers

    own = (diffusers.ModelMixin, diffusers.SchedulerMixin)
    texts = (transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase, transformers.AutoTokenizer)
    pictures = (transformers.ProcessorMixin, transformers.FeatureExtractionMixin, transformers.ImageProcessingMixin)
    return own + texts + pictures
