"""Saved workflows: a folder for each, with a file for every version, so that no change is ever lost.

`data/workflows/a-cat-1f0c9d2e/` holds `name.txt`, the title as it was given, and documents that are called
`<version>.<milliseconds since 1970>.json`. The listing is the whole index. A version is written under another name and
renamed; a new folder comes to its name with its first version in it.
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

from engine.atomic import sync_folder, unfinished, write
from engine.document.shipped import shipped, shipped_media
from engine.errors import MissingError, UsageError, WorkflowError, suggestion
from engine.server.http.routes import OWN, Answer, Query, Routes, read_json
from engine.server.http.settings import SETTINGS
from engine.server.jobs.checking import parsed

routes = Routes("workflows")

RECENT = 50
"""So many versions are kept whatever their age."""
TEN_MINUTES, DAY = 600, 86_400
"""Seconds."""
MOST_LETTERS = 200
"""Of a workflow's name."""
MOST_DEPTH = 64
"""Lists and objects within each other in a document."""

T = TypeVar("T")

_VERSION = re.compile(r"(\d+)\.(\d+)\.json")
_BUSY = Lock()
"""Held while the folders are looked at or changed."""


class Saved(Answer):
    """A saved workflow."""

    name: str
    title: str
    saved: float
    """When the last version was: seconds since 1970."""
    versions: int
    """How many there are."""


class SavedOver(Query):
    """What is saved over."""

    after: int | None = None
    """The version that was changed. Where another is the last by now, nothing is saved (409)."""


class SavedAs(Answer):
    """The version that a document is."""

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
    """A file with one version of a document."""

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
    """List the saved workflows, the latest first."""
    return await _apart(_all, _root(request))


@routes.get(f"{OWN}/workflows/{{name}}")
async def workflow(request: web.Request, name: str) -> dict[str, JsonValue]:
    """A saved workflow as it was last saved."""
    return await _apart(lambda: _document(_versions_of(_root(request), name)[-1].path))


@routes.put(f"{OWN}/workflows/{{name}}", takes="application/json", may_conflict=True)
async def save(request: web.Request, name: str, query: SavedOver) -> SavedAs:
    """Save a workflow, finished or not: a document, or what can be read as one. What has changed is a new version."""
    document = await _accepted(request.app, await read_json(request))
    return await _apart(_save, _root(request), _checked(name), document, query.after)


@routes.delete(f"{OWN}/workflows/{{name}}", gives="")
async def delete(request: web.Request, name: str) -> web.Response:
    """Delete a saved workflow with all of its versions."""
    await _apart(_delete, _root(request), name)
    return web.Response(status=204)


@routes.get(f"{OWN}/workflows/{{name}}/versions")
async def versions(request: web.Request, name: str) -> list[KeptVersion]:
    """List the versions of a saved workflow that are kept, the latest first.

    These are the last fifty, of older ones the last of every ten minutes for a day, and of still older ones the last of
    each day.
    """

    def listed() -> list[KeptVersion]:
        found = reversed(_versions_of(_root(request), name))
        return [KeptVersion(version=one.number, saved=one.saved, size=one.path.stat().st_size) for one in found]

    return await _apart(listed)


@routes.get(f"{OWN}/workflows/{{name}}/versions/{{version}}")
async def version(request: web.Request, name: str, version: str) -> dict[str, JsonValue]:
    """A saved workflow as it was at a version."""
    return await _apart(lambda: _document(_version(_root(request), name, version).path))


@routes.post(f"{OWN}/workflows/{{name}}/versions/{{version}}/restore")
async def restore(request: web.Request, name: str, version: str) -> SavedAs:
    """Go back to a version: it is saved once more, as the latest."""
    root = _root(request)

    def restored() -> SavedAs:
        return _save(root, name, _document(_version(root, name, version).path))

    return await _apart(restored)


@routes.get(f"{OWN}/templates")
async def templates(request: web.Request) -> list[Template]:
    """List the workflows that come with Kinograph."""
    return await asyncio.to_thread(_templates)


@routes.get(f"{OWN}/templates/{{name}}")
async def template(request: web.Request, name: str) -> dict[str, JsonValue]:
    """A workflow that comes with Kinograph; what it reads is put into the input folder, if it isn't there."""
    found = shipped()
    if name not in found:
        raise MissingError(f"no workflow '{name}' comes with Kinograph", hint=suggestion(name, found))
    return await asyncio.to_thread(_template, name, found[name], request.app[SETTINGS].folders.input)


