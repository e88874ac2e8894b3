"""A job with which the server dies each time fails in the end; one that gets further each time is never given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Live, live, saving

OWN = "/api/kinograph"


def dies(server: Live) -> None:
    """Wait until the server has died, and start it again."""
    server.process.wait(60)
    server.start()


def test_a_job_that_takes_the_server_down_is_not_first_for_ever(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        server.post(f"{OWN}/pause")
        deadly = server.submit(saving("Topple"))
        following = server.submit(saving("Wait", "after it", steps=1))
        server.post(f"{OWN}/resume")
        dies(server)
        dies(server)
        job = server.ended(deadly)
        assert (job["state"], job["problem"]["node"]) == ("failed", "1")
        assert job["problem"]["message"] == "the server died while 1 (Topple) ran, 2 times without progress"
        assert server.ended(following)["state"] == "done"


def test_a_job_that_stores_something_each_time_is_never_given_up(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        job = server.submit(saving("Gather", parts=3))
        for _ in range(3):
            dies(server)
        assert server.ended(job)["state"] == "done"


def test_a_server_that_is_stopped_counts_no_attempt(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        job = server.submit(saving("Wait", steps=200))
        for _ in range(2):
            server.running(job)
            assert server.job(job)["attempts"] == 1
            assert server.stop() == 0
            server.start()
        server.running(job)
        server.kill()
        server.start()
        server.running(job)
        assert server.job(job)["attempts"] == 2
        assert server.ended(job)["state"] == "done"


BROKEN = """
import sys
from pathlib import Path

if "engine.work.worker" in sys.modules and Path("broken").exists():
    raise OSError("the licence of these nodes has run out")
"""


@pytest.fixture
def broken(tmp_path: Path) -> list[str]:
    """Options for a server whose workers don't start as long as a file `broken` is there."""
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "broken").touch()
    return ["--nodes", "broken.py", "--device", "cpu"]


def test_a_worker_that_cannot_start_is_reported_until_it_can(tmp_path: Path, broken: list[str]) -> None:
    def health() -> dict[str, Any]:
        found: dict[str, Any] = server.get(f"{OWN}/health")
        return found

    with live(tmp_path, *broken) as server:
        job = server.submit(saving("Wait", steps=1))
        server.until(lambda: health()["status"] == "failing")
        (problem,) = health()["problems"]
        assert problem["device"] == "cpu"
        assert "the licence of these nodes has run out" in problem["problem"]
        assert server.get(f"{OWN}/queue")["problems"] == [problem]
        assert server.job(job)["state"] == "pending"
        (tmp_path / "broken").unlink()
        assert server.ended(job)["state"] == "done"
        assert (health()["status"], health()["problems"]) == ("ok", [])
        assert server.get(f"{OWN}/queue")["problems"] == []


def test_a_worker_whose_cache_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with live(tmp_path, "--cache-dir", "file") as server:
        found = server.until(lambda: (found := server.get(f"{OWN}/health"))["status"] == "failing" and found)
        assert found["problems"][0]["problem"].startswith(f"results can't be kept in {tmp_path / 'file'}")
        assert "Traceback" in server.log
