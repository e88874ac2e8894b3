"""Files that jobs have saved, read from the server and kept where they can do no harm, whatever they are called."""

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
        """As the server calls it, which may be anything: `download` makes sure of it."""
        return self.place.name

    @property
    def subfolder(self) -> str:
        return self.place.subfolder

    @property
    def type(self) -> str:
        """The server's folder: "output", or "temp" for what is only for looking at."""
        return self.place.type

    @property
    def media(self) -> Media:
        """What people see in it: "image", "video", "text", "table" or "file"."""
        return self.place.media

    async def read(self) -> bytes:
        """What is in it."""
        return b"".join([chunk async for chunk in self._chunks()])

    async def download(self, folder: str | os.PathLike[str] = ".") -> Path:
        """Save it in a folder, which is made if it isn't there; returns where it is.

        Nothing is written over: if something else has its name, it is called `name (1).png`. A file with the same
        content is taken for this one.

        Raises:
            ServerError: the server gives it a name that leads out of the folder, or is hidden in it.
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
    """A file's name if it is no more than that on any system; raises ServerError."""
    is_bare = all(path.name == name for path in (PurePosixPath(name), PureWindowsPath(name)))
    if name and is_bare and name.isprintable() and not name.startswith("."):
        return name
    raise ServerError(
        f"the server calls a file {name!r}, which can't be the name of a file here",
        hint="`read()` gives what is in it",
    )


def _placed(file: Path, target: Path) -> Path:
    """Give a file the first free name of `name.png`, `name (1).png` and so on, unless its content is there already."""
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
