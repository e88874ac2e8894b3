"""What ComfyUI's stock front end keeps on its server: settings, the user's files, and lists that are empty here."""

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
from engine.server.files.paths import require_file, resolve_within, walk
from engine.server.http.routes import Answer, Body, Query, Routes, read_json
from engine.server.http.settings import SETTINGS, ServerSettings

routes = Routes("userdata")

SETTINGS_LIMIT = 4 << 20
"""Bytes of all settings together."""

_CHANGING = Lock()
"""Held while settings are read, changed and written."""


class Users(Answer):
    """Says that settings are kept on the server."""

    storage: Literal["server"] = "server"
    migrated: Literal[True] = True


class NewUser(Body):
    """A user to be added."""

    username: str = ""


class ListQuery(Query):
    """Which files to list."""

    dir: Annotated[str, Field(min_length=1)]
    """A folder of the user's files."""
    recurse: bool = False
    """Whether to list its subfolders as well."""
    split: bool = False
    """Whether to give each name in parts as well."""
    full_info: bool = False
    """Whether to give sizes and times."""


class EntriesQuery(Query):
    """Which files and folders to list."""

    path: str = ""


class WriteQuery(Query):
    """How to write a file."""

    overwrite: bool = True
    """Whether it may replace an existing file."""
    full_info: bool = False
    """Whether to answer with its size and times, not with its name alone."""


class UserFile(Answer):
    """A file of the user."""

    path: str
    size: int
    """Bytes."""
    modified: int
    """Milliseconds since 1970."""
    created: int


class Entry(Answer):
    """A file or folder of the user."""

    name: str
    path: str
    type: Literal["file", "directory"]
    size: int | None = None
    """Bytes."""
    modified: float | None = None
    """Seconds since 1970."""


@routes.get("/users")
async def users(request: web.Request) -> Users:
    """Say that settings are kept here, for the only user."""
    return Users()


@routes.post("/users")
async def add_user(request: web.Request, body: NewUser) -> str:
    """Refuse to add a user: everyone who may use this server counts as the same user."""
    raise UsageError("this server has only one user", hint="start another server with its own folders")


@routes.get("/settings")
async def settings(request: web.Request) -> dict[str, JsonValue]:
    """All settings, by name."""
    return await asyncio.to_thread(_settings, request.app[SETTINGS])


@routes.get("/settings/{id}")
async def setting(request: web.Request, id: str) -> JsonValue:
    """One setting, or null if it isn't set."""
    return (await asyncio.to_thread(_settings, request.app[SETTINGS])).get(id)


@routes.post("/settings", takes="application/json")
async def change_settings(request: web.Request) -> None:
    """Change several settings (an object); others stay as they are."""
    changes = await read_json(request)
    if not isinstance(changes, dict):
        raise UsageError("settings must be a JSON object")
    await asyncio.to_thread(_change, request.app[SETTINGS], changes)


@routes.post("/settings/{id}", takes="application/json")
async def change_setting(request: web.Request, id: str) -> None:
    """Set one setting to any JSON value."""
    await asyncio.to_thread(_change, request.app[SETTINGS], {id: await read_json(request)})


@routes.get("/userdata")
async def list_files(request: web.Request, query: ListQuery) -> list[str] | list[list[str]] | list[UserFile]:
    """List the files in one of the user's folders, by their names relative to it."""
    return await asyncio.to_thread(_listed, request.app[SETTINGS], query)


@routes.get("/v2/userdata")
async def list_entries(request: web.Request, query: EntriesQuery) -> list[Entry]:
    """List the user's files and folders, below a path if one is given; folders first, then by name."""
    return await asyncio.to_thread(_entries, request.app[SETTINGS], query.path)


@routes.get("/userdata/{file}", gives="*/*")
async def read_file(request: web.Request, file: str) -> web.StreamResponse:
    """A file of the user; `/` in its name is written `%2F`."""
    path = await asyncio.to_thread(_existing, request.app[SETTINGS], file)
    return web.FileResponse(path, headers=headers_of(path, save=True))


@routes.post("/userdata/{file}", takes="application/octet-stream", may_conflict=True)
async def write_file(request: web.Request, file: str, query: WriteQuery) -> str | UserFile:
    """Write a file of the user, with any content; 409 if it exists and `overwrite` is false."""
    data = await request.read()
    return await asyncio.to_thread(_write, request.app[SETTINGS], file, data, query)


@routes.delete("/userdata/{file}", gives="")
async def delete_file(request: web.Request, file: str) -> web.Response:
    """Delete a file of the user."""
    path = await asyncio.to_thread(_existing, request.app[SETTINGS], file)
    await asyncio.to_thread(path.unlink)
    return web.Response(status=204)


@routes.post("/userdata/{file}/move/{dest}", may_conflict=True)
async def move_file(request: web.Request, file: str, dest: str, query: WriteQuery) -> str | UserFile:
    """Rename a file of the user; 409 if the new name is taken and `overwrite` is false."""
    return await asyncio.to_thread(_move, request.app[SETTINGS], file, dest, query)


