"""Files over HTTP: served as nothing that a browser would run, and uploaded only as what they say they are."""

from __future__ import annotations

import asyncio
import errno
import filecmp
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage
from pydantic import Field
from pydantic_core import from_json

from engine.atomic import rename_noreplace, unfinished
from engine.errors import MissingError, UsageError
from engine.server.files import pictures
from engine.server.files.paths import Root, beneath, existing, found, located, walk
from engine.server.http.routes import OWN, Answer, Body, Query, Routes
from engine.server.http.settings import SETTINGS, Folders
from engine.work.media import location_of

routes = Routes("files")

SHOWN = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".csv": "text/plain; charset=utf-8",
    ".json": "application/json",
}
"""What a browser may show, by the ending of its name; all else is handed over to be saved."""

HEADER_LIMIT = 8 << 20
"""Bytes of a safetensors header that are read."""
FIELD_LIMIT = 64 << 10
"""Bytes of a field of a form."""
MOST_FIELDS = 16
CHUNK = 256 << 10
ABANDONED_SECONDS = 24 * 3600
"""An unfinished upload of this age is of a server that was killed."""


class File(Answer):
    """Where a file is, as the protocol has it."""

    filename: str
    subfolder: str
    type: str


class Listed(File):
    """A file, and what is known of it without opening it."""

    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""


class Named(Query):
    """Names a file."""

    filename: str
    """May end in a folder's name, `snail.png [input]`, which goes before `type`."""
    subfolder: str = ""
    type: Root = "output"


class Viewed(Named):
    """A file, and how to show it."""

    preview: Annotated[str, Field(pattern=r"^(webp|jpeg)(;[1-9][0-9]?|;100)?$")] | None = None
    """A picture in another format and quality, such as `webp;90`."""
    channel: Literal["rgb", "a", "rgba"] = "rgba"
    """Its colours alone, or its opacity alone."""


class HasMetadata(Query):
    """Names a file of weights."""

    filename: str


class Picked(Query):
    """Which folder is meant."""

    type: Literal["input", "output"] = "input"


class ImageForm(Body):
    """A picture or video to be kept."""

    image: bytes
    """A file whose name ends as its content asks for."""
    type: Root = "input"
    subfolder: str = ""
    overwrite: bool = False
    """Put it in the place of a file of this name; else it gets a number if another has its name."""


class MaskForm(ImageForm):
    """A picture whose opacity another is given."""

    original_ref: str
    """JSON: the `filename`, `subfolder` and `type` of the picture that is masked."""


class Uploaded(Answer):
    """Where the file is now."""

    name: str
    subfolder: str
    type: str


class Original(Body):
    """The picture that a mask is for."""

    filename: str
    subfolder: str = ""
    type: Root = "output"


@routes.get("/view", gives="*/*")
async def view(request: web.Request, query: Viewed) -> web.StreamResponse:
    """Serve a file of the output, input or temp folder, in parts if asked to; pictures also smaller, or by channel.

    What a browser would run (HTML, SVG, scripts) and what isn't known is served as a file to be saved.
    """
    folders = request.app[SETTINGS].folders
    path = await asyncio.to_thread(found, folders, query.filename, query.subfolder, query.type)
    if query.preview:
        wanted, _, quality = query.preview.partition(";")
        data = await pictures.apart(pictures.encoded, path, wanted, int(quality or 90))
        return web.Response(body=data, headers=headers_of(path.with_suffix(f".{wanted}")))
    if query.channel != "rgba":
        data = await pictures.apart(pictures.channel, path, query.channel)
        return web.Response(body=data, headers=headers_of(path.with_suffix(".png")))
    return web.FileResponse(path, headers=headers_of(path))


@routes.get("/view_metadata/{folder}")
async def view_metadata(request: web.Request, folder: str, query: HasMetadata) -> dict[str, Any]:
    """Tell the metadata in the header of a safetensors file below a folder of the models'."""
    return await asyncio.to_thread(_metadata, request.app[SETTINGS].folders.models, folder, query.filename)


@routes.post("/upload/image", form=ImageForm)
async def upload_image(request: web.Request) -> Uploaded:
    """Keep a picture or a video, if it is one; never in another's place unless `overwrite` says so.

    A file of the same content and name is not kept twice.
    """
    async with received(request) as upload:
        await pictures.apart(pictures.check, upload.file, upload.suffix)
        return await asyncio.to_thread(upload.keep, upload.file)


@routes.post("/upload/mask", form=MaskForm)
async def upload_mask(request: web.Request) -> Uploaded:
    """Keep a picture (PNG) that is another with the opacity of the one sent."""
    async with received(request) as upload:
        original = Original.model_validate(_json(upload.fields.get("original_ref", "")))
        if upload.suffix != ".png":
            raise UsageError("a masked picture is kept as PNG", hint="give it a name that ends in .png")
        source = await asyncio.to_thread(found, upload.folders, original.filename, original.subfolder, original.type)
        composed = upload.file.with_suffix(".masked")
        try:
            await pictures.apart(pictures.masked, source, upload.file, composed)
            return await asyncio.to_thread(upload.keep, composed)
        finally:
            composed.unlink(missing_ok=True)


@routes.get(f"{OWN}/files")
async def files(request: web.Request, query: Picked) -> list[Listed]:
    """List what is in the input or the output folder, the latest first, to pick from."""
    folders = request.app[SETTINGS].folders
    return await asyncio.to_thread(listed, folders.input if query.type == "input" else folders.output, query.type)


