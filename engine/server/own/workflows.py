"""Saved workflows: a folder for each, with a file for every version, so that no change is ever lost.

`data/workflows/a-cat-1f0c9d2e/` holds `name.txt`, the name as it was given, and documents named
`<version>.<milliseconds since 1970>.json`. The folder listing is the only index. A version is written under a temporary
name and renamed; a new folder is renamed once it contains its first version.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from aiohttp import web
from pydantic import JsonValue
from pydantic_core import from_json

from engine.atomic import replacing, sync_folder, write
from engine.document.shipped import shipped, shipped_media
from engine.errors import MissingError, UsageError, WorkflowError, suggestion
from engine.server.http.routes import OWN, Answer, Query, Routes, read_json
from engine.server.http.settings import SETTINGS
from engine.server.jobs.checking import parsed

routes = Routes("workflows")

RECENT = 50
"""The number of latest versions that are kept whatever their age."""
TEN_MINUTES, DAY = 600, 86_400
"""Seconds."""
MOST_LETTERS = 200
"""The length of a workflow's name."""
MOST_DEPTH = 64
"""Nesting of lists and objects in a document."""

T = TypeVar("T")

_VERSION = re.compile(r"(\d+)\.(\d+)\.json")
_FOLDERS_LOCK = Lock()
"""Held while the folders are read or changed."""


class Saved(Answer):
    """A saved workflow."""

    name: str
    title: str
    saved: float
    """When its last version was saved, in seconds since 1970."""
    versions: int
    """The number of its versions."""


class SaveQuery(Query):
    """What the saved document is based on."""

    after: int | None = None
    """The version that was edited. If it is no longer the last one, nothing is saved (409)."""


class SavedAs(Answer):
    """The name and version under which a document was saved."""

    name: str
    version: int


class KeptVersion(Answer):
    """A version of a workflow."""

    version: int
    saved: float
    """Seconds since 1970."""
    size: int
    """Bytes."""


class Template(Answer):
    """A workflow that comes with Kinograph."""

    name: str
    title: str
    description: str


@dataclass(frozen=True)
class Version:
    """The file of one version of a workflow."""

    number: int
    milliseconds: int
    path: Path

    @property
    def saved(self) -> float:
        return self.milliseconds / 1000

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.saved, UTC).date().isoformat()


@routes.get(f"{OWN}/workflows")
async def workflows(request: web.Request) -> list[Saved]:
    """List the saved workflows, latest first."""
    return await _locked(_all_saved, _root(request))


@routes.get(f"{OWN}/workflows/{{name}}")
async def workflow(request: web.Request, name: str) -> dict[str, JsonValue]:
    """A saved workflow, in its latest version."""
    return await _locked(lambda: _document(_versions_of(_root(request), name)[-1].path))


@routes.put(f"{OWN}/workflows/{{name}}", takes="application/json", may_conflict=True)
async def save(request: web.Request, name: str, query: SaveQuery) -> SavedAs:
    """Save a workflow, finished or not, in any format; if it has changed, it becomes a new version."""
    document = await _document_to_save(request.app, await read_json(request))
    return await _locked(_save, _root(request), _checked(name), document, query.after)


@routes.delete(f"{OWN}/workflows/{{name}}", gives="")
async def delete(request: web.Request, name: str) -> web.Response:
    """Delete a saved workflow with all its versions."""
    await _locked(_delete, _root(request), name)
    return web.Response(status=204)


@routes.get(f"{OWN}/workflows/{{name}}/versions")
async def versions(request: web.Request, name: str) -> list[KeptVersion]:
    """List the versions of a saved workflow that are kept, latest first.

    The last fifty versions are kept; of older ones, the last of every ten minutes for a day, and then the last of each
    day.
    """

    def listed() -> list[KeptVersion]:
        latest_first = reversed(_versions_of(_root(request), name))
        return [KeptVersion(version=one.number, saved=one.saved, size=one.path.stat().st_size) for one in latest_first]

    return await _locked(listed)


@routes.get(f"{OWN}/workflows/{{name}}/versions/{{version}}")
async def version(request: web.Request, name: str, version: str) -> dict[str, JsonValue]:
    """A saved workflow in one of its versions."""
    return await _locked(lambda: _document(_version(_root(request), name, version).path))


@routes.post(f"{OWN}/workflows/{{name}}/versions/{{version}}/restore")
async def restore(request: web.Request, name: str, version: str) -> SavedAs:
    """Restore a version by saving it again as the latest one."""
    root = _root(request)

    def restored() -> SavedAs:
        return _save(root, name, _document(_version(root, name, version).path))

    return await _locked(restored)


@routes.get(f"{OWN}/templates")
async def templates(request: web.Request) -> list[Template]:
    """List the workflows that come with Kinograph."""
    return await asyncio.to_thread(_templates)


@routes.get(f"{OWN}/templates/{{name}}")
async def template(request: web.Request, name: str) -> dict[str, JsonValue]:
    """A workflow that comes with Kinograph; files that it reads are copied to the input folder, if missing there."""
    available = shipped()
    if name not in available:
        raise MissingError(f"no workflow '{name}' comes with Kinograph", hint=suggestion(name, available))
    return await asyncio.to_thread(_template, name, available[name], request.app[SETTINGS].folders.input)


