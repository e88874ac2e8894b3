"""Files that jobs have saved, read from the server and stored safely, whatever their names."""

from __future__ import annotations

import asyncio
import filecmp
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from engine import atomic
from engine.client.answers import Media, Place
from engine.client.connection import Connection
from engine.errors import ServerError, UsageError


@dataclass(frozen=True, slots=True)
class AsyncFile:
    """A file that a job has saved."""

    node: str
    """The node that saved it."""
    place: Place
    connection: Connection = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The server's name for it, which may be anything: `download` checks it."""
        return self.place.name

    @property
    def subfolder(self) -> str:
        return self.place.subfolder

    @property
    def type(self) -> str:
        """The server's folder: "output", or "temp" for previews."""
        return self.place.type

    @property
    def media(self) -> Media:
        """What kind of content it has: "image", "video", "text", "table" or "file"."""
        return self.place.media

    async def read(self) -> bytes:
        """Its content."""
        return b"".join([chunk async for chunk in self._chunks()])

    async def download(self, folder: str | os.PathLike[str] = ".") -> Path:
        """Save it in a folder, which is created if it doesn't exist; returns its path.

        Nothing is overwritten: if the name is taken, it is saved as `name (1).png`. An existing file with the same
        content is used instead.

        Raises:
            ServerError: the server's name for it leads out of the folder, or would be hidden in it.
            UsageError: it can't be written.
        """
        name, kept = safe_name(self.name), Path(folder).expanduser()
        try:
            with atomic.unfinished(kept) as part:
                with part.open("xb") as file:
                    async for chunk in self._chunks():
                        await asyncio.to_thread(file.write, chunk)
                return await asyncio.to_thread(_placed, part, kept / name)
        except OSError as error:
            raise UsageError(f"'{name}' can't be saved in {kept}: {error.strerror or error}") from error

    async def _chunks(self) -> AsyncIterator[bytes]:
        where = {"filename": self.name, "subfolder": self.subfolder, "type": self.type}
        async with self.connection.answer("GET", "view", query=where) as response:
            async for chunk in self.connection.chunks(response):
                yield chunk


def safe_name(name: str) -> str:
    """The name, if it is a bare file name on every system; else raises ServerError."""
    is_bare = all(path.name == name for path in (PurePosixPath(name), PureWindowsPath(name)))
    if name and is_bare and name.isprintable() and not name.startswith("."):
        return name
    raise ServerError(
        f"the server calls a file {name!r}, which can't be the name of a file here",
        hint="`read()` gives what is in it",
    )


def _placed(file: Path, target: Path) -> Path:
    """Give a file the first free name of `name.png`, `name (1).png`…, unless one of them has the same content."""
    number, path = 0, target
    while True:
        try:
            atomic.rename_noreplace(file, path)
        except FileExistsError:
            if path.is_file() and not path.is_symlink() and filecmp.cmp(file, path, shallow=False):
                return path
            number += 1
            path = target.with_stem(f"{target.stem} ({number})")
        else:
            return path
