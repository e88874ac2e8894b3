"""Thumbnails of files, kept in a folder within a budget."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from engine.atomic import write
from engine.server.files import pictures

BUDGET = 256 << 20
"""Bytes of all thumbnails together."""


@dataclass(frozen=True)
class Thumbnails:
    """Makes thumbnails, and reuses those it has made."""

    folder: Path
    budget: int = BUDGET

    async def of(self, path: Path, side: int) -> Path:
        """The path of a JPEG of a picture or video, in its current state; raises UsageError if it is neither."""
        kept = await asyncio.to_thread(self._location, path, side)
        if not await asyncio.to_thread(kept.exists):
            data = await pictures.in_thread(pictures.thumbnail, path, side)
            await asyncio.to_thread(self._keep, kept, data)
        return kept

    def _location(self, path: Path, side: int) -> Path:
        stat = path.stat()
        key = f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}\0{side}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.jpg"

    def _keep(self, path: Path, data: bytes) -> None:
        write(path, data)
        if path.name[0] == "0":  # one in sixteen: listing the folder takes longer than writing
            self.trim()

    def trim(self) -> None:
        """Remove the oldest thumbnails until the rest fit the budget."""
        kept = sorted(((stat := path.stat()).st_mtime_ns, stat.st_size, path) for path in self.folder.glob("*.jpg"))
        total = sum(size for _, size, _ in kept)
        for _, size, path in kept:
            if total <= self.budget:
                break
            path.unlink(missing_ok=True)
            total -= size