@routes.get("/workflow_templates")
async def workflow_templates(request: web.Request) -> dict[str, list[str]]:
    """Templates in the stock front end's own format, by module; always empty. See /api/kinograph/templates."""
    return {}


@routes.get("/templates/index.json")
async def template_index(request: web.Request) -> list[JsonValue]:
    """Templates that come with the stock front end, by category; always empty. See /api/kinograph/templates."""
    return []


@routes.get("/templates/index_logo.json")
async def template_logos(request: web.Request) -> dict[str, str]:
    """Logos that the stock front end shows at templates; always empty."""
    return {}


@routes.get("/i18n")
async def translations(request: web.Request) -> dict[str, JsonValue]:
    """Translations of node names, by language; always empty."""
    return {}


@routes.get("/extensions")
async def extensions(request: web.Request) -> list[str]:
    """Scripts for the front end to load; always empty, since nothing served here is run."""
    return []


@routes.get("/global_subgraphs")
async def global_subgraphs(request: web.Request) -> dict[str, JsonValue]:
    """Subgraphs that come with the server, for the stock front end; always empty."""
    return {}


@routes.get("/user.css", gives="text/css")
async def stylesheet(request: web.Request) -> web.Response:
    """The style sheet that the stock front end loads; always empty, since nothing that was uploaded is one."""
    return web.Response(text="", content_type="text/css")


@routes.get("/features")
async def features(request: web.Request) -> dict[str, JsonValue]:
    """The features of this server, as its WebSocket announces them."""
    return features_of(request.app[SETTINGS])


def features_of(settings: ServerSettings) -> dict[str, JsonValue]:
    """The features that the server announces to clients."""
    return {"supports_preview_metadata": True, "max_upload_size": settings.upload_limit, "kinograph_events": True}


def _root(settings: ServerSettings) -> Path:
    return settings.folders.data / "user"


def _settings(settings: ServerSettings) -> dict[str, Any]:
    path = settings.folders.data / "settings.json"
    try:
        read = from_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise KinographError(f"{path.name} is not JSON: {error}", hint="repair it by hand, or remove it") from None
    return read if isinstance(read, dict) else {}


def _change(settings: ServerSettings, changes: dict[str, Any]) -> None:
    with _CHANGING:
        data = json.dumps(_settings(settings) | changes, indent=2).encode()
        if len(data) > SETTINGS_LIMIT:
            raise web.HTTPRequestEntityTooLarge(SETTINGS_LIMIT, len(data))
        write(settings.folders.data / "settings.json", data, durable=True)


def _listed(settings: ServerSettings, query: ListQuery) -> list[str] | list[list[str]] | list[UserFile]:
    folder = resolve_within(_root(settings), query.dir)
    if not folder.is_dir():
        raise MissingError(f"there is no folder '{query.dir}'")
    paths = sorted(file.path for file in walk(folder) if query.recurse or not file.subfolder)
    if query.full_info:
        return [_about(path, folder) for path in paths]
    names = [path.relative_to(folder).as_posix() for path in paths]
    return [[name, *name.split("/")] for name in names] if query.split else names


def _entries(settings: ServerSettings, name: str) -> list[Entry]:
    root = _root(settings)
    root.mkdir(exist_ok=True)
    folder = resolve_within(root, name)
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


def _existing(settings: ServerSettings, name: str) -> Path:
    return require_file(_path(settings, name), name)


def _path(settings: ServerSettings, name: str) -> Path:
    """The path of a user's file, which needn't exist; hidden names are allowed, as the stock front end uses one."""
    path = resolve_within(_root(settings), name, hidden=True)
    if path == Path(os.path.realpath(_root(settings))):
        raise UsageError("no file is named", hint="give a file name")
    return path


def _write(settings: ServerSettings, name: str, data: bytes, query: WriteQuery) -> str | UserFile:
    path = _path(settings, name)
    _check_writable(path, name, query)
    write(path, data, durable=True)
    return _written(settings, path, query)


def _move(settings: ServerSettings, name: str, to: str, query: WriteQuery) -> str | UserFile:
    source, target = _existing(settings, name), _path(settings, to)
    _check_writable(target, to, query)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    sync_folder(target.parent)
    return _written(settings, target, query)


def _check_writable(path: Path, name: str, query: WriteQuery) -> None:
    if path.is_dir() or any(parent.is_file() for parent in path.parents):
        raise UsageError(f"'{name}' can't be a file: it is a folder, or its folder is a file", hint="use another name")
    if path.exists() and not query.overwrite:
        raise web.HTTPConflict(text=f"'{name}' already exists")


def _written(settings: ServerSettings, path: Path, query: WriteQuery) -> str | UserFile:
    about = _about(path, Path(os.path.realpath(_root(settings))))
    return about if query.full_info else about.path


def _about(path: Path, root: Path) -> UserFile:
    stat = path.stat()
    times = {"modified": stat.st_mtime_ns // 1_000_000, "created": stat.st_ctime_ns // 1_000_000}
    return UserFile(path=path.relative_to(root).as_posix(), size=stat.st_size, **times)
