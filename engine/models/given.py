"""The folders of models that people give: ComfyUI's, AUTOMATIC1111's, plain ones, and ComfyUI's list of others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from engine.errors import UsageError
from engine.models.extra_paths import NAME, ExtraPaths, read_extra_paths
from engine.models.folders import CATEGORIES, ModelFolders, Shelf, category_of, is_model

VARIABLE = "KINOGRAPH_MODELS"
"""The environment variable that lists such folders, separated as in PATH."""
PIPELINE = "model_index.json"
"""In a pipeline, whose parts are called like categories. A `config.json` may be a program's settings as well."""
HINT = "give a folder of models, that of ComfyUI or AUTOMATIC1111, or an extra_model_paths.yaml"


def model_folders(given: Iterable[Path], option: str = "--models") -> ModelFolders:
    """The folders of models in what people give.

    Args:
        given: folders that have a folder for each category, programs' folders with one of those, and files like
            ComfyUI's `extra_model_paths.yaml`, which is also read where it lies in one of the folders.
        option: what they were given by, for messages.

    Raises:
        UsageError: one isn't there, or a file is wrong.
    """
    first, places, notes = list[Shelf](), list[Shelf](), list[str]()
    for path in given:
        extra = ExtraPaths((), (), ())
        here = _here(path, option)
        if here.is_dir():
            own = _in_folder(here)
            if (here / NAME).is_file():
                extra = read_extra_paths(here / NAME)
            places += own
        else:
            extra = read_extra_paths(here)
        first += extra.default
        places += extra.others
        notes += extra.notes
    return ModelFolders(tuple(dict.fromkeys([*first, *places])), tuple(dict.fromkeys(notes)))


def from_environment() -> ModelFolders:
    """The folders that `KINOGRAPH_MODELS` lists; raises UsageError as `model_folders`."""
    return model_folders(in_environment(), VARIABLE)


def in_environment() -> list[Path]:
    """What `KINOGRAPH_MODELS` lists. An empty part is nothing, and not the working folder."""
    return [Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def _here(path: Path, option: str) -> Path:
    """The absolute path, if it is something that can be given."""
    try:
        here = path.expanduser().absolute()
        if here.is_dir() or (here.is_file() and here.suffix.lower() in (".yaml", ".yml")):
            return here
        what = "is a file, not a folder" if here.is_file() else "isn't there"
    except (RuntimeError, ValueError) as error:  # an unknown `~user`, or a null byte
        what = f"can't be the name of a folder: {error}"
    raise UsageError(f"{option} {path} {what}", hint=HINT)


def _in_folder(folder: Path) -> list[Shelf]:
    """The folders of models in a folder: itself, or that of the program which it is the folder of."""
    if _has_categories(folder / "models"):
        embeddings = [Shelf(folder / "embeddings", "embeddings")]  # where AUTOMATIC1111 has them
        return [Shelf(folder / "models"), *(shelf for shelf in embeddings if shelf.folder.is_dir())]
    if _has_categories(folder) and not (folder / PIPELINE).is_file():
        return [Shelf(folder)]
    if is_model(folder):
        raise UsageError(f"{folder} is a model, not a folder of models", hint="give the folder that it is in")
    return [] if (folder / NAME).is_file() else [Shelf(folder)]


def _has_categories(folder: Path) -> bool:
    """Whether a folder holds at least one folder that is called like a category."""
    try:
        with os.scandir(folder) as entries:
            return any(category_of(entry.name) in CATEGORIES and (folder / entry.name).is_dir() for entry in entries)
    except OSError:
        return False
