"""A node that crashes, hangs or eats memory ends its own job, with the reason; server and other jobs continue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.server.live import Live, live, saving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server"), "--memory", "700MB", "--stall", "4") as running:
        yield running


def problem(job: dict[str, Any]) -> str:
    assert job["state"] == "failed"
    return str(job["problem"]["message"])


@pytest.mark.parametrize(("kind", "reason"), [("Crash", "SIGSEGV"), ("Leave", "exit code 3")])
def test_a_node_that_crashes_its_process(server: Live, kind: str, reason: str) -> None:
    job = server.submit(saving(kind))
    following = server.submit(saving("Wait", f"after {kind}", steps=1))
    message = problem(server.ended(job))
    assert reason in message
    assert f"1 ({kind})" in message
    assert "2 times" in message
    assert server.ended(following)["state"] == "done"


def test_after_an_error_that_leaves_a_gpu_useless_the_worker_is_replaced(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        job, following = server.submit(saving("Trap")), server.submit(saving("Wait", "after the trap", steps=1))
        failed = server.ended(job)
        assert problem(failed) == "this process can no longer use cuda: CUDA error: device-side assert triggered"
        assert (failed["problem"]["node"], failed["attempts"]) == ("1", 1)
        done = server.ended(following)
        assert (done["state"], done["attempts"]) == ("done", 1)
        assert re.search(r"worker \S+: this process can no longer use cuda", server.log)


def test_a_node_that_hangs(server: Live) -> None:
    job = server.submit(saving("Hang"))
    following = server.submit(saving("Wait", "after the hang", steps=1))
    assert problem(server.ended(job)) == "it reported nothing for 4 s while 1 (Hang) ran"
    assert server.ended(following)["state"] == "done"


def test_a_node_that_eats_memory(server: Live) -> None:
    job = server.submit(saving("Gorge"))
    following = server.submit(saving("Wait", "after the feast", steps=1))
    message = problem(server.ended(job))
    assert "GB of memory, of at most 0.7" in message
    assert "Gorge" in message
    assert server.ended(following)["state"] == "done"


def test_the_job_of_a_killed_worker_is_run_again(server: Live) -> None:
    job = server.submit(saving("Wait", "killed once", steps=100))
    server.running(job)
    for worker in server.workers:
        worker.kill()
    ended = server.ended(job)
    assert (ended["state"], ended["attempts"]) == ("done", 2)


def test_the_worker_of_a_cancelled_job_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        job = server.submit(saving("Hang"))
        server.running(job)
        server.post(f"/api/kinograph/jobs/{job}/cancel")
        assert server.ended(job)["state"] == "cancelled"
        assert server.ended(server.submit(saving("Wait", "next", steps=1)))["state"] == "done"


def test_clients_are_notified_of_a_job_whose_worker_died(server: Live) -> None:
    messages = server.watch(saving("Crash", "watched"))
    (error,) = [each["data"] for each in messages if each["type"] == "execution_error"]
    assert "SIGSEGV" in error["exception_message"]
    assert error["node_id"] == "1"


def test_a_failed_job_can_be_retried(server: Live) -> None:
    job = server.submit(saving("Crash", "again"))
    server.ended(job)
    server.post(f"/api/kinograph/jobs/{job}/retry")
    assert "SIGSEGV" in problem(server.ended(job))


def test_workers_end_with_their_server(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        job = server.submit(saving("Hang"))
        server.running(job)
        workers = server.workers
        server.kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive


def test_ctrl_c_stops_the_server_cleanly(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        server.running(server.submit(saving("Wait", "long", steps=1000)))
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with live(tmp_path), pytest.raises(AssertionError, match="another server uses"):
        Live(tmp_path)


def test_an_unknown_device_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no device is called 'foo'"):
        Live(tmp_path, "--device", "foo")
