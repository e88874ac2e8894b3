"""The synchronous client is the asynchronous one in a thread: it works wherever it is used, and ends cleanly."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.client import (
    AsyncClient,
    AsyncFile,
    AsyncJob,
    AsyncResult,
    Client,
    File,
    Job,
    JobEnded,
    Result,
)
from engine.errors import UsageError
from engine.events import NodeProgress
from tests.server.live import Live, saving


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kinograph-client"]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Client, AsyncClient), (Job, AsyncJob), (File, AsyncFile), (Result, AsyncResult)]
)
def test_both_have_the_same_methods(ours: type, theirs: type) -> None:
    def public(kind: type) -> dict[str, list[tuple[str, object]]]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: [(one.name, one.default) for one in inspect.signature(member).parameters.values()]
            for name, member in members
            if not name.startswith("_") or name == "__init__"
            if kind in (Client, AsyncClient) or name != "__init__"
        }

    assert public(ours) == public(theirs)


def test_it_works_where_a_loop_runs(server: Live) -> None:
    async def cell() -> bytes:
        with Client(server.address) as client:
            job = client.submit(saving("Wait", "in a notebook", steps=2))
            assert isinstance(list(job.events())[-1], JobEnded)
            return job.wait().files[0].read()

    assert asyncio.run(cell()) == b"in a notebook"


def test_several_threads_may_use_it(client: Client) -> None:
    def run(number: int) -> bytes:
        return client.run(saving("Wait", f"thread {number}", steps=1)).files[0].read()

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(run, range(8))] == [f"thread {number}".encode() for number in range(8)]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_waiting_and_not_the_job(client: Client) -> None:
    job = client.submit(saving("Wait", "interrupted", steps=2000))
    here = threading.get_ident()
    threading.Timer(0.3, lambda: signal.pthread_kill(here, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert not job.status().has_ended
    job.cancel()


def test_nothing_is_left_when_it_is_closed(server: Live) -> None:
    before = threads()
    client = Client(server.address)
    assert threads() == before  # nothing was asked yet
    job = client.submit(saving("Wait", "closed", steps=2000))
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            job.wait()
        except UsageError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)
    client.close()
    waiting.join()
    assert [str(error) for error in raised] == ["this client is closed (make another)"]
    assert threads() == before
    with pytest.raises(UsageError, match="this client is closed"):
        client.queue()
    client.close()
    with Client(server.address) as other:
        other.job(job.id).cancel()


def test_one_that_is_forgotten_closes_itself_once_its_jobs_are_forgotten_too(server: Live) -> None:
    before = threads()
    job = Client(server.address).submit(saving("Wait", "forgotten", steps=30))
    for event in job.events():
        if isinstance(event, NodeProgress):
            break
    assert job.wait().files[0].read() == b"forgotten"
    del job, event
    gc.collect()
    assert threads() == before


def test_a_program_that_never_closes_it_ends_all_the_same(server: Live) -> None:
    code = f"from engine.client import Client; print(Client({server.address!r}).queue().paused)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_an_asynchronous_one_that_is_closed_says_so(server: Live) -> None:
    async def ask() -> None:
        async with AsyncClient(server.address) as client:
            job = await client.submit(saving("Wait", "closed as well", steps=2000))
            waiting = asyncio.create_task(job.wait())
            await asyncio.sleep(0.1)
            await job.cancel()
            job = await client.submit(saving("Wait", "closed in the middle", steps=2000))
            late = asyncio.create_task(job.wait())
            await asyncio.gather(waiting, return_exceptions=True)
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match="this client is closed"):
            await late
        with pytest.raises(UsageError, match="this client is closed"):
            await client.health()
        async with AsyncClient(server.address) as other:
            await (await other.job(job.id)).cancel()

    asyncio.run(ask())
