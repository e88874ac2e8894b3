"""Routes for models (those on this machine, those a workflow needs, fetching them), the cache, and the machine.

A model is fetched by a separate process, `kinograph models SOURCE --fetch --json`, whose output is forwarded.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field, JsonValue

from engine.errors import MissingError, UsageError, WorkflowError
from engine.graph.confinement import Confinement
from engine.memory import memory
from engine.models import can_fetch, find
from engine.models.listing import available
from engine.models.sources import is_path
from engine.python import command, environment
from engine.run import devices
from engine.run.devices import Device
from engine.run.resources import open_disk
from engine.server.http.routes import OWN, Answer, Body, Query, Routes
from engine.server.http.settings import SETTINGS, Folders, ServerSettings
from engine.server.jobs.checking import prepared
from engine.store.disk import Disk

routes = Routes("models")

NOTIFY: web.AppKey[Callable[[dict[str, Any]], object]] = web.AppKey("notify")
"""Sends clients the progress of a fetch: source, done, total, and path or error at the end."""
DEVICES = web.AppKey("devices", dict[str, Device])
"""The devices that the workers have reported, by name."""

PROTOCOL = "0.3.64"
"""The ComfyUI version whose protocol is spoken; some clients depend on it."""
AT_ONCE = 2
"""Models that are fetched at the same time; others wait."""
MOST_WAITING = 100
ENDING_SECONDS = 10.0
"""How long a process may take to end when terminated."""


class ModelsQuery(Query):
    """Which models to list."""

    folder: str = ""
    """Only those of this category, such as `loras`, or whose source begins with this, such as `hf:`."""


class Model(Answer):
    """A model on this machine."""

    source: str
    """Its name in workflows."""
    path: str
    bytes: int
    """Its size; that of a folder is the sum of its files."""
    form: str
    """`folder`, or the ending of its file without the dot."""
    category: str | None = None
    """What its folder says that it is, such as `loras`, if that is known."""
    problem: str | None = None
    """Why it can't be used, and what to do."""


class HasWorkflow(Body):
    """A workflow."""

    workflow: JsonValue
    """A document, or another format that can be read as one."""


class Needed(Answer):
    """A model that a workflow needs."""

    source: str
    here: bool
    nodes: list[tuple[str, str]]
    """The nodes that name it, each with the input."""


class HasSource(Body):
    """A model."""

    source: Annotated[str, Field(max_length=1000)]
    """`hf:owner/name[/path][@revision]` or `pypi:package==version/path`."""


class Fetching(Answer):
    """The state of a model."""

    source: str
    state: Literal["here", "fetching", "cancelled"]


class HasBytes(Body):
    """A size."""

    bytes: Annotated[int, Field(ge=0)]


class CacheState(Answer):
    """The state of the disk cache."""

    folder: str
    results: int
    bytes: int
    budget: int


class Trimmed(CacheState):
    """The state of the disk cache after results were removed."""

    removed: int
    removed_bytes: int


class System(Answer):
    """The machine and the software."""

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
    """The machine, and the devices that compute jobs."""

    system: System
    devices: list[dict[str, JsonValue]]


@dataclass
class Fetches:
    """The models that are being fetched, by source."""

    notify: Callable[[dict[str, Any]], object]
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def start(self, source: str) -> None:
        """Start fetching a model, unless that is under way."""
        if source not in self.tasks:
            if len(self.tasks) >= MOST_WAITING:
                raise UsageError(f"{len(self.tasks)} models are waiting to be fetched", hint="try again later")
            task = self.tasks[source] = asyncio.create_task(self._fetch(source))
            task.add_done_callback(lambda _: self.tasks.pop(source))

    async def cancel(self, source: str) -> None:
        """Cancel a fetch, and wait until it has ended."""
        task = self.tasks[source]
        task.cancel()
        await asyncio.wait([task])

    async def _fetch(self, source: str) -> None:
        base: dict[str, Any] = {"source": source, "done": 0, "total": 0}
        end = base | {"error": "it can't be fetched"}
        try:
            async with self.free:
                async for line in _lines(source):
                    message = base | (_progress(line) or {})
                    if message.keys() & {"path", "error"}:
                        end = message
                    elif message["done"]:
                        self.notify(message)
        except asyncio.CancelledError:
            end = base | {"error": "cancelled"}
            raise
        finally:
            self.notify(end)


FETCHES = web.AppKey("fetches", Fetches)


async def fetching(app: web.Application) -> AsyncIterator[None]:
    """A cleanup context that ends all fetches with the application, which must have `NOTIFY` by then."""
    fetches = app[FETCHES] = Fetches(app[NOTIFY])
    yield
    await asyncio.gather(*(fetches.cancel(source) for source in list(fetches.tasks)))


@routes.get(f"{OWN}/models")
async def models(request: web.Request, query: ModelsQuery) -> list[Model]:
    """List the models on this machine: in the folders of models, shipped with Kinograph, and fetched."""
    found = await asyncio.to_thread(_available, request.app[SETTINGS].folders)
    start = query.folder
    return [model for model in found if start in ("", model.category) or model.source.startswith(start)]


