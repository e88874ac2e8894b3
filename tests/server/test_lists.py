"""ComfyUI's lists of jobs: in pages, and bounded in bytes, whatever is in the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.server.comfyui import lists
from engine.server.http.settings import ServerSettings
from engine.server.jobs.queue import Queue
from engine.server.own import control
from engine.work.queue import Jobs
from engine.work.records import Request
from tests.server.conftest import Server


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path / "jobs.sqlite", quick=True) as jobs:
        yield jobs


@pytest.fixture
def server(settings: ServerSettings, jobs: Jobs, tmp_path: Path) -> Iterator[Server]:
    queue = Queue(tmp_path / "jobs.sqlite")
    server = Server(settings, [lists.routes, control.routes], queue)
    yield server
    server.runner.run(queue.close())
    server.close()


def document(text: str) -> dict[str, Any]:
    return {"kinograph": 1, "graph": {"1": {"class_type": "Text", "inputs": {"text": text}}}}


def pending(jobs: Jobs, *names: str, text: str = "x", **how: Any) -> None:
    for name in names:
        jobs.add(Request(name, document(text), client="me", targets=("1",), **how))


def ended(
    jobs: Jobs, *names: str, state: Any = "done", outputs: Any = (), record: Mapping[str, Any] = {}, **how: Any
) -> None:
    for name in names:
        pending(jobs, name, **how)
        lease = jobs.claim("worker")
        assert lease
        jobs.finish(lease, state, dict(outputs), record)


def files(*names: str, type: str = "output", medium: str = "images") -> dict[str, Any]:
    return {medium: [{"filename": name, "subfolder": "", "type": type} for name in names]}


class TestHistory:
    def test_large_workflows_are_listed_by_where_they_are(self, server: Server, jobs: Jobs) -> None:
        ended(jobs, *"abc", text="x" * (3 << 20), outputs={"1": files("a.png")})
        answer = server.get("/history")
        assert (len(answer.json), len(answer.body) < 3000) == (3, True)
        number, name, graph, extra, targets = answer.json["c"]["prompt"]
        assert (number, name, graph, targets) == (3, "c", {}, [])
        assert extra["client_id"] == "me"
        whole = server.get(extra["left_out"]).json["workflow"]
        assert len(whole["prompt"]["1"]["inputs"]["text"]) == 3 << 20
        assert answer.json["c"]["outputs"] == {"1": files("a.png")}

    def test_one_job_is_given_whole(self, server: Server, jobs: Jobs) -> None:
        ended(jobs, "a", text="x" * (3 << 20))
        (entry,) = server.get("/history/a").json.values()
        assert len(entry["prompt"][2]["1"]["inputs"]["text"]) == 3 << 20
        assert "left_out" not in entry["prompt"][3]

    def test_the_newest_have_their_workflows(self, server: Server, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lists, "PROMPT_BYTES", 3000)
        ended(jobs, *"abcd", text="x" * 1000)
        listed = server.get("/history").json
        assert [(name, bool(entry["prompt"][2])) for name, entry in listed.items()] == [
            ("a", False),
            ("b", False),
            ("c", True),
            ("d", True),
        ]

    def test_an_answer_ends_when_it_is_large(self, server: Server, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lists, "ENTRY_BYTES", 3000)
        ended(jobs, *"abcdefgh", record={"held": ["1" * 1000]})
        assert list(server.get("/history").json) == ["f", "g", "h"]
        assert list(server.get("/history", offset=0).json) == ["a", "b", "c"]
        assert list(server.get("/history", offset=3, max_items=2).json) == ["d", "e"]

    def test_more_than_a_thousand_may_be_asked_for(
        self, server: Server, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "MOST_SHOWN", 2)
        ended(jobs, *"abc")
        assert list(server.get("/history", max_items=100_000).json) == ["b", "c"]


class TestQueue:
    def test_the_first_have_their_workflows_and_all_are_listed(
        self, server: Server, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "PENDING_BYTES", 256 << 10)
        names = [f"job {number}" for number in range(60)]
        pending(jobs, "first", *names, text="x" * 10_000, extra={"mine": 1})
        jobs.claim("worker")
        answer = server.get("/queue")
        (running,), waiting = answer.json["queue_running"], answer.json["queue_pending"]
        assert running[1:3] == ["first", document("x" * 10_000)["graph"]]
        assert running[3]["mine"] == 1
        assert running[4] == ["1"]
        assert [row[1] for row in waiting] == names
        assert [bool(row[2]) for row in waiting] == [True] * 25 + [False] * 35
        assert waiting[30][3]["left_out"] == "/api/jobs/job%2030"
        assert waiting[30][3]["client_id"] == "me"
        assert len(answer.body) < (256 << 10) + 50_000
        monkeypatch.setattr(lists, "PENDING_PROMPTS", 3)
        assert [bool(row[2]) for row in server.get("/queue").json["queue_pending"]] == [True] * 3 + [False] * 57

    def test_those_beyond_the_first_are_listed_as_those_without_room(
        self, server: Server, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lists, "PENDING_BYTES", 0)
        pending(jobs, "plain", "with-dash", "two words", "ünï", 'say "x"?', "100%")
        expected = server.get("/queue").json["queue_pending"]
        monkeypatch.setattr(lists, "PENDING_PROMPTS", 1)
        assert server.get("/queue").json["queue_pending"] == expected
        assert [row[3]["left_out"] for row in expected][1:4] == [
            "/api/jobs/with-dash",
            "/api/jobs/two%20words",
            "/api/jobs/%C3%BCn%C3%AF",
        ]

    def test_a_large_workflow_that_runs_is_left_out_too(self, server: Server, jobs: Jobs) -> None:
        pending(jobs, "large", text="x" * (3 << 20))
        jobs.claim("worker")
        answer = server.get("/queue")
        assert answer.json["queue_running"][0][3]["left_out"] == "/api/jobs/large"
        assert len(answer.body) < 1000


class TestJobs:
    @pytest.fixture
    def filled(self, server: Server, jobs: Jobs) -> Server:
        """A server with two done, one failed and one cancelled job, one that runs, and two that wait."""
        ended(jobs, "done 1", "done 2", outputs={"1": files("a.png")})
        ended(jobs, "failed", state="failed", record={"problems": [{"message": "no room"}]})
        ended(jobs, "cancelled", state="cancelled")
        pending(jobs, "running", "waiting 1", extra={"extra_pnginfo": {"workflow": {"id": "wf"}}})
        pending(jobs, "waiting 2")
        jobs.claim("worker")
        return server

    @pytest.mark.parametrize(
        ("query", "expected", "total"),
        [
            ({}, "waiting 2, waiting 1, running, cancelled, failed, done 2, done 1", 7),
            ({"status": "pending"}, "waiting 2, waiting 1", 2),
            ({"status": "in_progress,pending"}, "waiting 2, waiting 1, running", 3),
            ({"status": "completed,failed,cancelled"}, "cancelled, failed, done 2, done 1", 4),
            ({"status": "COMPLETED", "sort_order": "asc"}, "done 1, done 2", 2),
            ({"limit": 2, "offset": 1}, "waiting 1, running", 7),
            ({"status": "pending", "limit": 1, "offset": 1}, "waiting 1", 2),
            ({"workflow_id": "wf"}, "waiting 1, running", 2),
            ({"workflow_id": "wf", "status": "pending"}, "waiting 1", 1),
            ({"limit": 0}, "", 7),
        ],
    )
    def test_a_part_of_them_is_listed(self, filled: Server, query: dict[str, Any], expected: str, total: int) -> None:
        answer = filled.get("/api/jobs", **query).json
        assert ", ".join(job["id"] for job in answer["jobs"]) == expected
        assert answer["pagination"]["total"] == total
        end = query.get("offset", 0) + len(answer["jobs"])
        assert answer["pagination"]["has_more"] == (end < total)

    def test_they_are_sorted_by_how_long_they_took(self, server: Server, jobs: Jobs) -> None:
        ended(jobs, "a", "b", "c")
        for name, seconds in (("a", 2), ("b", 3), ("c", 1)):
            jobs._db.execute("UPDATE jobs SET finished = started + ? WHERE id = ?", (seconds, name))
        sort = {"sort_by": "execution_duration", "status": "completed"}
        assert [job["id"] for job in server.get("/api/jobs", **sort).json["jobs"]] == ["b", "a", "c"]
        assert [job["id"] for job in server.get("/api/jobs", **sort, sort_order="asc").json["jobs"]] == ["c", "a", "b"]

    @pytest.mark.parametrize("query", [{"status": "done"}, {"status": ""}, {"sort_by": "size"}, {"limit": -1}])
    def test_other_queries_are_refused(self, server: Server, query: dict[str, Any]) -> None:
        assert server.get("/api/jobs", **query).status == 400

    def test_each_has_what_clients_show(self, filled: Server) -> None:
        listed = {job["id"]: job for job in filled.get("/api/jobs").json["jobs"]}
        shown = {"filename": "a.png", "subfolder": "", "type": "output", "nodeId": "1", "mediaType": "images"}
        done = listed["done 1"]
        assert (done["preview_output"], done["outputs_count"], done["priority"]) == (shown, 1, 1)
        assert done["execution_start_time"] <= done["execution_end_time"]
        assert listed["running"]["workflow_id"] == "wf"
        assert not {"preview_output", "workflow_id", "execution_end_time"} & listed["waiting 2"].keys()
        error = listed["failed"]["execution_error"]
        assert (error["exception_message"], error["node_id"], error["node_type"]) == ("no room", "", "")
        assert {job["status"] for job in listed.values()} == {*lists.STATES}

    def test_one_has_its_workflow_and_how_it_ended(self, filled: Server) -> None:
        job = filled.get("/api/jobs/done%201").json
        assert job["workflow"]["prompt"] == document("x")["graph"]
        assert job["outputs"] == {"1": files("a.png")}
        assert job["execution_status"]["status_str"] == "success"
        waiting = filled.get("/api/jobs/waiting%201").json
        assert waiting["workflow"]["extra_data"]["extra_pnginfo"] == {"workflow": {"id": "wf"}}
        assert "execution_status" not in waiting
        assert filled.get("/api/jobs/none").status == 404

    @pytest.mark.parametrize(
        ("outputs", "shown", "count"),
        [
            ({"1": files("a.png", type="temp"), "2": files("b.png")}, "b.png", 2),
            ({"1": files("a.txt", medium="files"), "2": files("b.png", type="temp")}, "b.png", 2),
            ({"1": {"text": ["hello"]}, "2": files("a.txt", medium="files")}, "a.txt", 1),
            ({"1": files("a.safetensors", medium="files")}, None, 1),
        ],
    )
    def test_a_picture_stands_for_a_job_before_a_text(
        self, server: Server, jobs: Jobs, outputs: dict[str, Any], shown: str | None, count: int
    ) -> None:
        ended(jobs, "a", outputs=outputs)
        job = server.get("/api/jobs/a").json
        assert (job.get("preview_output", {}).get("filename"), job["outputs_count"]) == (shown, count)

    def test_a_long_text_is_cut(self, server: Server, jobs: Jobs) -> None:
        ended(jobs, "a", outputs={"1": {"text": ["x" * 2000]}})
        preview = server.get("/api/jobs/a").json["preview_output"]
        assert preview == {"content": "x" * 1024, "truncated": True, "nodeId": "1", "mediaType": "text"}


class TestOwnList:
    LIST = "/api/kinograph/jobs"

    def test_jobs_in_each_state_in_their_order(self, server: Server, jobs: Jobs) -> None:
        ended(jobs, "a", "b")
        ended(jobs, "c", state="failed")
        pending(jobs, "d", "e")
        jobs.add(Request("f", document("x")), priority=1)
        jobs.claim("worker")

        def listed(**query: Any) -> tuple[list[str], int]:
            answer = server.get(self.LIST, **query).json
            return [job["id"] for job in answer["jobs"]], answer["total"]

        assert listed() == (["c", "b", "a"], 3)
        assert listed(state="done", limit=1) == (["b"], 2)
        assert listed(state="done", limit=1, offset=1) == (["a"], 2)
        assert listed(state="pending") == (["d", "e"], 2)
        assert listed(state="running") == (["f"], 1)

    def test_the_list_ends_early_if_it_would_be_long(
        self, server: Server, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(control, "ENTRY_BYTES", 10_000)
        ended(jobs, *"abcd", outputs={"1": files("x" * 6000)})
        answer = server.get(self.LIST).json
        assert ([job["id"] for job in answer["jobs"]], answer["total"]) == (["d", "c"], 4)
