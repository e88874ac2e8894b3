"""Previews of files, each made once and kept in a folder within a budget."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal

from aiohttp import web

from engine.atomic import finish, unfinished
from engine.server.files.decoding import Decoder
from engine.server.http.settings import SETTINGS

BUDGET = 256 << 20
"""Bytes of all previews together."""
BLOCK = 4096
"""The least bytes that a file counts as, so that there can't be any number of small ones."""


@dataclass
class Previews:
    """Makes previews of pictures and videos in their current state, and reuses those it has made.

    The methods return the path of a preview; they raise UsageError if the file has none.
    """

    folder: Path
    decoder: Decoder
    budget: int = BUDGET
    _making: dict[str, asyncio.Task[Path]] = field(default_factory=dict)
    """By the name of the preview, so that several requests make it once."""
    _taken: int | None = None
    """Bytes of all previews together; None if not yet counted."""
    _counting: Lock = field(default_factory=Lock)

    async def thumbnail(self, path: Path, side: int) -> Path:
        """A JPEG within a square of `side` pixels."""
        return await self._kept(path, ".jpg", "thumbnail", side)

    async def encoded(self, path: Path, format: Literal["webp", "jpeg"], quality: int) -> Path:
        """A picture, upright, in another format."""
        return await self._kept(path, f".{format}", "encode", format, quality)

    async def channel(self, path: Path, name: Literal["rgb", "a"]) -> Path:
        """A picture's colours or opacity alone, as a PNG."""
        return await self._kept(path, ".png", "channel", name)

    async def close(self) -> None:
        """End what is being made."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self.decoder.close()

    def sweep(self) -> None:
        """Remove what a server that was killed left unfinished."""
        for path in self.folder.glob(".*.part"):
            path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove the previews that were not used for longest until the rest fit the budget; the last used one stays."""
        files = sorted(((stat := path.stat()).st_atime_ns, _size(stat), path) for path in self.folder.glob("[!.]*"))
        total = sum(size for _, size, _ in files)
        for _, size, path in files[:-1]:
            if total <= self.budget:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._taken = total

    async def _kept(self, path: Path, suffix: str, call: str, *options: str | int) -> Path:
        kept = await asyncio.to_thread(self._location, path, suffix, call, *options)
        if await asyncio.to_thread(_used, kept):
            return kept
        if (making := self._making.get(kept.name)) is None:
            making = self._making[kept.name] = asyncio.create_task(self._make(path, kept, call, options))
            making.add_done_callback(lambda _: self._making.pop(kept.name))
        return await asyncio.shield(making)

    def _location(self, path: Path, suffix: str, *made: str | int) -> Path:
        stat = path.stat()
        key = "\0".join(map(str, (path, stat.st_mtime_ns, stat.st_size, *made)))
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}{suffix}"

    async def _make(self, path: Path, kept: Path, call: str, options: tuple[str | int, ...]) -> Path:
        with unfinished(self.folder) as part:
            await self.decoder.run(call, path, part, options=options)
            await asyncio.to_thread(self._keep, part, kept)
        return kept

    def _keep(self, part: Path, kept: Path) -> None:
        with self._counting:
            size = _size(part.stat())
            finish(part, kept)
            self._taken = None if self._taken is None else self._taken + size
            if self._taken is None or self._taken > self.budget:
                self.trim()


def _size(stat: os.stat_result) -> int:
    return max(stat.st_size, BLOCK)


def _used(kept: Path) -> bool:
    """Whether a preview exists; notes that it was used, in the file's time of access, as mounts may not do so."""
    try:
        os.utime(kept, ns=(time.time_ns(), kept.stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


UPLOADS = web.AppKey("uploads", Decoder)
"""Checks what is uploaded, in a queue of its own."""
PREVIEWS = web.AppKey("previews", Previews)


async def decoding(app: web.Application) -> AsyncIterator[None]:
    """A cleanup context with what decodes uploads and previews."""
    app[UPLOADS] = Decoder()
    previews = app[PREVIEWS] = Previews(app[SETTINGS].folders.data / "thumbnails", Decoder())
    await asyncio.to_thread(previews.sweep)
    yield
    await asyncio.gather(app[UPLOADS].close(), previews.close())
