"""What ComfyUI's stock front end keeps on its server: settings, its user's files, and lists of what there is to use."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, JsonValue
from pydantic_core import from_json

from engine.atomic import sync_folder, write
from engine.errors import KinographError, MissingError, UsageError
from engine.server.comfyui.files import headers_of
from engine.server.files.paths import beneath, existing, walk
from engine.server.http.routes import Answer, Body, Query, Routes, read_json
from engine.server.http.settings import SETTINGS, ServerSettings

routes = Routes("userdata")

SETTINGS_LIMIT = 4 << 20
"""Bytes that all settings may take together."""
WEIGHTS = (".safetensors", ".gguf")
"""How the names of models end; other formats can run code when they are loaded."""

_CHANGING = Lock()
"""Held while settings are read, changed and written."""


class Users(Answer):
    """Where settings are kept, and that they are."""

    storage: Literal["server"] = "server"
    migrated: Literal[True] = True


class NewUser(Body):
    """Who is to be a user."""

    username: str = ""


class InFolder(Query):
    """What to list."""

    dir: Annotated[str, Field(min_length=1)]
    """A folder of the user's files."""
    recurse: bool = False
    """Whether folders below it are listed as well."""
    split: bool = False
    """Give each name also in parts."""
    full_info: bool = False
    """Tell sizes and times."""


class InPath(Query):
    """What to list."""

    path: str = ""


class Writing(Query):
    """How to write a file."""

    overwrite: bool = True
    """Whether it may take the place of another."""
    full_info: bool = False
    """Answer its size and times, not the name alone."""


class UserFile(Answer):
    """A file of the user's."""

    path: str
    size: int
    """Bytes."""
    modified: int
    """Milliseconds since 1970."""
    created: int


class Entry(Answer):
    """A file or a folder of the user's."""

    name: str
    path: str
    type: Literal["file", "directory"]
    size: int | None = None
    """Bytes."""
    modified: float | None = None
    """Seconds since 1970."""


@routes.get("/users")
async def users(request: web.Request) -> Users:
    """Tell that settings are kept here, for the one user there is."""
    return Users()


@routes.post("/users")
async def add_user(request: web.Request, body: NewUser) -> str:
    """Refuse another user: whoever may use this server is the same one to it."""
    raise UsageError("this server has one user", hint="start another one with folders of its own")


@routes.get("/settings")
async def settings(request: web.Request) -> dict[str, JsonValue]:
    """All settings, by name."""
    return await asyncio.to_thread(_settings, request.app[SETTINGS])


@routes.get("/settings/{id}")
async def setting(request: web.Request, id: str) -> JsonValue:
    """One setting; null if it isn't set."""
    return (await asyncio.to_thread(_settings, request.app[SETTINGS])).get(id)


@routes.post("/settings", takes="application/json")
async def change_settings(request: web.Request) -> None:
    """Set several settings (an object); others stay as they are."""
    changes = await read_json(request)
    if not isinstance(changes, dict):
        raise UsageError("settings are a JSON object")
    await asyncio.to_thread(_change, request.app[SETTINGS], changes)


@routes.post("/settings/{id}", takes="application/json")
async def change_setting(request: web.Request, id: str) -> None:
    """Set one setting, to any JSON."""
    await asyncio.to_thread(_change, request.app[SETTINGS], {id: await read_json(request)})


@routes.get("/userdata")
async def list_files(request: web.Request, query: InFolder) -> list[str] | list[list[str]] | list[UserFile]:
    """List the files in one of the user's folders, by names relative to it."""
    return await asyncio.to_thread(_listed, request.app[SETTINGS], query)


@routes.get("/v2/userdata")
async def list_entries(request: web.Request, query: InPath) -> list[Entry]:
    """List the user's files and folders, below a path if one is given: folders first, then by name."""
    return await asyncio.to_thread(_entries, request.app[SETTINGS], query.path)


@routes.get("/userdata/{file}", gives="*/*")
async def read_file(request: web.Request, file: str) -> web.StreamResponse:
    """A file of the user's; `/` in its name is written `%2F`."""
    path = await asyncio.to_thread(_existing, request.app[SETTINGS], file)
    return web.FileResponse(path, headers=headers_of(path, save=True))


@routes.post("/userdata/{file}", takes="application/octet-stream", may_conflict=True)
async def write_file(request: web.Request, file: str, query: Writing) -> str | UserFile:
    """Write a file of the user's, whatever it holds; 409 if it is there and `overwrite` is false."""
    data = await request.read()
    return await asyncio.to_thread(_write, request.app[SETTINGS], file, data, query)


@routes.delete("/userdata/{file}", gives="")
async def delete_file(request: web.Request, file: str) -> web.Response:
    """Delete a file of the user's."""
    path = await asyncio.to_thread(_existing, request.app[SETTINGS], file)
    await asyncio.to_thread(path.unlink)
    return web.Response(status=204)


@routes.post("/userdata/{file}/move/{dest}", may_conflict=True)
async def move_file(request: web.Request, file: str, dest: str, query: Writing) -> str | UserFile:
    """Give a file of the user's another name; 409 if that is taken and `overwrite` is false."""
    return await asyncio.to_thread(_move, request.app[SETTINGS], file, dest, query)


@routes.get("/workflow_templates")
async def workflow_templates(request: web.Request) -> dict[str, list[str]]:
    """Templates in the stock front end's own format, by module: there are none. See /api/kinograph/templates."""
    return {}


@routes.get("/i18n")
async def translations(request: web.Request) -> dict[str, JsonValue]:
    """Translations of the nodes' names, by language: there are none."""
    return {}


