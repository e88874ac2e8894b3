"""ComfyUI's lists of files: models by folder, and the files of the input, output and temp folders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from aiohttp import web
from pydantic import Field

from engine.errors import UsageError
from engine.server.files.paths import FileEntry, Root, resolve_within, walk
from engine.server.http.routes import Answer, Routes
from engine.server.http.settings import SETTINGS

routes = Routes("userdata")

WEIGHTS = (".safetensors", ".gguf")
"""The file name endings of models; other formats can run code when they are loaded."""
USUAL = (
    *("audio_encoders", "checkpoints", "clip_vision", "controlnet", "diffusion_models", "embeddings", "gligen"),
    *("hypernetworks", "latent_upscale_models", "loras", "model_patches", "photomaker", "style_models"),
    *("text_encoders", "upscale_models", "vae", "vae_approx"),
)
"""The folders of models that the front end asks for; those that don't exist count as empty."""
MOST_FILES = 10_000
"""In one list."""


class ModelFolder(Answer):
    """A folder of models."""

    name: str
    folders: list[str]
    """Where it is: relative to the server's folder of models, never on the machine."""
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
    """The names of the textual embeddings in the models folder, without their endings."""
    files = await asyncio.to_thread(_weights, request.app[SETTINGS].folders.models, "embeddings")
    return [_name(file).rpartition(".")[0] for file in files]


@routes.get("/models")
async def model_folders(request: web.Request) -> list[str]:
    """The folders of models: those that ComfyUI's front end knows, and all others that are there."""
    return await asyncio.to_thread(_folders, request.app[SETTINGS].folders.models)


@routes.get("/models/{folder}")
async def models_in(request: web.Request, folder: str) -> list[str]:
    """The models in one of these folders, subfolders included; none if it doesn't exist."""
    return [_name(file) for file in await asyncio.to_thread(_weights, request.app[SETTINGS].folders.models, folder)]


@routes.get("/experiment/models")
async def model_folders_with_places(request: web.Request) -> list[ModelFolder]:
    """The folders of models, with where they are."""
    names = await asyncio.to_thread(_folders, request.app[SETTINGS].folders.models)
    return [ModelFolder(name=name, folders=[name], extensions=[*WEIGHTS]) for name in names]


@routes.get("/experiment/models/{folder}")
async def model_files(request: web.Request, folder: str) -> list[ModelFile]:
    """The models in one of these folders, with sizes and times."""
    files = await asyncio.to_thread(_weights, request.app[SETTINGS].folders.models, folder)
    return [ModelFile(name=_name(file), size=file.size, modified=file.modified) for file in files]


@routes.get("/internal/folder_paths")
async def folder_paths(request: web.Request) -> dict[str, list[str]]:
    """Where each kind of model is looked for, relative to the server's folder of models."""
    names = await asyncio.to_thread(_folders, request.app[SETTINGS].folders.models)
    return {name: [name] for name in names}


@routes.get("/internal/files/{type}")
async def files(request: web.Request, type: str) -> list[str]:
    """The names of the files in the input, output or temp folder, newest first; without those in subfolders."""
    if type not in get_args(Root):
        raise UsageError(f"there is no folder '{type}'", hint="type must be input, output or temp")
    return await asyncio.to_thread(_newest, request.app[SETTINGS].folders.roots[type])


def _folders(root: Path) -> list[str]:
    there = {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return sorted(there | {*USUAL})


def _weights(root: Path, folder: str) -> list[FileEntry]:
    """The models in a folder, by name; none if it doesn't exist."""
    if folder not in _folders(root):
        return []
    files = walk(resolve_within(root, folder))
    return sorted((file for file in files if file.filename.lower().endswith(WEIGHTS)), key=_name)


def _name(file: FileEntry) -> str:
    return f"{file.subfolder}/{file.filename}".lstrip("/")


def _newest(root: Path) -> list[str]:
    return [file.filename for file in sorted(_files(root), key=lambda file: -file.modified_ns)[:MOST_FILES]]


def _files(root: Path) -> Iterator[FileEntry]:
    return (file for file in walk(root) if not file.subfolder)