def folder_name(name: str) -> str:
    """The folder of a workflow: a readable slug of its name, and a digest that makes it unique."""
    name = unicodedata.normalize("NFC", name)
    letters = unicodedata.normalize("NFKD", name).lower().encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:40] or "workflow"
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def expendable(versions: Iterable[Version]) -> list[Version]:
    """The versions of a workflow that needn't be kept."""
    ordered = sorted(versions, key=lambda version: version.number)
    older = ordered[:-RECENT]

    def period(version: Version) -> object:
        """Only the last version within a period is kept, as the editor saves every few seconds."""
        age = ordered[-1].saved - version.saved
        return version.day if age > DAY else version.saved // TEN_MINUTES

    last = {period(version): version for version in older}
    return [version for version in older if version is not last[period(version)]]


def _root(request: web.Request) -> Path:
    return request.app[SETTINGS].folders.data / "workflows"


async def _locked(function: Callable[..., T], *args: object) -> T:
    """Call a function in a thread, one at a time."""

    def call() -> T:
        with _FOLDERS_LOCK:
            return function(*args)

    return await asyncio.to_thread(call)


def _checked(name: str) -> str:
    if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
        raise UsageError(
            "this is not a valid workflow name", hint=f"use 1 to {MOST_LETTERS} printable characters on one line"
        )
    return name


async def _document_to_save(app: web.Application, data: Any) -> dict[str, Any]:
    """The document that is saved: as it was read or, for an unfinished draft, as it was sent."""
    if not isinstance(data, dict) or not data:
        raise UsageError("a workflow must be a JSON object that isn't empty")
    if _depth(data) > MOST_DEPTH:
        raise UsageError(f"the workflow's lists and objects are nested more than {MOST_DEPTH} levels deep")
    try:
        return (await parsed(app, data)).document()
    except WorkflowError:
        if data.keys() & {"kinograph", "graph"}:
            return data
        raise


def _depth(data: Any) -> int:
    level, depth = [data], 0
    while level := [inner for one in level if isinstance(one, dict | list) for inner in _members(one)]:
        depth += 1
    return depth


def _members(data: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return data.values() if isinstance(data, dict) else data


def _save(root: Path, name: str, document: dict[str, Any], after: int | None = None) -> SavedAs:
    data = json.dumps(document, ensure_ascii=False, indent=1).encode()
    folder = root / folder_name(name)
    kept = _versions_in(folder)
    if kept and kept[-1].path.read_bytes() == data:
        return SavedAs(name=name, version=kept[-1].number)
    if kept and after not in (None, kept[-1].number):
        raise web.HTTPConflict(text=f"'{name}' was saved elsewhere since its version {after}")
    number = kept[-1].number + 1 if kept else 1
    file = f"{number}.{time.time_ns() // 1_000_000}.json"
    _remove_leftovers(root)
    if kept:
        _remove_leftovers(folder)
        write(folder / file, data, durable=True)
    else:
        with replacing(folder, durable=True, suffix="") as part:
            write(part / "name.txt", name.encode())
            write(part / file, data)
    for one in expendable(_versions_in(folder)):
        one.path.unlink()
    return SavedAs(name=name, version=number)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed server had started to write or delete."""
    for path in folder.glob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _delete(root: Path, name: str) -> None:
    """Hide a workflow atomically, then remove its files."""
    _versions_of(root, name)
    hidden = root / f".{uuid.uuid4().hex}"
    (root / folder_name(name)).rename(hidden)
    sync_folder(root)
    shutil.rmtree(hidden)


def _all_saved(root: Path) -> list[Saved]:
    folders = [path for path in root.iterdir() if not path.name.startswith(".")] if root.exists() else []
    all_saved = [saved for folder in folders if (saved := _summary(folder))]
    return sorted(all_saved, key=lambda saved: saved.saved, reverse=True)


def _summary(folder: Path) -> Saved | None:
    versions = _versions_in(folder)
    if not versions:
        return None
    last, name = versions[-1], (folder / "name.txt").read_text(encoding="utf-8")
    return Saved(name=name, title=_title(last.path), saved=last.saved, versions=len(versions))


@lru_cache(maxsize=4096)  # a version's file never changes
def _title(path: Path) -> str:
    title = _document(path).get("title")
    return title if isinstance(title, str) else ""


def _versions_of(root: Path, name: str) -> list[Version]:
    if versions := _versions_in(root / folder_name(name)):
        return versions
    names = [one.name for one in _all_saved(root)]
    raise MissingError(f"there is no saved workflow '{name}'", hint=suggestion(name, names))


def _version(root: Path, name: str, number: str) -> Version:
    for version in _versions_of(root, name):
        if str(version.number) == number:
            return version
    raise MissingError(
        f"'{name}' has no version {number}",
        hint="of older versions, only the last of every ten minutes or, later, of every day is kept",
    )


def _versions_in(folder: Path) -> list[Version]:
    """The versions in a folder, latest last; none if the folder doesn't exist."""
    if not folder.is_dir():
        return []
    matches = ((path, _VERSION.fullmatch(path.name)) for path in folder.iterdir())
    versions = (Version(int(match[1]), int(match[2]), path) for path, match in matches if match)
    return sorted(versions, key=lambda version: version.number)


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = from_json(path.read_bytes())
    return document


def _template(name: str, path: Path, inputs: Path) -> dict[str, Any]:
    for place, media in shipped_media(name).items():
        if not (inputs / place).exists():
            write(inputs / place, media.read_bytes(), durable=True)
    return _document(path)


def _templates() -> list[Template]:
    documents = {name: _document(path) for name, path in shipped().items()}
    return [
        Template(name=name, title=document.get("title", ""), description=document.get("description", ""))
        for name, document in documents.items()
    ]
