"""A server in its own processes, as `kinograph serve` starts it, and clients for it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil

NODES = Path(__file__).with_name("rough_nodes.py")
PATIENCE = 180.0


class Live:
    """One server with its folders; it can be killed and started again."""

    def __init__(
        self, folder: Path, *options: str, env: dict[str, str] | None = None, files: int | None = None
    ) -> None:
        self.folder = folder
        self._options = options
        self._limited = ["sh", "-c", f'ulimit -n {files}; exec "$0" "$@"'] if files else []
        self._env = {**os.environ, "KINOGRAPH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", **(env or {})}
        self.start()

    def start(self) -> None:
        python = [*self._limited, sys.executable]
        command = [*python, "-m", "engine.cli", "serve", "--json", "--port", "0", "--nodes", str(NODES)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._options], cwd=self.folder, env=self._env, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout
        with self.process.stdout as output:
            line = output.readline()
        event = json.loads(line)
        if "address" not in event:
            self.process.wait()
            raise AssertionError(line.decode())
        self.address = event["address"]
        self.host = urlsplit(self.address).netloc

    def kill(self) -> None:
        """Kill it as `kill -9` does; its workers end by themselves."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop it as Ctrl-C does."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The status and the answer, as JSON if possible; `headers` may replace the default ones."""
        connection = HTTPConnection(self.host, timeout=PATIENCE)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, {"Host": self.host, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def get(self, path: str) -> Any:
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def post(self, path: str, body: Any = None) -> Any:
        status, answer = self.ask("POST", path, {} if body is None else body)
        assert status == 200, answer
        return answer

    def submit(self, graph: dict[str, Any], **how: Any) -> str:
        """Submit a job; returns its id."""
        return str(self.post("/prompt", {"prompt": graph, **how})["prompt_id"])

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/kinograph/jobs/{name}")
        return found

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait until a call returns something true, and return that."""
        end = time.monotonic() + PATIENCE
        while not (found := what()):
            assert time.monotonic() < end, f"waited in vain; the log says:\n{self.log}"
            time.sleep(0.02)
        return found

    def ended(self, name: str) -> dict[str, Any]:
        """Wait until a job has ended, and return it."""

        def look() -> dict[str, Any] | None:
            job = self.job(name)
            return job if job["state"] in ("done", "failed", "cancelled") else None

        found: dict[str, Any] = self.until(look)
        return found

    def running(self, name: str) -> None:
        """Wait until a job is running."""
        self.until(lambda: self.job(name)["state"] == "running")

    def watch(self, *submits: dict[str, Any], client: str = "me", flags: dict[str, Any] | None = None) -> list[Any]:
        """All messages that a WebSocket client gets until the last of its jobs has ended, parsed JSON or bytes."""
        return asyncio.run(self._watch(list(submits), client, flags))

    async def _watch(self, submits: list[dict[str, Any]], client: str, flags: dict[str, Any] | None) -> list[Any]:
        messages: list[Any] = []
        async with (
            asyncio.timeout(PATIENCE),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://{self.host}/ws?clientId={client}") as socket,
        ):
            if flags:
                await socket.send_json({"type": "feature_flags", "data": flags})
                while (answer := await socket.receive_json())["type"] != "feature_flags":
                    messages.append(answer)
            names = [await asyncio.to_thread(self.submit, graph, client_id=client) for graph in submits]
            async for message in socket:
                messages.append(message.data if message.type is aiohttp.WSMsgType.BINARY else json.loads(message.data))
                last = messages[-1]
                if isinstance(last, dict) and last["type"] == "executing" and last["data"]["node"] is None:
                    names.remove(last["data"]["prompt_id"])
                    if not names:
                        return messages
        return messages


@contextmanager
def live(folder: Path, *options: str, env: dict[str, str] | None = None, files: int | None = None) -> Iterator[Live]:
    """A server for the duration of a test, which may have that many files open, connections included."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Live(folder, *options, env=env, files=files)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def saving(kind: str, text: str = "x", **inputs: Any) -> dict[str, Any]:
    """A graph with a node of this kind, whose text is saved."""
    return {
        "1": {"class_type": kind, "inputs": {"text": text, **inputs}},
        "2": {"class_type": "Note", "inputs": {"text": ["1", 0]}},
    }
