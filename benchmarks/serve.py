"""What the server costs, and how soon clients receive messages.

    python -m benchmarks.serve [--protocol 1000] [--editors 200] [--jobs 1000] [--heard 1000] [--port 0]

- `ready`: seconds from the start of the process until it says that it listens; the median of three.
- `idle`: its memory (RSS) then, once its worker is ready, without the worker's.
- `prompts`: `POST /prompt` per second, eight at a time, each job on disk before it is answered.
- `delay`: milliseconds from a node's call of `ctx.progress` until a client has the message. The node reports the
  monotonic clock as its progress, which all processes of a machine share; so the figure includes the worker, the pipe,
  the server, the WebSocket and the client's event loop, and the 30 ms for which a worker collects its messages.
- `answer`: milliseconds for `GET /prompt`, requested twenty times per second meanwhile.
- `queue`: milliseconds for `GET /queue`, and its size, with all jobs pending; the median of five.

The clients run in one process of their own. `protocol` are ComfyUI's clients, each sent the messages of its own jobs;
`editors` are sent everything. With each runs one client that never reads, and every job is one trivial node. All
`jobs` wait in the queue before the first one starts; the run ends once `heard` of them are done.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil

NODES = '''
import time
from engine.node import Context, Node
from engine.values import Files, Media


class Stamp(Node, version=1, saves="text"):
    """Report the time as progress."""

    text: str

    def run(self, ctx: Context) -> Files:
        ctx.progress(time.monotonic_ns() // 1000, 2**53 - 1)
        return Files((Media(self.text.encode(), "txt", "stamp"),))
'''
AT_ONCE = 8
FLAGS = json.dumps({"type": "feature_flags", "data": {"kinograph_events": True}})


@dataclass(frozen=True)
class Server:
    """A running server."""

    address: str
    process: psutil.Process
    seconds: float
    """Seconds from its start until it was ready."""


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    """A server with folders of its own."""
    nodes = folder / "stamp.py"
    nodes.write_text(NODES)
    command = [sys.executable, "-m", "engine.cli", "serve", "--json", "--port", str(port), "--nodes", str(nodes)]
    env = {**os.environ, "KINOGRAPH_HOME": str(folder / "home"), "PYTHONPATH": str(Path.cwd())}
    started = time.monotonic()
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        yield Server(ready["address"], psutil.Process(process.pid), time.monotonic() - started)
        process.terminate()


def silent(address: str) -> socket.socket:
    """A client that asks for everything and never reads."""
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    made = socket.create_connection((host, int(port)))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    made.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    made.sendall(bytes([0x81, 0x80 | len(FLAGS)]) + bytes(4) + FLAGS.encode())
    return made


async def listen(address: str, count: int, editors: bool, heard: int) -> None:
    """Run the clients: print when they are connected, and finally each message's delay in ms."""
    late: list[float] = []
    ended, over = 0, asyncio.Event()
    mark = '"done": ' if editors else '"progress", "data": {"value": '

    def hear(text: str) -> None:
        nonlocal ended
        at = text.find(mark)
        if at >= 0 and ("node_progress" in text or not editors):
            stamp = int(text[at + len(mark) :].partition(",")[0])
            late.append((time.monotonic_ns() // 1000 - stamp) / 1000)
        ended += '"run_finished"' in text if editors else text.startswith('{"type": "execution_success"')
        if ended >= heard * (count if editors else 1):
            over.set()

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with session.ws_connect(f"{address}ws?clientId=client-{number}", max_msg_size=0) as connected:
            if editors:
                await connected.send_str(FLAGS)
            async for message in connected:
                hear(message.data)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(one(session, number)) for number in range(count)]
        while True:
            async with session.get(f"{address}api/kinograph/metrics") as answer:
                if f"kinograph_clients {count + 1}" in await answer.text():  # including the one that never reads
                    break
            await asyncio.sleep(0.1)
        print("connected", flush=True)
        await over.wait()
        for task in tasks:
            task.cancel()
    print(json.dumps(late), flush=True)


async def submit(address: str, clients: int, jobs: int) -> float:
    """Put jobs into the queue; returns the seconds that it took."""
    waiting = iter(range(jobs))

    async def some(session: aiohttp.ClientSession) -> None:
        for number in waiting:
            graph = {"1": {"class_type": "Stamp", "inputs": {"text": str(number)}}}
            body = {"prompt": graph, "client_id": f"client-{number % clients}"}
            async with session.post(f"{address}prompt", json=body) as answer:
                assert answer.status == 200, await answer.text()

    async with aiohttp.ClientSession() as session:
        started = time.monotonic()
        await asyncio.gather(*(some(session) for _ in range(AT_ONCE)))
        return time.monotonic() - started


async def post(address: str, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{address}api/kinograph/{path}", json={}) as answer:
        assert answer.status == 200


async def ask(address: str, clients: asyncio.Task[Any]) -> list[float]:
    """How long answers take, in ms, while the clients listen."""
    took: list[float] = []
    async with aiohttp.ClientSession() as session:
        while not clients.done():
            started = time.monotonic()
            async with session.get(f"{address}prompt") as answer:
                await answer.read()
            took.append((time.monotonic() - started) * 1000)
            await asyncio.sleep(0.05)
    return took


async def crowd(server: Server, clients: int, jobs: int, heard: int, *, editors: bool) -> dict[str, Any]:
    """The figures with all clients, until so many of the jobs have ended."""
    address = server.address
    await post(address, "pause")
    with silent(address):
        command = [sys.executable, "-m", "benchmarks.serve", "--listen", address, "--heard", str(heard)]
        command += ["--protocol", str(0 if editors else clients), "--editors", str(clients if editors else 0)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, limit=1 << 28)
        assert process.stdout
        assert await process.stdout.readline() == b"connected\n"
        seconds = await submit(address, clients, jobs)
        queue = await listing(address)
        started = time.monotonic()
        await post(address, "resume")
        delays = asyncio.create_task(process.stdout.readline())
        answers = await ask(address, delays)
        took, late = time.monotonic() - started, json.loads(await delays)
        await process.wait()
    memory = server.process.memory_info().rss
    speeds = {"prompts": jobs / seconds, "jobs": heard / took}
    return {**speeds, "delay": late, "answer": answers, "memory": memory, "queue": queue}


async def listing(address: str) -> tuple[float, int]:
    """The time that `GET /queue` takes, in ms, and its size in bytes."""
    took: list[float] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(5):
            started = time.monotonic()
            async with session.get(f"{address}queue") as answer:
                size = len(await answer.read())
            took.append((time.monotonic() - started) * 1000)
    return median(took), size


def spread(values: Sequence[float]) -> str:
    cuts = quantiles(values, n=100, method="inclusive")
    return f"{cuts[49]:8.1f}{cuts[98]:8.1f}{max(values):8.1f}"


async def settle(server: Server) -> None:
    """Wait until the worker is ready and the server is idle."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{server.address}system_stats") as answer:
                if (await answer.json())["devices"]:
                    break
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", type=int, default=1000, help="Clients of ComfyUI's protocol.")
    parser.add_argument("--editors", type=int, default=200, help="Clients that are sent everything.")
    parser.add_argument("--jobs", type=int, default=1000, help="Jobs in the queue.")
    parser.add_argument("--heard", type=int, default=1000, help="Jobs to wait for.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--listen", metavar="ADDRESS", help="Run the clients of a running server, of one sort.")
    args = parser.parse_args()
    if args.listen:
        asyncio.run(listen(args.listen, args.editors or args.protocol, bool(args.editors), args.heard))
        return
    heard, starts = min(args.heard, args.jobs), list[float]()
    for _ in range(3):
        with TemporaryDirectory() as folder, serving(Path(folder), args.port) as server:
            starts.append(server.seconds)
    print(f"machine  {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    print(f"ready    {median(starts):.2f} s")
    for name, clients in (("protocol", args.protocol), ("editors", args.editors)):
        if not clients:
            continue
        with TemporaryDirectory() as folder, serving(Path(folder), args.port) as server:
            asyncio.run(settle(server))
            if name == "protocol":
                print(f"idle     {server.process.memory_info().rss / 1e6:.0f} MB")
            found = asyncio.run(crowd(server, clients, args.jobs, heard, editors=name == "editors"))
        print(f"\n{clients} {name}, {args.jobs} jobs in the queue, {heard} of them heard, one client that never reads")
        print(f"prompts  {found['prompts']:.0f} a second\njobs     {found['jobs']:.0f} a second")
        print(f"memory   {found['memory'] / 1e6:.0f} MB afterwards")
        print(f"queue    {found['queue'][0]:.0f} ms, {found['queue'][1] / 1e6:.2f} MB")
        print("            p50     p99     max   ms")
        print(f"delay   {spread(found['delay'])}   {len(found['delay'])} messages\nanswer  {spread(found['answer'])}")


if __name__ == "__main__":
    main()
