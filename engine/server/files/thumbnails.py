"""Small pictures of files, kept in a folder that stays within a budget."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from engine.atomic import write
from engine.server.files import pictures

BUDGET = 256 << 20
"""Bytes that small pictures take together."""


@dataclass(frozen=True)
class Thumbnails:
    """Makes small pictures, and finds those that it has made."""

    folder: Path
    budget: int = BUDGET

    async def of(self, path: Path, side: int) -> Path:
        """A JPEG of a picture or video, as it is now; raises UsageError if it is neither."""
        kept = await asyncio.to_thread(self._kept, path, side)
        if not await asyncio.to_thread(kept.exists):
            data = await pictures.apart(pictures.thumbnail, path, side)
            await asyncio.to_thread(self._keep, kept, data)
        return kept

    def _kept(self, path: Path, side: int) -> Path:
        stat = path.stat()
        told = f"{path}\0{stat.st_mtime_ns}\0{stat.st_size}\0{side}"
        return self.folder / f"{hashlib.sha256(told.encode()).hexdigest()}.jpg"

    def _keep(self, path: Path, data: bytes) -> None:
        write(path, data)
        if path.name[0] == "0":  # one in sixteen: looking through the folder takes longer than writing
            self.trim()

    def trim(self) -> None:
        """Remove the oldest until the rest keeps within the budget."""
        found = sorted(((stat := path.stat()).st_mtime_ns, stat.st_size, path) for path in self.folder.glob("*.jpg"))
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self.budget:
                break
            path.unlink(missing_ok=True)
            total -= size