def listed(root: Path, type: str) -> list[Listed]:
    """The files below a folder, the latest first."""
    everything = sorted(walk(root), key=lambda file: file.modified_ns, reverse=True)
    return [
        Listed(filename=file.filename, subfolder=file.subfolder, type=type, size=file.size, modified=file.modified)
        for file in everything
    ]


def headers_of(path: Path, *, save: bool = False) -> dict[str, str]:
    """The headers with which a file is served; `save` it, or let a browser show it if that is safe."""
    shown = SHOWN.get(path.suffix.lower())
    how = "inline" if shown and not save else "attachment"
    return {
        "Content-Type": shown or "application/octet-stream",
        "Content-Disposition": f"{how}; filename*=UTF-8''{quote(path.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _metadata(models: Path, folder: str, filename: str) -> dict[str, Any]:
    path = existing(beneath(models, folder, filename), filename)
    if path.suffix.lower() != ".safetensors":
        raise UsageError("only safetensors files tell their metadata")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > HEADER_LIMIT:
            raise UsageError(f"the header of {filename} is too large, or this is no safetensors file")
        header = _json(file.read(size))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise MissingError(f"{filename} has no metadata")
    return metadata


def _json(text: str | bytes) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(f"that is not JSON: {error}") from None


@dataclass
class _Upload:
    """A form that was sent: its file, by now beside the inputs and hidden, and its fields."""

    folders: Folders
    file: Path
    name: str
    fields: dict[str, str]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix.lower()

    def keep(self, file: Path) -> Uploaded:
        """Give a file the name that was asked for, or that with a number; not if it is there with this content."""
        kind = self.fields.get("type") or "input"
        target = located(self.folders, self.name, self.fields.get("subfolder", ""), kind)
        overwrite = self.fields.get("overwrite", "").lower() in ("true", "1")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = _moved(file, target) if overwrite else _added(file, target)
        except OSError as error:
            raise UsageError(f"'{self.name}' can't be kept: {error.strerror}") from error
        place = location_of(kept, {kind: Path(os.path.realpath(self.folders.roots[kind]))})
        return Uploaded(name=place["filename"], subfolder=place["subfolder"], type=kind)


def _moved(file: Path, target: Path) -> Path:
    """In the place of whatever file is there."""
    with _beside(file, target) as near:
        return near.replace(target)


def _added(file: Path, target: Path) -> Path:
    """Under the first free name of `name.png`, `name (1).png` and so on, or where this content is already."""
    number, path = 0, target
    with _beside(file, target) as near:
        while True:
            try:
                rename_noreplace(near, path)
            except FileExistsError:
                if path.is_file() and filecmp.cmp(near, path, shallow=False):
                    return path
                number += 1
                path = target.with_stem(f"{target.stem} ({number})")
            else:
                return path


@contextmanager
def _beside(file: Path, target: Path) -> Iterator[Path]:
    """A file moved beside another, from wherever it was, and hidden; gone when this is left."""
    with unfinished(target.parent) as near:
        try:
            file.replace(near)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(file, near)
        yield near


@asynccontextmanager
async def received(request: web.Request, part: str = "image") -> AsyncIterator[_Upload]:
    """A form with a file under the name `part`, which is written to disk as it comes, and gone when this is left.

    Raises:
        UsageError: it isn't such a form.
        HTTPRequestEntityTooLarge: it is larger than uploads may be.
    """
    setup = request.app[SETTINGS]
    if not request.content_type.startswith("multipart/"):
        raise UsageError("files are sent as a form", hint="Content-Type: multipart/form-data")
    if (length := request.content_length or 0) > setup.upload_limit + MOST_FIELDS * FIELD_LIMIT:
        raise web.HTTPRequestEntityTooLarge(setup.upload_limit, length)
    waiting = setup.folders.input / ".unfinished"
    await asyncio.to_thread(_emptied, waiting)
    upload = _Upload(setup.folders, waiting / f"{uuid.uuid4().hex}.part", "", {})
    try:
        try:
            await _read_form(request, part, upload, setup.upload_limit)
        except (ValueError, BadHttpMessage) as error:
            raise UsageError(f"the form can't be read: {error}") from error
        yield upload
    finally:
        upload.file.unlink(missing_ok=True)


async def _read_form(request: web.Request, wanted: str, upload: _Upload, limit: int) -> None:
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or len(upload.fields) == MOST_FIELDS:
            raise UsageError("this form is not one that uploads have")
        if part.name == wanted and part.filename and not upload.name:
            upload.name = part.filename
            await _write(part, upload.file, limit)
        elif part.name:
            upload.fields[part.name] = await _text(part)
    if not upload.name or not upload.file.stat().st_size:
        raise UsageError("no file was sent", hint=f"it is the part '{wanted}' of the form, and has a filename")


def _emptied(folder: Path) -> None:
    """Make the folder, without what was left there long ago."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another upload that has come to its end meanwhile
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()


async def _write(part: BodyPartReader, path: Path, limit: int) -> None:
    size = 0
    with path.open("wb") as file:
        while chunk := await part.read_chunk(CHUNK):
            size += len(chunk)
            if size > limit:
                raise web.HTTPRequestEntityTooLarge(limit, size)
            await asyncio.to_thread(file.write, chunk)


async def _text(part: BodyPartReader) -> str:
    data = b""
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > FIELD_LIMIT:
            raise web.HTTPRequestEntityTooLarge(FIELD_LIMIT, len(data))
    return data.decode()
