"""The settings that a server was started with; handlers read them from their application."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from aiohttp import web

from engine.models.folders import NO_FOLDERS, ModelFolders, Shelf
from engine.registry import Registry
from engine.run.resources import CacheLimits
from engine.server.http.connections import Patience
from engine.work.hiding import Hiding


@dataclass(frozen=True)
class Folders:
    """The only folders that requests and workflows can reach, and the server's own folder."""

    input: Path
    """Uploads, and other files that workflows read."""
    output: Path
    """Files that workflows save."""
    models: Path
    """The first folder of models."""
    data: Path
    """The queue, settings and saved workflows."""
    given: ModelFolders = NO_FOLDERS
    """All folders of models that it was started with."""

    @property
    def temp(self) -> Path:
        """Previews and the like; emptied when the server starts."""
        return self.data / "temp"

    @property
    def roots(self) -> dict[str, Path]:
        """The folders in which workflows may name files."""
        return {"input": self.input, "output": self.output, "temp": self.temp, "models": self.models}

    @cached_property
    def of_models(self) -> ModelFolders:
        """All folders of models."""
        first = () if self.models in self.given.roots else (Shelf(self.models),)
        return ModelFolders((*first, *self.given.places))

    def make(self) -> None:
        for folder in (*self.roots.values(), self.data):
            folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class ServerSettings:
    """The settings of one server."""

    folders: Folders
    host: str = "127.0.0.1"
    port: int = 8188
    token: str = ""
    """The token that every request must carry; "" if none is required."""
    hosts: tuple[str, ...] = ()
    """Host names that the server accepts, besides its addresses."""
    devices: tuple[str, ...] = ()
    """The devices that compute jobs, one worker process each; if empty, all devices of the machine."""
    nodes: tuple[Path, ...] = ()
    """Python files with further kinds of node."""
    upload_limit: int = 2 << 30
    """Most bytes of an upload."""
    body_limit: int = 32 << 20
    """Most bytes of any other request's body."""
    memory_limit: int | None = None
    """Most bytes of memory that a worker may take; nine tenths of what the server may use if None."""
    stall_seconds: float = 1800.0
    """How long a job may report no progress."""
    patience: Patience = field(default_factory=Patience)
    """How long clients may take to send a request."""
    cache: CacheLimits = field(default_factory=CacheLimits)
    """Where workers keep results, and how large they may become."""

    @cached_property
    def hiding(self) -> Hiding | None:
        """Leaves paths out of errors. None without a token: then all who read them are on this machine."""
        return Hiding(self.folders.roots | {"data": self.folders.data}) if self.token else None

    def shown(self, problems: Any) -> Any:
        """Problems as JSON data, as clients may see them."""
        return self.hiding.data(problems) if self.hiding else problems


SETTINGS = web.AppKey("settings", ServerSettings)
REGISTRY = web.AppKey("registry", Registry)