def folder_name(name: str) -> str:
    """The folder of the workflow of that name: letters to know it by, and a digest to tell it from all others."""
    name = unicodedata.normalize("NFC", name)
    letters = unicodedata.normalize("NFKD", name).lower().encode("ascii", "ignore").decode()
    known_by = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:40] or "workflow"
    return f"{known_by}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def thinned(versions: Iterable[Version]) -> list[Version]:
    """Those of a workflow's versions that needn't be kept."""
    ordered = sorted(versions, key=lambda version: version.number)
    older = ordered[:-RECENT]

    def stretch(version: Version) -> object:
        """Within it only the last is kept: someone who works saves every few seconds."""
        age = ordered[-1].saved - version.saved
        return version.day if age > DAY else version.saved // TEN_MINUTES

    last = {stretch(version): version for version in older}
    return [version for version in older if version is not last[stretch(version)]]


def _root(request: web.Request) -> Path:
    return request.app[SETTINGS].folders.data / "workflows"


async def _apart(function: Callable[..., T], *args: object) -> T:
    """Call a function in a thread, one at a time."""

    def call() -> T:
        with _BUSY:
            return function(*args)

    return await asyncio.to_thread(call)


def _checked(name: str) -> str:
    if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
        raise UsageError("that can't be a workflow's name", hint=f"it has 1 to {MOST_LETTERS} letters, in one line")
    return name


async def _accepted(app: web.Application, data: Any) -> dict[str, Any]:
    """What is to be saved: the document that can be read, or a draft just as it was sent."""
    if not isinstance(data, dict) or not data:
        raise UsageError("a workflow is a JSON object, and not an empty one")
    if _depth(data) > MOST_DEPTH:
        raise UsageError(f"lists and objects lie more than {MOST_DEPTH} deep in each other")
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
    kept = _in(folder)
    if kept and kept[-1].path.read_bytes() == data:
        return SavedAs(name=name, version=kept[-1].number)
    if kept and after not in (None, kept[-1].number):
        raise web.HTTPConflict(text=f"'{name}' was saved elsewhere since its version {after}")
    number = kept[-1].number + 1 if kept else 1
    file = f"{number}.{time.time_ns() // 1_000_000}.json"
    _tidy(root)
    if kept:
        _tidy(folder)
        write(folder / file, data, durable=True)
    else:
        with unfinished(root, suffix="") as part:
            write(part / "name.txt", name.encode(), durable=True)
            write(part / file, data, durable=True)
            part.rename(folder)
        sync_folder(root)
    for one in thinned(_in(folder)):
        one.path.unlink()
    return SavedAs(name=name, version=number)


def _tidy(folder: Path) -> None:
    """Remove what a server that was killed has begun to write or to delete."""
    for path in folder.glob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _delete(root: Path, name: str) -> None:
    """Take a workflow out of sight at once, then remove its files."""
    _versions_of(root, name)
    gone = root / f".{uuid.uuid4().hex}"
    (root / folder_name(name)).rename(gone)
    sync_folder(root)
    shutil.rmtree(gone)


def _all(root: Path) -> list[Saved]:
    folders = [path for path in root.iterdir() if not path.name.startswith(".")] if root.exists() else []
    found = [saved for folder in folders if (saved := _about(folder))]
    return sorted(found, key=lambda saved: saved.saved, reverse=True)


def _about(folder: Path) -> Saved | None:
    versions = _in(folder)
    if not versions:
        return None
    last, name = versions[-1], (folder / "name.txt").read_text(encoding="utf-8")
    return Saved(name=name, title=_title(last.path), saved=last.saved, versions=len(versions))


@lru_cache(maxsize=4096)  # a version's file never changes
def _title(path: Path) -> str:
    title = _document(path).get("title")
    return title if isinstance(title, str) else ""


def _versions_of(root: Path, name: str) -> list[Version]:
    if versions := _in(root / folder_name(name)):
        return versions
    raise MissingError(f"there is no saved workflow '{name}'", hint=suggestion(name, [one.name for one in _all(root)]))


def _version(root: Path, name: str, number: str) -> Version:
    for version in _versions_of(root, name):
        if str(version.number) == number:
            return version
    raise MissingError(
        f"'{name}' has no version {number}",
        hint="of older ones only the last of ten minutes, and then of a day, is kept",
    )


def _in(folder: Path) -> list[Version]:
    """The versions in a folder, the latest last; none if there is no folder."""
    if not folder.is_dir():
        return []
    matches = ((path, _VERSION.fullmatch(path.name)) for path in folder.iterdir())
    found = (Version(int(match[1]), int(match[2]), path) for path, match in matches if match)
    return sorted(found, key=lambda version: version.number)


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = from_json(path.read_bytes())
    return document


def _template(name: str, path: Path, inputs: Path) -> dict[str, Any]:
    for media in shipped_media(name):
        if not (inputs / media.name).exists():
            write(inputs / media.name, media.read_bytes(), durable=True)
    return _document(path)


def _templates() -> list[Template]:
    documents = {name: _document(path) for name, path in shipped().items()}
    return [
        Template(name=name, title=document.get("title", ""), description=document.get("description", ""))
        for name, document in documents.items()
    ]
