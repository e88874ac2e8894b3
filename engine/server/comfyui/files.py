"""Files over HTTP: never served as anything a browser would run, and accepted only if the content fits the name."""

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

from engine.atomic import naming, rename_noreplace, unfinished
from engine.errors import MissingError, UsageError
from engine.graph.confinement import Confinement
from engine.server.files.paths import Root, find_file, locate, require_file, resolve_within, walk
from engine.server.files.previews import PREVIEWS, UPLOADS
from engine.server.files.texts import TEXTS, check_text
from engine.server.http.routes import OWN, Answer, Body, Query, Routes
from engine.server.http.settings import SETTINGS, Folders
from engine.work.media import location_of

routes = Routes("files")

SHOWN = {
    ".png": "image/png",
    ".apng": "image/apng",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jfif": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
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
"""What a browser may show, by file name ending; everything else is sent as a download."""

HEADER_LIMIT = 8 << 20
"""Most bytes of a safetensors header that are read."""
FIELD_LIMIT = 64 << 10
"""Most bytes of a form field."""
MOST_FIELDS = 16
CHUNK = 256 << 10
ABANDONED_SECONDS = 24 * 3600
"""An unfinished upload of this age was left by a server that was killed."""


class File(Answer):
    """Where a file is, in the protocol's terms."""

    filename: str
    subfolder: str
    type: str


class Listed(File):
    """A file, with its size and time."""

    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""


class FileQuery(Query):
    """Names a file."""

    filename: str
    """May end in a folder's name, `snail.png [input]`, which takes precedence over `type`."""
    subfolder: str = ""
    type: Root = "output"


class ViewQuery(FileQuery):
    """A file, and how to show it."""

    preview: Annotated[str, Field(pattern=r"^(webp|jpeg)(;[1-9][0-9]?|;100)?$")] | None = None
    """Convert a picture to this format and quality, such as `webp;90`."""
    channel: Literal["rgb", "a", "rgba"] = "rgba"
    """Only the colours, or only the opacity, of a picture."""


class MetadataQuery(Query):
    """Names a file of weights."""

    filename: str


class FolderQuery(Query):
    """Names a folder."""

    type: Literal["input", "output"] = "input"


class ImageForm(Body):
    """A picture, video or text to be stored."""

    image: bytes
    """The file, with a name whose ending fits its content."""
    type: Root = "input"
    subfolder: str = ""
    overwrite: bool = False
    """Replace an existing file of this name; otherwise the new one gets a number."""


class MaskForm(ImageForm):
    """A picture whose opacity is to become that of another one."""

    original_ref: str
    """JSON: the `filename`, `subfolder` and `type` of the other picture."""


class Uploaded(Answer):
    """Where the uploaded file is."""

    name: str
    subfolder: str
    type: str


class Original(Body):
    """The picture that a mask is applied to."""

    filename: str
    subfolder: str = ""
    type: Root = "output"


@routes.get("/view", gives="*/*")
async def view(request: web.Request, query: ViewQuery) -> web.StreamResponse:
    """Serve a file of the output, input or temp folder, with range requests; a picture also compressed, or by channel.

    What a browser would run (HTML, SVG, scripts), and unknown types, are served as downloads.
    """
    folders = request.app[SETTINGS].folders
    path = await asyncio.to_thread(find_file, folders, query.filename, query.subfolder, query.type)
    if query.preview:
        name, _, quality = query.preview.partition(";")
        made = await request.app[PREVIEWS].encoded(path, "webp" if name == "webp" else "jpeg", int(quality or 90))
        return web.FileResponse(made, headers=headers_of(path.with_suffix(made.suffix)))
    if query.channel != "rgba":
        made = await request.app[PREVIEWS].channel(path, query.channel)
        return web.FileResponse(made, headers=headers_of(path.with_suffix(made.suffix)))
    return web.FileResponse(path, headers=headers_of(path))


@routes.get("/view_metadata/{folder}")
async def view_metadata(request: web.Request, folder: str, query: MetadataQuery) -> dict[str, Any]:
    """The metadata in the header of a safetensors file of a category of models."""
    return await asyncio.to_thread(_metadata, request.app[SETTINGS].folders, folder, query.filename)


@routes.post("/upload/image", form=ImageForm)
async def upload_image(request: web.Request) -> Uploaded:
    """Store a picture, video or text, after checking that it is one; only `overwrite` replaces an existing file.

    A file with the same name and content is not stored twice.
    """
    async with received(request) as upload:
        if upload.suffix in TEXTS:
            await asyncio.to_thread(check_text, upload.file)
        else:
            await request.app[UPLOADS].run("check", upload.file, options=(upload.suffix,))
        return await asyncio.to_thread(upload.keep, upload.file)


@routes.post("/upload/mask", form=MaskForm)
async def upload_mask(request: web.Request) -> Uploaded:
    """Store a picture (PNG) made of an existing one and the opacity of the one uploaded."""
    async with received(request) as upload:
        original = Original.model_validate(_json(upload.fields.get("original_ref", "")))
        if upload.suffix != ".png":
            raise UsageError("a masked picture is stored as PNG", hint="give it a name that ends in .png")
        source = await asyncio.to_thread(
            find_file, upload.folders, original.filename, original.subfolder, original.type
        )
        composed = upload.file.with_suffix(".masked")
        try:
            await request.app[UPLOADS].run("mask", source, upload.file, composed)
            return await asyncio.to_thread(upload.keep, composed)
        finally:
            composed.unlink(missing_ok=True)


@routes.get(f"{OWN}/files")
async def files(request: web.Request, query: FolderQuery) -> list[Listed]:
    """List the files in the input or output folder, newest first."""
    folders = request.app[SETTINGS].folders
    return await asyncio.to_thread(listed, folders.input if query.type == "input" else folders.output, query.type)


def listed(root: Path, type: str) -> list[Listed]:
    """The files below a folder, newest first."""
    everything = sorted(walk(root), key=lambda file: file.modified_ns, reverse=True)
    return [
        Listed(filename=file.filename, subfolder=file.subfolder, type=type, size=file.size, modified=file.modified)
        for file in everything
    ]


def headers_of(path: Path, *, save: bool = False) -> dict[str, str]:
    """The headers of a served file: a download (`save`), or shown by the browser if that is safe."""
    shown = SHOWN.get(path.suffix.lower())
    disposition = "inline" if shown and not save else "attachment"
    return {
        "Content-Type": shown or "application/octet-stream",
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(path.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _metadata(folders: Folders, folder: str, filename: str) -> dict[str, Any]:
    resolve_within(folders.models, folder, filename)  # so that other names are refused in the same words
    confinement = Confinement(folders.roots, folders.of_models)
    path = require_file(confinement.model(f"{folder}/{filename}"), filename)
    if path.suffix.lower() != ".safetensors":
        raise UsageError(f"the metadata of {filename} can't be read", hint="name a safetensors file")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > HEADER_LIMIT:
            raise UsageError(f"the header of {filename} is too large, or it is not a safetensors file")
        header = _json(file.read(size))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise MissingError(f"{filename} has no metadata")
    return metadata


def _json(text: str | bytes) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(f"this is not JSON: {error}") from None


@dataclass
class _Upload:
    """An uploaded form: its fields, and its file, in a hidden folder until it is kept."""

    folders: Folders
    file: Path
    name: str
    fields: dict[str, str]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix.lower()

    def keep(self, file: Path) -> Uploaded:
        """Move a file to the requested name, or to that with a number; a file with the same content is reused."""
        kind = self.fields.get("type") or "input"
        target = locate(self.folders, self.name, self.fields.get("subfolder", ""), kind)
        overwrite = self.fields.get("overwrite", "").lower() in ("true", "1")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = _replace(file, target) if overwrite else _add(file, target)
        except OSError as error:
            raise UsageError(f"'{self.name}' can't be stored: {error.strerror}") from error
        location = location_of(kept, {kind: Path(os.path.realpath(self.folders.roots[kind]))})
        return Uploaded(name=location["filename"], subfolder=location["subfolder"], type=kind)


def _replace(file: Path, target: Path) -> Path:
    """Move a file to a path, replacing any file there."""
    with _moved_beside(file, target) as moved:
        return moved.replace(target)


def _add(file: Path, target: Path) -> Path:
    """Move a file to the first free of `name.png`, `name (1).png`…, unless one of these has its content already."""
    number, path = 0, target
    with _moved_beside(file, target) as moved:
        while True:
            try:
                rename_noreplace(moved, path)
            except FileExistsError:
                if path.is_file() and filecmp.cmp(moved, path, shallow=False):
                    return path
                number += 1
                path = target.with_stem(f"{target.stem} ({number})")
            else:
                return path


@contextmanager
def _moved_beside(file: Path, target: Path) -> Iterator[Path]:
    """Move a file, under a hidden name, into the target's folder, possibly on another disk; removed on exit."""
    with unfinished(target.parent) as moved:
        try:
            file.replace(moved)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(file, moved)
        yield moved


@asynccontextmanager
async def received(request: web.Request, part: str = "image") -> AsyncIterator[_Upload]:
    """A form whose part `part` is a file; it is streamed to disk, and removed on exit.

    Raises:
        UsageError: the request is no such form.
        HTTPRequestEntityTooLarge: it exceeds the limit for uploads.
    """
    settings = request.app[SETTINGS]
    if not request.content_type.startswith("multipart/"):
        raise UsageError("files must be sent as a form", hint="use Content-Type: multipart/form-data")
    if (length := request.content_length or 0) > settings.upload_limit + MOST_FIELDS * FIELD_LIMIT:
        raise web.HTTPRequestEntityTooLarge(settings.upload_limit, length)
    incoming = settings.folders.input / ".unfinished"
    await asyncio.to_thread(_prepare_incoming, incoming)
    upload = _Upload(settings.folders, incoming / f"{uuid.uuid4().hex}.part", "", {})
    try:
        try:
            await _read_form(request, part, upload, settings.upload_limit)
        except (ValueError, BadHttpMessage) as error:
            raise UsageError(f"the form can't be read: {error}") from error
        yield upload
    finally:
        upload.file.unlink(missing_ok=True)


async def _read_form(request: web.Request, file_part: str, upload: _Upload, limit: int) -> None:
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or len(upload.fields) == MOST_FIELDS:
            hint = f"send the file and fewer than {MOST_FIELDS} other fields"
            raise UsageError("the form is nested, or has too many fields", hint=hint)
        if part.name == file_part and part.filename and not upload.name:
            upload.name = part.filename
            with naming(Path(part.filename)):
                await _write(part, upload.file, limit)
        elif part.name:
            upload.fields[part.name] = await _text(part)
    if not upload.name or not upload.file.stat().st_size:
        raise UsageError("no file was sent", hint=f"send it as the part '{file_part}' of the form, with a filename")


def _prepare_incoming(folder: Path) -> None:
    """Create the folder for unfinished uploads, and remove abandoned ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another upload has finished meanwhile
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
