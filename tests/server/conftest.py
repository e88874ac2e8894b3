"""A server with routes, folders and a client, in a single process and thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import FormData, web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image
from yarl import URL

from engine.run.devices import Device
from engine.run.resources import CacheLimits
from engine.server.comfyui import files, folders, object_info, userdata
from engine.server.files import previews
from engine.server.http import openapi
from engine.server.http.routes import Routes, add_to, errors
from engine.server.http.settings import REGISTRY, SETTINGS, Folders, ServerSettings
from engine.server.jobs.queue import QUEUE, Queue
from engine.server.own import gallery, models, packs, workflows
from nodes import registry

MODULES = (files, folders, gallery, models, packs, openapi, workflows, object_info, userdata)


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])


class Server:
    """Answers requests: `server.get("/view", filename="a.png")`. Paths are sent as they are written."""

    def __init__(self, settings: ServerSettings, routes: list[Routes], queue: Queue | None = None) -> None:
        self.settings = settings
        self.folders = settings.folders
        self.app = web.Application(middlewares=[errors], client_max_size=settings.body_limit)
        self.app[SETTINGS] = settings
        self.app[REGISTRY] = registry()
        if queue:
            self.app[QUEUE] = queue
        self.messages: list[dict[str, Any]] = []
        self.app[models.NOTIFY] = self.messages.append
        self.app[models.DEVICES] = {"cpu": Device("cpu", "cpu", 0, 1, 1)}
        self.app.cleanup_ctx.extend([models.fetching, previews.decoding])
        for each in routes:
            add_to(self.app, each)
        self.runner = asyncio.Runner()
        self.client: TestClient[web.Request, web.Application] = self.runner.run(self._start())

    async def _start(self) -> TestClient[web.Request, web.Application]:
        client = TestClient(TestServer(self.app))
        await client.start_server()
        return client

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    def wait(self, until: Callable[[], object], seconds: float = 10) -> None:
        """Let the server run until a condition is true."""

        async def waiting() -> None:
            async with asyncio.timeout(seconds):
                while not until():
                    await asyncio.sleep(0.01)

        self.runner.run(waiting())

    def ask(self, method: str, path: str, **how: Any) -> Answer:
        query = how.pop("query", None)

        async def asking() -> Answer:
            place, _, rest = quote(path, safe="%/?&=:@!$'()*+,;~").partition("?")
            url = self.client.make_url("/").with_path(place, encoded=True)
            url = url.with_query(query) if query else URL(f"{url}?{rest}", encoded=True) if rest else url
            async with self.client.session.request(method, url, **how) as response:
                return Answer(response.status, response.headers, await response.read())

        return self.runner.run(asking())

    def get(self, path: str, /, headers: dict[str, str] | None = None, **query: str | int) -> Answer:
        return self.ask("GET", path, query=query, headers=headers)

    def post(self, path: str, /, data: Any = None, **query: str | int) -> Answer:
        """Send bytes as they are, anything else as JSON."""
        return self.ask("POST", path, data=data if isinstance(data, bytes) else json.dumps(data), query=query)

    def put(self, path: str, /, data: Any, **query: str | int) -> Answer:
        return self.ask("PUT", path, data=data if isinstance(data, bytes) else json.dumps(data), query=query)

    def delete(self, path: str, /, **query: str) -> Answer:
        return self.ask("DELETE", path, query=query)

    def upload(self, data: bytes, filename: str, path: str = "/upload/image", **fields: str) -> Answer:
        """Send a form with the file first, as clients do."""
        form = FormData(quote_fields=False)
        form.add_field("image", BytesIO(data), filename=filename)
        for name, value in fields.items():
            form.add_field(name, value)
        return self.ask("POST", path, data=form)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(*(tmp_path / "server" / name for name in ("input", "output", "models", "data")))
    folders.make()
    return folders


@pytest.fixture
def settings(folders: Folders, tmp_path: Path) -> ServerSettings:
    return ServerSettings(folders, upload_limit=1 << 20, body_limit=1 << 18, cache=CacheLimits(tmp_path / "cache"))


@pytest.fixture
def server(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    server = Server(replace(settings), [module.routes for module in MODULES])
    yield server
    server.close()


def png(size: tuple[int, int] = (8, 6), colour: str = "red", mode: str = "RGB", format: str = "PNG") -> bytes:
    """A picture file's bytes."""
    file = BytesIO()
    Image.new(mode, size, colour).save(file, format=format)
    return file.getvalue()
