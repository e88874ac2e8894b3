"""What the server was started with; the handlers find it in their application."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from engine.registry import Registry
from engine.run.session import CacheLimits


@dataclass(frozen=True)
class Folders:
    """The only folders that requests and workflows can reach, and the server's own."""

    input: Path
    """What people upload, and what workflows read."""
    output: Path
    """What workflows save."""
    models: Path
    data: Path
    """The queue, settings and saved workflows."""

    @property
    def temp(self) -> Path:
        """What is only for looking at; emptied when the server starts."""
        return self.data / "temp"

    @property
    def roots(self) -> dict[str, Path]:
        """Those that workflows may name files in."""
        return {"input": self.input, "output": self.output, "temp": self.temp, "models": self.models}

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
    """What every request must show; "" asks for none."""
    hosts: tuple[str, ...] = ()
    """Names that the server is known by, beside its addresses."""
    devices: tuple[str, ...] = ()
    """Where jobs are computed, a worker process for each; all that there are if it is empty."""
    nodes: tuple[Path, ...] = ()
    """Python files whose kinds of node are offered too."""
    upload_limit: int = 2 << 30
    """Bytes of an upload."""
    body_limit: int = 32 << 20
    """Bytes of any other request's body."""
    memory_limit: int | None = None
    """Bytes that a worker may take; nine tenths of the machine's if None."""
    stall_seconds: float = 1800.0
    """How long a job may give no sign of progress."""
    cache: CacheLimits = field(default_factory=CacheLimits)
    """Where workers keep results, and what these may take."""


SETTINGS = web.AppKey("settings", ServerSettings)
REGISTRY = web.AppKey("registry", Registry)
