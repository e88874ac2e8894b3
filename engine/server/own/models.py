"""Models, what is kept between runs, and the machine: what is here, what is missing, and fetching it.

Fetching is done by a process of its own, `kinograph models SOURCE --fetch --json`, whose lines are handed on.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, Literal

import psutil
from aiohttp import web
from pydantic import Field, JsonValue

from engine.errors import MissingError, UsageError, WorkflowError
from engine.graph.confinement import Confinement
from engine.models import can_fetch, find
from engine.models.listing import local_models
from engine.models.sources import is_path
from engine.run.session import open_disk
from engine.server.files.paths import walk
from engine.server.http.routes import OWN, Answer, Body, Query, Routes
from engine.server.http.settings import SETTINGS, Folders, ServerSettings
from engine.server.jobs.checking import prepared
from engine.store.disk import Disk

routes = Routes("models")

TELL: web.AppKey[Callable[[dict[str, Any]], object]] = web.AppKey("tell")
"""Takes what there is to tell of models that are fetched: source, done, total, and path or error at the end."""
DEVICES = web.AppKey("devices", dict[str, dict[str, Any]])
"""The devices of the workers by name, as they have told."""

PROTOCOL = "0.3.64"
"""The version of ComfyUI whose protocol is spoken: some clients go by it."""
AT_ONCE = 2
"""Models that are fetched at a time; others wait."""
MOST_WAITING = 100
ENDING_SECONDS = 10.0
"""How long a process may take to end when it is told to."""


class Sought(Query):
    """Which models are meant."""

    folder: str = ""
    """Only those whose source begins with it, such as `loras` or `hf:`."""


class Model(Answer):
    """A model that is here."""

    source: str
    """What a workflow calls it."""
    path: str
    bytes: int | None = None
    """Of a single file."""


class HasWorkflow(Body):
    """A workflow."""

    workflow: JsonValue
    """A document, or whatever can be read as one."""


class Needed(Answer):
    """A model that a workflow needs."""

    source: str
    here: bool
    nodes: list[tuple[str, str]]
    """The nodes and inputs that name it."""


class HasSource(Body):
    """A model."""

    source: Annotated[str, Field(max_length=1000)]
    """`hf:owner/name[/path][@revision]` or `pypi:package==version/path`."""


class Fetching(Answer):
    """How it stands with a model."""

    source: str
    state: Literal["here", "fetching", "cancelled"]


class HasBytes(Body):
    """A size."""

    bytes: Annotated[int, Field(ge=0)]


class CacheState(Answer):
    """What is kept between runs."""

    folder: str
    results: int
    bytes: int
    budget: int


class Trimmed(CacheState):
    """What is kept after some was removed."""

    removed: int
    removed_bytes: int


class System(Answer):
    """The machine and the programs."""

    os: str
    ram_total: int
    ram_free: int
    kinograph_version: str
    comfyui_version: str = PROTOCOL
    python_version: str
    pytorch_version: str
    embedded_python: bool = False
    argv: tuple[str, ...] = ()


class Stats(Answer):
    """The machine, and what jobs are computed on."""

    system: System
    devices: list[dict[str, JsonValue]]


@dataclass
class Fetches:
    """The models that are being fetched, by source."""

    tell: Callable[[dict[str, Any]], object]
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def start(self, source: str) -> None:
        """Fetch a model, unless that is under way."""
        if source not in self.tasks:
            if len(self.tasks) >= MOST_WAITING:
                raise UsageError(f"{len(self.tasks)} models are waiting to be fetched", hint="wait until some are here")
            task = self.tasks[source] = asyncio.create_task(self._fetch(source))
            task.add_done_callback(lambda _: self.tasks.pop(source))

    async def cancel(self, source: str) -> None:
        """End it, and wait until it has ended."""
        task = self.tasks[source]
        task.cancel()
        await asyncio.wait([task])

    async def _fetch(self, source: str) -> None:
        nothing: dict[str, Any] = {"source": source, "done": 0, "total": 0}
        end = nothing | {"error": "it can't be fetched"}
        try:
            async with self.free:
                async for line in _lines(source):
                    told = nothing | (_told(line) or {})
                    if told.keys() & {"path", "error"}:
                        end = told
                    elif told["done"]:
                        self.tell(told)
        except asyncio.CancelledError:
            end = nothing | {"error": "cancelled"}
            raise
        finally:
            self.tell(end)


FETCHES = web.AppKey("fetches", Fetches)


async def fetching(app: web.Application) -> AsyncIterator[None]:
    """A cleanup context: what is being fetched ends with the application, which must have `TELL` by then."""
    fetches = app[FETCHES] = Fetches(app[TELL])
    yield
    await asyncio.gather(*(fetches.cancel(source) for source in list(fetches.tasks)))


@routes.get(f"{OWN}/models")
async def models(request: web.Request, query: Sought) -> list[Model]:
    """List the models that are here: those in the models' folder, that come with Kinograph, and that were fetched."""
    found = await asyncio.to_thread(_here, request.app[SETTINGS].folders)
    return [model for model in found if model.source.startswith(query.folder)]


