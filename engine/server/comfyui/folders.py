"""ComfyUI's lists of files: models by folder, and the files of the input, output and temp folders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from aiohttp import web
from pydantic import Field

from engine.errors import UsageError
from engine.graph.confinement import Confinement
from engine.models.folders import CATEGORIES, Shelf, category_of
from engine.models.scanning import readable
from engine.server.files.paths import FileEntry, Root, walk
from engine.server.http.routes import Answer, Routes
from engine.server.http.settings import SETTINGS, Folders

routes = Routes("userdata")

MOST_FILES = 10_000
"""In one list."""


class ModelFolder(Answer):
    """A folder of models."""

    name: str
    folders: list[str]
    """Where it is: the names of the folders, never where these are on the machine."""
    extensions: list[str]


class ModelFile(Answer):
    """A file in a folder of models."""

    name: str
    place: int = Field(0, serialization_alias="pathIndex")
    """Which of the folder's `folders` it is in."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""


@routes.get("/embeddings")
async def embeddings(request: web.Request) -> list[str]:
    """The names of the textual embeddings in the folders of models, without their endings."""
    files = await asyncio.to_thread(_weights, request.app[SETTINGS].folders, "embeddings")
    return [name.rpartition(".")[0] for name in files]


@routes.get("/models")
async def model_folders(request: web.Request) -> list[str]:
    """The categories of models: those that ComfyUI's front end knows, and all others that are there."""
    return sorted(await asyncio.to_thread(_by_category, request.app[SETTINGS].folders))


@routes.get("/models/{folder}")
async def models_in(request: web.Request, folder: str) -> list[str]:
    """The models of one of these categories, subfolders included; none if it doesn't exist."""
    return [*await asyncio.to_thread(_weights, request.app[SETTINGS].folders, folder)]


@routes.get("/experiment/models")
async def model_folders_with_places(request: web.Request) -> list[ModelFolder]:
    """The categories of models, with the folders of each."""
    found = await asyncio.to_thread(_by_category, request.app[SETTINGS].folders)
    names = {category: [shelf.folder.name for shelf in found[category]] or [category] for category in sorted(found)}
    return [ModelFolder(name=name, folders=folders, extensions=[*readable(name)]) for name, folders in names.items()]


@routes.get("/experiment/models/{folder}")
async def model_files(request: web.Request, folder: str) -> list[ModelFile]:
    """The models of one of these categories, with sizes and times."""
    found = (await asyncio.to_thread(_weights, request.app[SETTINGS].folders, folder)).items()
    return [ModelFile(name=name, place=place, size=file.size, modified=file.modified) for name, (place, file) in found]


@routes.get("/internal/folder_paths")
async def folder_paths(request: web.Request) -> dict[str, list[str]]:
    """The folders in which each category of models is looked for, by their names."""
    found = await asyncio.to_thread(_by_category, request.app[SETTINGS].folders)
    return {category: [shelf.folder.name for shelf in found[category]] or [category] for category in sorted(found)}


@routes.get("/internal/files/{type}")
async def files(request: web.Request, type: str) -> list[str]:
    """The names of the files in the input, output or temp folder, newest first; without those in subfolders."""
    if type not in get_args(Root):
        raise UsageError(f"there is no folder '{type}'", hint="type must be input, output or temp")
    return await asyncio.to_thread(_newest, request.app[SETTINGS].folders.roots[type])


def _by_category(folders: Folders) -> dict[str, list[Shelf]]:
    """The folders of each category, in the order in which they are looked through."""
    confinement = Confinement(folders.roots, folders.of_models)
    found: dict[str, list[Shelf]] = {category: [] for category in CATEGORIES}
    for shelf in folders.of_models.shelves():
        if shelf.category is not None and confinement.allows(shelf.folder):
            found.setdefault(shelf.category, []).append(shelf)
    return found


def _weights(folders: Folders, name: str) -> dict[str, tuple[int, FileEntry]]:
    """The models of a category by name, each with the number of its folder; none if there is no such category."""
    found: dict[str, tuple[int, FileEntry]] = {}
    category = category_of(name)
    for place, shelf in enumerate(_by_category(folders).get(category, ())):
        for file in walk(shelf.folder):
            if file.filename.lower().endswith(readable(category)):
                found.setdefault(f"{file.subfolder}/{file.filename}".lstrip("/"), (place, file))
    return dict(sorted(found.items()))


def _newest(root: Path) -> list[str]:
    return [file.filename for file in sorted(_files(root), key=lambda file: -file.modified_ns)[:MOST_FILES]]


def _files(root: Path) -> Iterator[FileEntry]:
    return (file for file in walk(root) if not file.subfolder)
