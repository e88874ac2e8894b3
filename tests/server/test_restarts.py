"""After `kill -9` at any moment, accepted jobs still exist, finished ones don't run again, and files are complete."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Live, live, saving

JOBS = 6


def work(number: int) -> dict[str, Any]:
    """A graph that saves several files, one after another, so that there is much to interrupt."""
    graph: dict[str, Any] = {}
    for part in range(3):
        graph[f"wait{part}"] = {
            "class_type": "Wait",
            "inputs": {"text": f"job {number} part {part}\n" * 500, "steps": 4},
        }
        graph[f"note{part}"] = {"class_type": "Note", "inputs": {"text": [f"wait{part}", 0]}}
    return graph


def check_all_done(server: Live, names: list[str]) -> None:
    """Check that every job is done, with each of its three files complete and saved once."""
    texts = {path: path.read_text() for path in (server.folder / "output").iterdir()}
    wanted = sorted(f"job {number} part {part}\n" * 500 for number in range(len(names)) for part in range(3))
    assert sorted(texts.values()) == wanted
    for name in names:
        job = server.ended(name)
        assert job["state"] == "done", job
        files = [file["filename"] for given in job["outputs"].values() for file in given["texts"]]
        assert len(files) == 3


def run_with_kills(folder: Path, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    with live(folder) as server:
        names = [server.submit(work(number)) for number in range(JOBS)]
        done: set[str] = set()
        for _ in range(kills):
            time.sleep(rng.uniform(0, 0.8))
            if rng.random() < 0.5:
                for worker in server.workers:
                    worker.kill()
            else:
                done |= {name for name in names if server.job(name)["state"] == "done"}
                finished = {name: server.job(name)["finished"] for name in done}
                server.kill()
                server.start()
                assert {name: server.job(name)["finished"] for name in done} == finished
            for name in names:  # a job fails when its worker dies twice: retry it, as a user would
                if server.job(name)["state"] == "failed":
                    server.post(f"/api/kinograph/jobs/{name}/retry")
        for name in names:
            if server.ended(name)["state"] == "failed":
                server.post(f"/api/kinograph/jobs/{name}/retry")
                server.ended(name)
        check_all_done(server, names)


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments(seed: int, tmp_path: Path) -> None:
    run_with_kills(tmp_path, seed, kills=3)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 110))
def test_killed_at_many_random_moments(seed: int, tmp_path: Path) -> None:
    run_with_kills(tmp_path, seed, kills=5)


def test_an_interrupted_job_resumes_from_the_cache(tmp_path: Path) -> None:
    graph = saving("Wait", "first", steps=1) | {
        "slow": {"class_type": "Wait", "inputs": {"text": ["1", 0], "steps": 100}},
        "last": {"class_type": "Note", "inputs": {"text": ["slow", 0]}},
    }
    with live(tmp_path) as server:
        job = server.submit(graph)
        server.until(lambda: server.job(job)["outputs"])
        server.kill()
        server.start()
        ended = server.ended(job)
        assert (ended["state"], ended["attempts"]) == ("done", 1)
        assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["note_00001.txt", "note_00002.txt"]


def test_a_paused_queue_stays_paused(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        server.post("/api/kinograph/pause")
        job = server.submit(saving("Wait", "later", steps=1))
        server.kill()
        server.start()
        assert server.get("/api/kinograph/queue")["paused"] is True
        assert server.job(job)["state"] == "pending"
        server.post("/api/kinograph/resume")
        assert server.ended(job)["state"] == "done"


def test_order_and_priorities_survive_a_restart(tmp_path: Path) -> None:
    with live(tmp_path) as server:
        server.post("/api/kinograph/pause")
        first, second, third = (server.submit(saving("Wait", name, steps=1)) for name in "abc")
        server.post(f"/api/kinograph/jobs/{third}/priority", {"priority": 3})
        server.post(f"/api/kinograph/jobs/{second}/move", {"before": first})
        server.kill()
        server.start()
        assert [job["id"] for job in server.get("/api/kinograph/queue")["pending"]] == [third, second, first]
