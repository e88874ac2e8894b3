"""What has been saved, to look through: searched by name, title and prompt, with pictures to know it by."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, JsonValue
from pydantic_core import from_json

from engine.document.formats import is_ui
from engine.document.reading import read
from engine.document.tags import tags
from engine.errors import KinographError
from engine.server.comfyui.files import Listed, Named
from engine.server.files.paths import Found, beneath, existing, found, walk
from engine.server.files.thumbnails import Thumbnails
from engine.server.http.routes import OWN, Answer, Query, Routes
from engine.server.http.settings import REGISTRY, SETTINGS, Folders
from engine.work.media import media_type

routes = Routes("outputs")

Kind = Literal["image", "video", "text", "table", "file"]
KINDS: dict[str, Kind] = {"images": "image", "videos": "video", "texts": "text", "tables": "table", "files": "file"}
CARRIERS = (".png", ".mp4")
"""How files end that carry the workflow which made them."""
LETTERS = 2000
"""How much of a workflow's texts is searched."""
REMEMBERED = 50_000
"""Of so many files it is remembered what they carry."""


class Wanted(Query):
    """Which outputs are meant."""

    query: str = ""
    """Words that all occur in a file's name, or in the title or the texts of the workflow that made it."""
    kind: Kind | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    offset: Annotated[int, Field(ge=0)] = 0


class InOutput(Query):
    """Names a file in the output folder."""

    filename: str
    subfolder: str = ""


class Small(Named):
    """A file, and how large its picture is to be."""

    size: Annotated[int, Field(ge=16, le=1024)] = 256
    """Pixels of the longer side."""


class Item(Listed):
    """A file that was saved."""

    kind: Kind
    title: str
    """Of the workflow that made it, if it carries one."""


class Page(Answer):
    """Some of the files that were asked for, and how many there are."""

    items: list[Item]
    total: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What of a file's workflow is shown and searched."""

    title: str = ""
    words: str = ""
    """In small letters."""


@routes.get(f"{OWN}/outputs")
async def outputs(request: web.Request, query: Wanted) -> Page:
    """Search what has been saved, the latest first."""
    return await asyncio.to_thread(page, request.app[SETTINGS].folders, query)


@routes.get(f"{OWN}/outputs/workflow")
async def workflow_of(request: web.Request, query: Named) -> dict[str, JsonValue]:
    """The workflow that a file carries: a PNG or an MP4 that Kinograph saved, or a workflow file."""
    folders = request.app[SETTINGS].folders
    path = await asyncio.to_thread(found, folders, query.filename, query.subfolder, query.type)
    return (await asyncio.to_thread(read, str(path), request.app[REGISTRY])).workflow.document()


@routes.delete(f"{OWN}/outputs", gives="")
async def delete(request: web.Request, query: InOutput) -> web.Response:
    """Delete one file of the output folder."""

    def remove() -> None:
        path = beneath(request.app[SETTINGS].folders.output, query.subfolder, query.filename)
        existing(path, query.filename).unlink()

    await asyncio.to_thread(remove)
    return web.Response(status=204)


@routes.get(f"{OWN}/thumbnail", gives="image/jpeg")
async def thumbnail(request: web.Request, query: Small) -> web.StreamResponse:
    """A small JPEG of a picture, or of a video's first frame."""
    folders = request.app[SETTINGS].folders
    path = await asyncio.to_thread(found, folders, query.filename, query.subfolder, query.type)
    small = await Thumbnails(folders.data / "thumbnails").of(path, query.size)
    return web.FileResponse(small, headers={"Content-Type": "image/jpeg", "Cache-Control": "private, no-cache"})


def page(folders: Folders, wanted: Wanted) -> Page:
    """The files of the output folder that are wanted; what they carry is read only where it is searched or shown."""
    everything = sorted(walk(folders.output), key=lambda file: (file.modified_ns, file.filename), reverse=True)
    matching = list(_matching(everything, wanted))
    shown = matching[wanted.offset : wanted.offset + wanted.limit]
    return Page(items=[_item(file) for file in shown], total=len(matching))


def _matching(files: list[Found], wanted: Wanted) -> Iterator[Found]:
    words = wanted.query.lower().split()
    for file in files:
        if wanted.kind in (None, _kind(file)):
            name = file.filename.lower()
            missing = [word for word in words if word not in name]
            if not missing or all(word in carried(file).words for word in missing):
                yield file


def _kind(file: Found) -> Kind:
    return KINDS[media_type(file.path)]


def _item(file: Found) -> Item:
    return Item(
        filename=file.filename,
        subfolder=file.subfolder,
        type="output",
        size=file.size,
        modified=file.modified,
        kind=_kind(file),
        title=carried(file).title,
    )


_CARRIED: OrderedDict[tuple[Path, int, int], Carried] = OrderedDict()
_READING = Lock()


def carried(file: Found) -> Carried:
    """What a file carries, read once for each time that it changes."""
    if file.path.suffix.lower() not in CARRIERS:
        return Carried()
    key = (file.path, file.modified_ns, file.size)
    if (known := _CARRIED.get(key)) is None:
        with _READING:  # one thread reads, the others find what it has read
            if (known := _CARRIED.get(key)) is None:
                known = _CARRIED[key] = _read(file.path)
                while len(_CARRIED) > REMEMBERED:
                    _CARRIED.popitem(last=False)
    return known


def _read(path: Path) -> Carried:
    try:
        found = tags(path) or {}
        document = from_json(found.get("workflow") or "{}")
        if not document or is_ui(document):  # which doesn't tell what its texts are for
            document = from_json(found.get("prompt") or "{}")
    except (KinographError, OSError, ValueError):  # it carries nothing that can be read, and is there all the same
        return Carried()
    about = [document.get(name) for name in ("title", "description")] if isinstance(document, dict) else [""]
    title, *texts = (text if isinstance(text, str) else "" for text in (*about, *_inputs(document)))
    return Carried(sys.intern(title), sys.intern("\n".join([title, *texts])[:LETTERS].lower()))  # many carry the same


def _inputs(data: Any) -> list[str]:
    """The texts that nodes are given anywhere in a document, the longest first: prompts before names and choices."""
    waiting, texts = [data], list[str]()
    while waiting:
        match waiting.pop():
            case {"class_type": _, "inputs": dict(inputs)}:
                texts += (value for value in inputs.values() if isinstance(value, str))
            case dict(members):
                waiting += members.values()
    return sorted(texts, key=len, reverse=True)