@routes.get("/extensions")
async def extensions(request: web.Request) -> list[str]:
    """Scripts that the front end should load: there are none, as nothing that is served here is run."""
    return []


@routes.get("/embeddings")
async def embeddings(request: web.Request) -> list[str]:
    """The names of the textual embeddings in the models' folder, without endings."""
    names = await asyncio.to_thread(_weights, request.app[SETTINGS].folders.models / "embeddings")
    return [name.rpartition(".")[0] for name in names]


@routes.get("/models")
async def model_folders(request: web.Request) -> list[str]:
    """The folders in that of the models."""
    return await asyncio.to_thread(_model_folders, request.app[SETTINGS].folders.models)


@routes.get("/models/{folder}")
async def models_in(request: web.Request, folder: str) -> list[str]:
    """The models in one of these folders and below."""
    root = request.app[SETTINGS].folders.models
    if folder not in await asyncio.to_thread(_model_folders, root):
        raise MissingError(f"there is no folder '{folder}' of models")
    return await asyncio.to_thread(_weights, root / folder)


@routes.get("/features")
async def features(request: web.Request) -> dict[str, JsonValue]:
    """What this server can do, as its WebSocket tells too."""
    return features_of(request.app[SETTINGS])


def features_of(setup: ServerSettings) -> dict[str, JsonValue]:
    """What a server can do, for clients that ask."""
    return {"supports_preview_metadata": True, "max_upload_size": setup.upload_limit, "kinograph_events": True}


def _root(setup: ServerSettings) -> Path:
    return setup.folders.data / "user"


def _settings(setup: ServerSettings) -> dict[str, Any]:
    path = setup.folders.data / "settings.json"
    try:
        read = from_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise KinographError(f"{path.name} is not JSON: {error}", hint="mend it by hand, or remove it") from None
    return read if isinstance(read, dict) else {}


def _change(setup: ServerSettings, changes: dict[str, Any]) -> None:
    with _CHANGING:
        data = json.dumps(_settings(setup) | changes, indent=2).encode()
        if len(data) > SETTINGS_LIMIT:
            raise web.HTTPRequestEntityTooLarge(SETTINGS_LIMIT, len(data))
        write(setup.folders.data / "settings.json", data, durable=True)


def _listed(setup: ServerSettings, query: InFolder) -> list[str] | list[list[str]] | list[UserFile]:
    folder = beneath(_root(setup), query.dir)
    if not folder.is_dir():
        raise MissingError(f"there is no folder '{query.dir}'")
    paths = sorted(file.path for file in walk(folder) if query.recurse or not file.subfolder)
    if query.full_info:
        return [_about(path, folder) for path in paths]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [[name, *name.split("/")] for name in names] if query.split else names


def _entries(setup: ServerSettings, name: str) -> list[Entry]:
    root = _root(setup)
    root.mkdir(exist_ok=True)
    folder = beneath(root, name)
    if not folder.exists():
        raise MissingError(f"there is no folder '{name}'")
    if not folder.is_dir():
        raise UsageError(f"'{name}' is not a folder")
    return sorted(_entries_of(folder, Path(os.path.realpath(root))), key=lambda entry: (entry.type, entry.name.lower()))


def _entries_of(folder: Path, root: Path) -> Iterator[Entry]:
    folders = set[Path]()
    for file in walk(folder):
        path = file.path.relative_to(root).as_posix()
        yield Entry(name=file.filename, path=path, type="file", size=file.size, modified=file.modified)
        folders |= {parent for parent in file.path.parents if parent.is_relative_to(folder) and parent != folder}
    for inner in folders:
        yield Entry(name=inner.name, path=inner.relative_to(root).as_posix(), type="directory")


def _existing(setup: ServerSettings, name: str) -> Path:
    return existing(_path(setup, name), name)


def _path(setup: ServerSettings, name: str) -> Path:
    """Where a file of the user's is, or would be; the stock front end keeps a hidden one."""
    path = beneath(_root(setup), name, hidden=True)
    if path == Path(os.path.realpath(_root(setup))):
        raise UsageError("no file is named")
    return path


def _write(setup: ServerSettings, name: str, data: bytes, query: Writing) -> str | UserFile:
    path = _path(setup, name)
    _may_write(path, name, query)
    write(path, data, durable=True)
    return _written(setup, path, query)


def _move(setup: ServerSettings, name: str, to: str, query: Writing) -> str | UserFile:
    source, target = _existing(setup, name), _path(setup, to)
    _may_write(target, to, query)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    sync_folder(target.parent)
    return _written(setup, target, query)


def _may_write(path: Path, name: str, query: Writing) -> None:
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise UsageError(f"'{name}' can't be a file: there is a folder, or a file where its folder would be")
    if path.exists() and not query.overwrite:
        raise web.HTTPConflict(text=f"there is '{name}' already")


def _written(setup: ServerSettings, path: Path, query: Writing) -> str | UserFile:
    about = _about(path, Path(os.path.realpath(_root(setup))))
    return about if query.full_info else about.path


def _about(path: Path, root: Path) -> UserFile:
    stat = path.stat()
    times = {"modified": stat.st_mtime_ns // 1_000_000, "created": stat.st_ctime_ns // 1_000_000}
    return UserFile(path=path.relative_to(root).as_posix(), size=stat.st_size, **times)


def _weights(folder: Path) -> list[str]:
    names = (f"{file.subfolder}/{file.filename}".lstrip("/") for file in walk(folder))
    return sorted(name for name in names if name.lower().endswith(WEIGHTS))


def _model_folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
