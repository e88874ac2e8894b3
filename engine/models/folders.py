"""The folders of models that other programs have, and looking for a model in them by the name that those show.

    models/checkpoints/sd_xl.safetensors   sd_xl.safetensors, or checkpoints/sd_xl.safetensors
    models/Lora/sdxl/neon.safetensors      sdxl/neon.safetensors, or loras/sdxl/neon.safetensors

Each folder within a folder of models holds one category of them. Programs name some categories differently; here each
has one name, ComfyUI's. `engine.models.given` reads which folders people give.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from engine.errors import MissingError

CATEGORIES = (
    *("audio_encoders", "checkpoints", "clip_vision", "controlnet", "diffusers", "diffusion_models", "embeddings"),
    *("gligen", "hypernetworks", "latent_upscale_models", "llm", "loras", "model_patches", "photomaker"),
    *("style_models", "text_encoders", "upscale_models", "vae", "vae_approx"),
)
"""The categories of models that are known; a folder of any other name is a category of its own."""
FORMER = {
    "clip": "text_encoders",
    "esrgan": "upscale_models",
    "lora": "loras",
    "lycoris": "loras",
    "realesrgan": "upscale_models",
    "stable-diffusion": "checkpoints",
    "swinir": "upscale_models",
    "text_encoder": "text_encoders",
    "unet": "diffusion_models",
    "vae-approx": "vae_approx",
}
"""Categories by other names of their folders: AUTOMATIC1111's, and earlier ones of ComfyUI's, in lower case."""
WITHOUT_MODELS = ("configs", "custom_nodes")
"""Folders that lie among those of models, and hold something else."""
INDEXES = ("model_index.json", "config.json", "adapter_config.json")
"""A folder with one of these files is a model itself."""
PICKLED = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
"""The endings of files of weights that can run code when they are read."""
READ_AS_DATA = ("upscale_models",)
"""Categories of which such files are read all the same, as nothing but tensors."""
MayRead = Callable[[Path], bool]


def category_of(folder: str) -> str:
    """The category of the models in a folder of this name."""
    name = folder.lower()
    return FORMER.get(name, name if name in CATEGORIES else folder)


def is_model(folder: Path) -> bool:
    """Whether a folder is a model, rather than a folder of models."""
    return any((folder / name).is_file() for name in INDEXES)


def is_shelf(folder: Path) -> bool:
    """Whether a folder in one of models holds models: one that is called like a category does, whatever is in it."""
    return category_of(folder.name) in CATEGORIES or not is_model(folder)


@dataclass(frozen=True)
class Shelf:
    """A folder of models."""

    folder: Path
    category: str | None = None
    """Of all models in it; None if each folder in it has a category of its own."""


@dataclass(frozen=True)
class ModelFolders:
    """Folders of models, besides the workflow's own folder."""

    places: tuple[Shelf, ...] = ()
    """In the order in which they are looked through."""
    notes: tuple[str, ...] = ()
    """What was passed over where they are listed, a line each."""

    @property
    def roots(self) -> tuple[Path, ...]:
        """Those that have a folder for each category."""
        return tuple(place.folder for place in self.places if place.category is None)

    def shelves(self) -> Iterator[Shelf]:
        """The folders of each category that there are at this moment, in order."""
        for place in self.places:
            if place.category is None:
                yield from _shelves_in(place.folder)
            else:
                yield place

    def opened(self) -> OpenFolders:
        """The same with the folders of each category as they are at this moment, to look for many models."""
        return OpenFolders(self.roots, tuple(self.shelves()))

    def choose(self, name: str, wanted: Collection[str] = ()) -> Path | None:
        """As `OpenFolders.choose`."""
        return self.opened().choose(name, wanted) if self.places else None


@dataclass(frozen=True)
class OpenFolders:
    """Folders of models, to look for models in them."""

    roots: tuple[Path, ...]
    shelves: tuple[Shelf, ...]
    """The folders of each category, in order."""

    def choose(self, name: str, wanted: Collection[str] = (), may_read: MayRead = lambda path: True) -> Path | None:
        """The path of the model that a name stands for; None if there is none.

        A folder that is no model, and may only sort others, counts where there is nothing else of that name.

        Args:
            name: a path within one of the folders, or within that of a category, with or without the category.
            wanted: the categories that count first where several have a model of that name.
            may_read: whether a file or folder may be read; any other counts as absent.

        Raises:
            MissingError: several categories have one, and it isn't known which is meant.
        """
        parts = _parts(name)
        if not parts:
            return None

        def there(path: Path) -> bool:
            return os.path.lexists(path) and may_read(path) and path.exists()

        def model(path: Path) -> bool:
            return there(path) and (not path.is_dir() or is_model(path))

        return self._choose(parts, wanted, model) or self._choose(parts, wanted, there)

    def _choose(self, parts: Sequence[str], wanted: Collection[str], there: Callable[[Path], bool]) -> Path | None:
        """The path of the parts of a name that is there, in a root or else on a shelf."""
        for root in self.roots:
            path = root.joinpath(*parts)
            if there(path) and (len(parts) > 1 or not path.is_dir() or not is_shelf(path)):
                return path
        for shelf in self.shelves if len(parts) > 1 else ():
            if shelf.category == category_of(parts[0]) and there(path := shelf.folder.joinpath(*parts[1:])):
                return path
        found: dict[str, Path] = {}
        for shelf in self.shelves:
            assert shelf.category is not None
            if shelf.category not in found and there(path := shelf.folder.joinpath(*parts)):
                found[shelf.category] = path
        return _told_apart("/".join(parts), found, wanted)


NO_FOLDERS = ModelFolders()


def _shelves_in(root: Path) -> Iterator[Shelf]:
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:  # removed meanwhile, or not readable, which listing them tells
        return
    for name in names:
        if name.lower() not in WITHOUT_MODELS and (root / name).is_dir() and is_shelf(root / name):
            yield Shelf(root / name, category_of(name))


def _parts(name: str) -> list[str]:
    """The parts of a name, which Windows separates by backslashes; none of one that leads elsewhere."""
    written = name.replace("\\", "/")
    parts = [part for part in written.split("/") if part not in ("", ".")]
    leads_elsewhere = written.startswith(("/", "~")) or ".." in parts or PureWindowsPath(name).drive or "\0" in name
    return [] if leads_elsewhere else parts


def _told_apart(name: str, found: Mapping[str, Path], wanted: Collection[str]) -> Path | None:
    """The one path among those of several categories that is meant; links to one file are one."""
    chosen = {category: path for category, path in found.items() if category in wanted} or found
    if len({os.path.realpath(path) for path in chosen.values()}) < 2:
        return next(iter(chosen.values()), None)
    written = " or ".join(f"'{category}/{name}'" for category in chosen)
    raise MissingError(f"'{name}' is in {' and in '.join(chosen)}", hint=f"write {written}")
