"""A server that goes away, for a while or for good, while a client waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from engine.client import Client, Event, JobEnded, NodeSaved
from engine.errors import ServerError
from engine.events import NodeProgress, RunStarted
from tests.server.live import Live, live, saving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    """A server that has the same address when it is started again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with live(tmp_path, "--port", str(port)) as running:
        yield running


def test_a_wait_goes_on_over_a_restart_and_so_do_events(server: Live) -> None:
    with Client(server.address) as client:
        job = client.submit(saving("Wait", "patient", steps=40))
        told: list[Event] = []
        following = Thread(target=lambda: told.extend(job.events()))
        following.start()
        server.until(lambda: any(isinstance(event, NodeProgress) for event in told))
        server.kill()
        server.start()
        (file,) = job.wait(60).files
        assert file.read() == b"patient"
        following.join()
        assert client.run(saving("Wait", "anew", steps=1)).files[0].read() == b"anew"
    kinds = [type(event) for event in told]
    assert kinds[0] is RunStarted
    assert kinds.count(NodeSaved) == kinds.count(JobEnded) == 1
    assert kinds[-1] is JobEnded


def test_patience_comes_to_an_end(server: Live) -> None:
    with Client(server.address, patience=0.5) as client:
        job = client.submit(saving("Wait", "in vain", steps=5000))
        server.running(job.id)
        server.kill()
        begun = time.monotonic()
        with pytest.raises(ServerError, match="no server answers"):
            job.wait()
        assert time.monotonic() - begun < 10
        with pytest.raises(ServerError, match="no server answers"):
            list(job.events())
        with pytest.raises(ServerError, match="no server answers"):
            client.submit(saving("Wait"))