@routes.post(f"{OWN}/models/needed")
async def needed(request: web.Request, body: HasWorkflow) -> list[Needed]:
    """List the models that a workflow needs, and which of them are on this machine."""
    app = request.app
    workflow = await prepared(app, body.workflow)
    sources, wanted = workflow.models, workflow.wanted

    def listed() -> list[Needed]:
        confinement = _confinement(app[SETTINGS].folders)
        return [
            Needed(source=source, here=_is_available(source, confinement, wanted[source]), nodes=list(sockets))
            for source, sockets in sources.items()
        ]

    return await asyncio.to_thread(listed)


@routes.post(f"{OWN}/models/fetch")
async def fetch(request: web.Request, body: HasSource) -> Fetching:
    """Fetch a model from the hub or a package index; "model" messages on the WebSocket report the progress.

    A model that is already being fetched is not fetched twice.
    """
    if not can_fetch(body.source):
        raise UsageError("only hf:… and pypi:… sources can be fetched", hint="give one such as hf:owner/name")
    if await asyncio.to_thread(find, body.source):
        return Fetching(source=body.source, state="here")
    request.app[FETCHES].start(body.source)
    return Fetching(source=body.source, state="fetching")


@routes.post(f"{OWN}/models/cancel")
async def cancel(request: web.Request, body: HasSource) -> Fetching:
    """Cancel fetching a model; what has been downloaded is kept for the next attempt."""
    fetches = request.app[FETCHES]
    if body.source not in fetches.tasks:
        raise MissingError("that model is not being fetched")
    await fetches.cancel(body.source)
    return Fetching(source=body.source, state="cancelled")


@routes.get(f"{OWN}/cache")
async def cache(request: web.Request) -> CacheState:
    """The state of the disk cache, which keeps results between runs."""
    return await asyncio.to_thread(_kept, request.app[SETTINGS])


@routes.post(f"{OWN}/cache/trim")
async def trim(request: web.Request, body: HasBytes) -> Trimmed:
    """Remove the results that are worth least, until the rest take at most this many bytes."""
    return await asyncio.to_thread(_trimmed, request.app[SETTINGS], body.bytes)


@routes.post(f"{OWN}/cache/clear")
async def clear(request: web.Request) -> Trimmed:
    """Remove all results from the disk cache."""
    return await asyncio.to_thread(_trimmed, request.app[SETTINGS], 0)


@routes.get("/system_stats")
async def system_stats(request: web.Request) -> Stats:
    """The machine, and the devices that compute jobs."""
    known = await asyncio.to_thread(devices.present, list(request.app[DEVICES].values()))
    return Stats(system=_system(), devices=[_shown(device) for device in known])


def _shown(device: Device) -> dict[str, JsonValue]:
    return {name: value for name, value in asdict(device).items() if name != "uuid"}


def _available(folders: Folders) -> list[Model]:
    return [
        Model(
            source=model.source,
            path=str(model.path),
            bytes=model.nbytes,
            form=model.form,
            category=model.category or None,
            problem=model.problem or None,
        )
        for model in available(folders.of_models, _confinement(folders).allows)
    ]


def _confinement(folders: Folders) -> Confinement:
    return Confinement(folders.roots, folders.of_models)


def _is_available(source: str, confinement: Confinement, wanted: Collection[str]) -> bool:
    """Whether a model is on this machine; False for paths outside the server's folders, to reveal nothing."""
    try:
        if source.strip() and is_path(source):
            return confinement.model(source, wanted).exists()
        return find(source) is not None
    except (MissingError, WorkflowError):
        return False


def _disk(settings: ServerSettings) -> Disk:
    return open_disk(settings.cache.folder, settings.cache.disk)


def _about(disk: Disk) -> dict[str, Any]:
    return {"folder": str(disk.folder), "results": len(disk), "bytes": disk.nbytes, "budget": disk.budget}


def _kept(settings: ServerSettings) -> CacheState:
    return CacheState(**_about(_disk(settings)))


def _trimmed(settings: ServerSettings, budget: int) -> Trimmed:
    disk = _disk(settings)
    files, nbytes = disk.trim(budget)
    return Trimmed(**_about(disk), removed=files, removed_bytes=nbytes)


def _system() -> System:
    host = memory()
    return System(
        os=sys.platform,
        ram_total=host.total,
        ram_free=host.free,
        kinograph_version=version("kinograph"),
        python_version=f"{platform.python_version()} ({platform.python_implementation()})",
        pytorch_version=version("torch"),
    )


async def _lines(source: str) -> AsyncIterator[bytes]:
    """The output of a process that fetches a model; leaving the iteration ends the process."""
    process = await asyncio.create_subprocess_exec(
        *command("-m", "engine.cli", "models", "--fetch", "--json", "--", source),
        env=environment(),
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


def _progress(line: bytes) -> dict[str, Any] | None:
    """A line of output as part of a message to clients; None if it says nothing of the progress."""
    try:
        event: Mapping[str, Any] = json.loads(line)
    except ValueError:  # a library's output
        return None
    match event.get("event"):
        case "download":
            return {"done": event["done"], "total": event["total"]}
        case "downloaded":
            return {"path": event["path"]}
        case "error":
            problem = event["problems"][0]
            hint = f" ({problem['hint']})" if problem["hint"] else ""
            return {"error": f"{problem['message']}{hint}"}
    return None