@routes.post(f"{OWN}/models/needed")
async def needed(request: web.Request, body: HasWorkflow) -> list[Needed]:
    """List the models that a workflow needs, and which of them are here."""
    app = request.app
    sources = (await prepared(app, body.workflow)).models

    def looked() -> list[Needed]:
        confinement = Confinement(app[SETTINGS].folders.roots)
        return [
            Needed(source=source, here=_is_here(source, confinement), nodes=list(sockets))
            for source, sockets in sources.items()
        ]

    return await asyncio.to_thread(looked)


@routes.post(f"{OWN}/models/fetch")
async def fetch(request: web.Request, body: HasSource) -> Fetching:
    """Fetch a model from the hub or a package index; "model" messages of the WebSocket tell how far it is.

    A model that is being fetched already is not fetched twice.
    """
    if not can_fetch(body.source):
        raise UsageError("only hf:… and pypi:… can be fetched", hint="such as hf:owner/name")
    if await asyncio.to_thread(find, body.source):
        return Fetching(source=body.source, state="here")
    request.app[FETCHES].start(body.source)
    return Fetching(source=body.source, state="fetching")


@routes.post(f"{OWN}/models/cancel")
async def cancel(request: web.Request, body: HasSource) -> Fetching:
    """Cancellation fetching a model; what has come of it is kept for another time."""
    fetches = request.app[FETCHES]
    if body.source not in fetches.tasks:
        raise MissingError("that model is not being fetched")
    await fetches.cancel(body.source)
    return Fetching(source=body.source, state="cancelled")


@routes.get(f"{OWN}/cache")
async def cache(request: web.Request) -> CacheState:
    """Tell what is kept between runs."""
    return await asyncio.to_thread(_kept, request.app[SETTINGS])


@routes.post(f"{OWN}/cache/trim")
async def trim(request: web.Request, body: HasBytes) -> Trimmed:
    """Remove what is worth least until the rest takes so many bytes."""
    return await asyncio.to_thread(_trimmed, request.app[SETTINGS], body.bytes)


@routes.post(f"{OWN}/cache/clear")
async def clear(request: web.Request) -> Trimmed:
    """Remove all that is kept between runs."""
    return await asyncio.to_thread(_trimmed, request.app[SETTINGS], 0)


@routes.get("/system_stats")
async def system_stats(request: web.Request) -> Stats:
    """Tell of the machine, and of the devices that jobs are computed on."""
    return Stats(system=_system(), devices=list(request.app[DEVICES].values()))


def _here(folders: Folders) -> list[Model]:
    own = [
        Model(source=f"{file.subfolder}/{file.filename}".lstrip("/"), path=str(file.path), bytes=file.size)
        for file in walk(folders.models)
        if file.filename.lower().endswith((".safetensors", ".gguf"))
    ]
    others = local_models().items()
    return sorted(own, key=lambda model: model.source) + [
        Model(source=source, path=str(path), bytes=path.stat().st_size if path.is_file() else None)
        for source, path in others
    ]


def _is_here(source: str, confinement: Confinement) -> bool:
    """Whether a model is on this machine; of what lies outside of the server's folders, nothing is told."""
    try:
        if source.strip() and is_path(source):
            return confinement.locate(source, "models").exists()
        return find(source) is not None
    except (MissingError, WorkflowError):
        return False


def _disk(setup: ServerSettings) -> Disk:
    return open_disk(setup.cache.folder, setup.cache.disk)


def _about(disk: Disk) -> dict[str, Any]:
    return {"folder": str(disk.folder), "results": len(disk), "bytes": disk.nbytes, "budget": disk.budget}


def _kept(setup: ServerSettings) -> CacheState:
    return CacheState(**_about(_disk(setup)))


def _trimmed(setup: ServerSettings, budget: int) -> Trimmed:
    disk = _disk(setup)
    files, nbytes = disk.trim(budget)
    return Trimmed(**_about(disk), removed=files, removed_bytes=nbytes)


def _system() -> System:
    memory = psutil.virtual_memory()
    return System(
        os=sys.platform,
        ram_total=memory.total,
        ram_free=memory.available,
        kinograph_version=version("kinograph"),
        python_version=f"{platform.python_version()} ({platform.python_implementation()})",
        pytorch_version=version("torch"),
    )


async def _lines(source: str) -> AsyncIterator[bytes]:
    """What the process says that fetches a model; it ends when this does."""
    command = (sys.executable, "-m", "engine.cli", "models", source, "--fetch", "--json")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 20,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            yield line
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), ENDING_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def _told(line: bytes) -> dict[str, Any] | None:
    """What a line says, as clients are told it."""
    try:
        said: Mapping[str, Any] = json.loads(line)
    except ValueError:  # what a library prints
        return None
    match said.get("event"):
        case "download":
            return {"done": said["done"], "total": said["total"]}
        case "downloaded":
            return {"path": said["path"]}
        case "error":
            problem = said["problems"][0]
            hint = f" ({problem['hint']})" if problem["hint"] else ""
            return {"error": f"{problem['message']}{hint}"}
    return None
