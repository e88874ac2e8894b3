"""The gallery of saved files: searched by name, title and prompt, with thumbnails."""

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
from pydantic import Field
from pydantic_core import from_json

from engine.document.formats import is_ui
from engine.document.reading import read
from engine.document.tags import DOCUMENT, DRAWN, GRAPH, tags
from engine.errors import KinographError
from engine.server.comfyui.files import FileQuery, Listed
from engine.server.files.paths import FileEntry, find_file, require_file, resolve_within, walk
from engine.server.files.previews import PREVIEWS
from engine.server.http.limits import check_values
from engine.server.http.routes import OWN, Answer, Query, Routes
from engine.server.http.settings import REGISTRY, SETTINGS, Folders
from engine.server.own.control import Converted, converted
from engine.work.media import media_group

routes = Routes("outputs")

MediaKind = Literal["image", "video", "text", "table", "file"]
KINDS: dict[str, MediaKind] = {
    "images": "image",
    "videos": "video",
    "texts": "text",
    "tables": "table",
    "files": "file",
}
CARRIERS = (".png", ".mp4")
"""The name endings of files that carry the workflow that made them."""
SEARCHED_CHARACTERS = 2000
"""How much of a workflow's texts is searched."""
REMEMBERED = 50_000
"""The number of files whose metadata is kept in memory."""


class OutputsQuery(Query):
    """Which outputs to list."""

    query: str = ""
    """Words that must all occur in a file's name, or in the title or the texts of the workflow that made it."""
    kind: MediaKind | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    offset: Annotated[int, Field(ge=0)] = 0


class OutputFileQuery(Query):
    """Names a file in the output folder."""

    filename: str
    subfolder: str = ""


class ThumbnailQuery(FileQuery):
    """A file, and the size of its thumbnail."""

    size: Annotated[int, Field(ge=16, le=1024)] = 256
    """Pixels of the longer side."""


class Item(Listed):
    """A saved file."""

    kind: MediaKind
    title: str
    """The title of the workflow that made it, if it carries one."""


class Page(Answer):
    """One page of the matching files, and the number of all of them."""

    items: list[Item]
    total: int


@dataclass(frozen=True, slots=True)
class Carried:
    """The parts of a file's workflow that are shown and searched."""

    title: str = ""
    words: str = ""
    """In lower case."""


@routes.get(f"{OWN}/outputs")
async def outputs(request: web.Request, query: OutputsQuery) -> Page:
    """Search the saved files, newest first."""
    return await asyncio.to_thread(page, request.app[SETTINGS].folders, query)


@routes.get(f"{OWN}/outputs/workflow")
async def workflow_of(request: web.Request, query: FileQuery) -> Converted:
    """The workflow in a file, a PNG or MP4 or a workflow file, as a document; what it lacks is told as in `convert`."""
    app = request.app
    path = await asyncio.to_thread(find_file, app[SETTINGS].folders, query.filename, query.subfolder, query.type)
    found = await asyncio.to_thread(read, str(path), app[REGISTRY])
    return converted(found.prepared, found.document(), app)


@routes.delete(f"{OWN}/outputs", gives="")
async def delete(request: web.Request, query: OutputFileQuery) -> web.Response:
    """Delete a file from the output folder."""

    def remove() -> None:
        path = resolve_within(request.app[SETTINGS].folders.output, query.subfolder, query.filename)
        require_file(path, query.filename).unlink()

    await asyncio.to_thread(remove)
    return web.Response(status=204)


@routes.get(f"{OWN}/thumbnail", gives="image/jpeg")
async def thumbnail(request: web.Request, query: ThumbnailQuery) -> web.StreamResponse:
    """A small JPEG of a picture, or of a video's first frame."""
    folders = request.app[SETTINGS].folders
    path = await asyncio.to_thread(find_file, folders, query.filename, query.subfolder, query.type)
    small = await request.app[PREVIEWS].thumbnail(path, query.size)
    return web.FileResponse(small, headers={"Content-Type": "image/jpeg", "Cache-Control": "private, no-cache"})


def page(folders: Folders, query: OutputsQuery) -> Page:
    """A page of the output folder's matching files; their workflows are read only to be searched or shown."""
    everything = sorted(walk(folders.output), key=lambda file: (file.modified_ns, file.filename), reverse=True)
    matching = list(_matching(everything, query))
    shown = matching[query.offset : query.offset + query.limit]
    return Page(items=[_item(file) for file in shown], total=len(matching))


def _matching(files: list[FileEntry], query: OutputsQuery) -> Iterator[FileEntry]:
    words = query.query.lower().split()
    for file in files:
        if query.kind in (None, _kind(file)):
            name = file.filename.lower()
            missing = [word for word in words if word not in name]
            if not missing or all(word in carried(file).words for word in missing):
                yield file


def _kind(file: FileEntry) -> MediaKind:
    return KINDS[media_group(file.path)]


def _item(file: FileEntry) -> Item:
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


def carried(file: FileEntry) -> Carried:
    """The searchable parts of the workflow in a file, read again only when the file has changed."""
    if file.path.suffix.lower() not in CARRIERS:
        return Carried()
    key = (file.path, file.modified_ns, file.size)
    if (known := _CARRIED.get(key)) is None:
        with _READING:  # one thread reads, the others use its result
            if (known := _CARRIED.get(key)) is None:
                known = _CARRIED[key] = _read(file.path)
                while len(_CARRIED) > REMEMBERED:
                    _CARRIED.popitem(last=False)
    return known


def _read(path: Path) -> Carried:
    try:
        carried_tags = tags(path) or {}
        for text in carried_tags.values():
            check_values(text)
        document = from_json(carried_tags.get(DOCUMENT) or carried_tags.get(DRAWN) or "{}")
        if not document or is_ui(document):  # the UI format doesn't say which inputs its texts belong to
            document = from_json(carried_tags.get(GRAPH) or "{}")
    except (KinographError, OSError, ValueError):  # it carries nothing readable, and is listed all the same
        return Carried()
    about = [document.get(name) for name in ("title", "description")] if isinstance(document, dict) else [""]
    title, *texts = (text if isinstance(text, str) else "" for text in (*about, *_inputs(document)))
    words = "\n".join([title, *texts])[:SEARCHED_CHARACTERS].lower()
    return Carried(sys.intern(title), sys.intern(words))  # many files carry the same


def _inputs(data: Any) -> list[str]:
    """All texts that are inputs of nodes in a document, longest first: prompts before names and choices."""
    pending, texts = [data], list[str]()
    while pending:
        match pending.pop():
            case {"class_type": _, "inputs": dict(inputs)}:
                texts += (value for value in inputs.values() if isinstance(value, str))
            case dict(members):
                pending += members.values()
    return sorted(texts, key=len, reverse=True)
