"""ComfyUI's /free has every worker drop what it holds in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from engine.server.app import make_app
from engine.server.http.settings import ServerSettings
from engine.server.jobs.workers import WorkerPool
from engine.work.messages import Command
from nodes import registry


class Told:
    """In the place of a worker: what it was told."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def send(self, command: Command) -> None:
        self.commands.append(command.message)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"unload_models": True}, ["free_memory"]),
        ({"free_memory": True}, ["free_memory"]),
        ({"unload_models": True, "free_memory": True}, ["free_memory"]),
        ({"unload_models": False, "free_memory": False}, []),
        ({}, []),
    ],
)
def test_workers_are_told_if_anything_is_to_be_freed(
    body: dict[str, bool],
    told: list[str],
    settings: ServerSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    workers = [Told(), Told()]
    monkeypatch.setattr(WorkerPool, "start", lambda self: None)

    async def free() -> None:
        async with TestClient(TestServer(make_app(settings, registry()))) as client:
            with monkeypatch.context() as patched:
                patched.setattr(WorkerPool, "workers", workers)
                async with client.post("/free", json=body) as answer:
                    assert (answer.status, await answer.json()) == (200, {})

    asyncio.run(free())
    assert [worker.commands for worker in workers] == [told, told]
