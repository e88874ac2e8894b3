"""Workers end with their server, and only with it, although Ctrl-C and service managers signal them as well."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.server.live import Live, live, saving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as running:
        yield running


def test_a_signal_meant_for_the_server_interrupts_no_job(server: Live) -> None:
    job = server.submit(saving("Wait", "on and on", steps=80))
    server.running(job)
    for number in (signal.SIGINT, signal.SIGTERM):
        for worker in server.workers:
            worker.send_signal(number)
    ended = server.ended(job)
    assert (ended["state"], ended["attempts"]) == ("done", 1)
    assert "KeyboardInterrupt" not in server.log


@pytest.mark.skipif(not psutil.LINUX, reason="other systems can't end it from outside")
def test_an_unresponsive_worker_ends_with_its_server(server: Live) -> None:
    job = server.submit(saving("Seize"))
    server.until(lambda: "1" in str(server.job(job)["attempts"]) and "seized" in server.log)
    workers = server.workers
    server.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    for worker in alive:
        worker.kill()
    assert not alive
    server.start()
    server.post(f"/api/kinograph/jobs/{job}/cancel")


def test_a_long_failure_message_is_truncated(server: Live) -> None:
    job = server.ended(server.submit(saving("Shout")))
    assert job["state"] == "failed"
    assert job["problem"]["message"].startswith("ValueError: xxx")
    assert len(job["problem"]["message"]) < 25_000
