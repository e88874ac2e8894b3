"""Kinograph's own routes: check, convert, sweep, reorder, pause, retry, watch."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.work.queue import Jobs
from engine.work.records import Request
from tests.server.live import Live, live, saving

OWN = "/api/kinograph"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def paused(server: Live) -> Iterator[Live]:
    """A server with a paused queue, so that its order can be checked."""
    server.post(f"{OWN}/pause")
    yield server
    server.post("/queue", {"clear": True})
    server.post(f"{OWN}/resume")


def waiting(server: Live) -> list[str]:
    return [job["id"] for job in server.get(f"{OWN}/queue")["pending"]]


def test_a_job_with_a_negative_number_goes_first(paused: Live) -> None:
    first, second = (paused.submit(saving("Wait", name, steps=0)) for name in ("first", "second"))
    urgent = paused.submit(saving("Wait", "urgent", steps=0), number=-1)
    assert waiting(paused) == [urgent, first, second]


class TestWorkflows:
    def test_a_valid_workflow(self, server: Live) -> None:
        found = server.post(f"{OWN}/validate", {"workflow": saving("Wait")})
        nothing: dict[str, Any] = {name: [] for name in ("problems", "missing", "to_fetch", "warnings")}
        assert found == {"valid": True, "nodes": 2, "targets": ["2"]} | nothing

    def test_an_old_one_is_brought_to_todays_form_and_warned_of(self, server: Live) -> None:
        graph = saving("Mumble") | {"1": {"class_type": "Mumble", "inputs": {"words": "hello"}}}
        found = server.post(f"{OWN}/validate", {"workflow": graph})
        assert found["valid"] is True
        assert [problem["message"] for problem in found["warnings"]] == ["Mumble is deprecated: use Recite instead"]
        document = server.post(f"{OWN}/convert", {"workflow": graph})["document"]
        assert document["graph"]["1"]["inputs"] == {"text": "hello"}
        assert server.get("/object_info/Mumble")["Mumble"]["deprecated"] is True
        assert server.get("/object_info/Recite")["Recite"]["deprecated"] is False
        assert server.ended(server.submit(graph))["state"] == "done"

    def test_all_problems_are_reported(self, server: Live) -> None:
        graph = saving("Wait", steps="x") | {"3": {"class_type": "Nonsense", "inputs": {}}}
        found = server.post(f"{OWN}/validate", {"workflow": graph})
        assert found["valid"] is False
        assert {(problem["node"], problem["input"]) for problem in found["problems"]} == {("1", "steps"), ("3", None)}

    def test_missing_files_are_reported_separately(self, server: Live) -> None:
        graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "nowhere.png"}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
        found = server.post(f"{OWN}/validate", {"workflow": graph})
        assert (found["problems"], [problem["input"] for problem in found["missing"]]) == ([], ["image"])

    def test_a_workflow_whose_missing_models_can_be_fetched_is_valid(self, server: Live) -> None:
        graph = {"1": {"class_type": "LLMLoad", "inputs": {"source": "pypi:no-such-package==1/model.gguf"}}}
        graph["2"] = {"class_type": "LookaheadDecode", "inputs": {"llm": ["1", 0], "prompt": "a"}}
        graph["3"] = {"class_type": "SaveText", "inputs": {"text": ["2", "text"]}}
        found = server.post(f"{OWN}/validate", {"workflow": graph})
        assert (found["valid"], found["missing"], found["targets"]) == (True, [], ["3"])
        assert found["to_fetch"] == ["pypi:no-such-package==1/model.gguf"]

    def test_a_bare_graph_becomes_a_document(self, server: Live) -> None:
        document = server.post(f"{OWN}/convert", {"workflow": saving("Wait")})["document"]
        assert document == {"kinograph": 1, "graph": saving("Wait")}

    def test_the_ui_format_becomes_a_document(self, server: Live) -> None:
        note = {"id": 7, "type": "Note", "pos": [1, 2], "mode": 0, "inputs": [], "outputs": []}
        note |= {"widgets_values": ["hello"]}
        ui = {"nodes": [note], "links": [], "version": 0.4, "last_node_id": 7, "last_link_id": 0}
        assert "graph" in server.post(f"{OWN}/convert", {"workflow": ui})["document"]

    @pytest.mark.parametrize("sent_as", ["JSON", "a file"])
    @pytest.mark.parametrize("format", ["graph", "UI format"])
    def test_values_that_a_node_does_not_have_are_told(
        self, server: Live, tmp_path: Path, format: str, sent_as: str
    ) -> None:
        foreign = saving("Recite", text="hello", volume=3)
        if format == "UI format":
            node = {"id": 1, "type": "Recite", "pos": [1, 2], "mode": 0, "inputs": [], "outputs": []}
            node |= {"widgets_values": {"text": "hello", "volume": 3}}
            foreign = {"nodes": [node], "links": [], "version": 0.4, "last_node_id": 1, "last_link_id": 0}
        if sent_as == "JSON":
            answer = server.post(f"{OWN}/convert", {"workflow": foreign})
        else:
            (tmp_path / "a.json").write_text(json.dumps(foreign))
            answer = self.converted(server, tmp_path / "a.json")
        (warning,) = answer["warnings"]
        assert (warning["node"], warning["input"]) == ("1", "volume")
        assert warning["message"] == "is ignored: Recite has no such input"
        assert answer["document"]["graph"]["1"]["inputs"] == {"text": "hello"}

    def test_a_document_keeps_values_that_a_node_does_not_have(self, server: Live) -> None:
        document = {"kinograph": 1, "graph": saving("Recite", text="hello", volume=3)}
        answer = server.post(f"{OWN}/convert", {"workflow": document})
        assert answer == {"document": document, "warnings": []}

    def test_a_saved_picture_is_converted_to_its_workflow(self, server: Live) -> None:
        graph = {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
        job = server.ended(server.submit(graph))
        file = job["outputs"]["2"]["images"][0]["filename"]
        assert self.converted(server, server.folder / "output" / file)["document"]["graph"] == graph

    def test_a_file_without_a_workflow_is_refused(self, server: Live, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text("[]")
        with pytest.raises(AssertionError, match="a workflow is a JSON object"):
            self.converted(server, path)

    def converted(self, server: Live, path: Path) -> dict[str, Any]:
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        status, answer = server.ask(
            "POST", f"{OWN}/convert", body, {"Content-Type": f"multipart/form-data; boundary={edge}"}
        )
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found


class TestSweeps:
    def test_every_combination_is_run_and_laid_out(self, server: Live) -> None:
        graph = {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
        axes = [{"name": "1.color", "values": [0, 255]}, {"name": "1.width", "values": [8, 16, 24]}]
        answer = server.post(f"{OWN}/sweeps", {"workflow": graph, "axes": axes, "prompt_id": "my-sweep"})
        assert answer["prompt_id"] == "my-sweep"
        assert answer["combinations"] == 6
        job = server.ended(answer["prompt_id"])
        assert job["state"] == "done", job
        (sheet,) = job["outputs"]["sweep"]["images"]
        assert (server.folder / "output" / sheet["filename"]).is_file()
        assert len([node for node in job["outputs"] if node.endswith(":2")]) == 6

    def test_nodes_that_the_combinations_run_are_not_reported_as_cached(self, server: Live) -> None:
        axes = [{"name": "1.text", "values": ["one", "two"]}]
        answer = server.post(f"{OWN}/sweeps", {"workflow": saving("Wait", steps=1), "axes": axes})
        server.ended(answer["prompt_id"])
        messages = server.get(f"/history/{answer['prompt_id']}")[answer["prompt_id"]]["status"]["messages"]
        assert [kind for kind, _ in messages] == ["execution_start", "execution_success"]

    def test_an_unknown_input_is_refused(self, server: Live) -> None:
        axes = [{"name": "1.nothing", "values": [1]}]
        status, answer = server.ask("POST", f"{OWN}/sweeps", {"workflow": saving("Wait"), "axes": axes})
        assert status == 400
        (problem,) = answer["problems"]
        assert problem["message"] == "axis 1.nothing: the workflow has no such input"

    def test_a_value_that_is_given_twice_is_refused(self, server: Live) -> None:
        axes = [{"name": "1.steps", "values": [1, 1, 2]}]
        status, answer = server.ask("POST", f"{OWN}/sweeps", {"workflow": saving("Wait"), "axes": axes})
        assert (status, answer["problems"][0]["message"]) == (400, "axis 1.steps: 1 is given twice")

    def test_values_stay_what_they_are(self, server: Live) -> None:
        axes = [{"name": "1.text", "values": ["1", "null"]}, {"name": "1.steps", "values": [1]}]
        answer = server.post(f"{OWN}/sweeps", {"workflow": saving("Wait"), "axes": axes})
        job = server.ended(answer["prompt_id"])
        assert (job["state"], job["axes"]) == ("done", axes)
        axes = [{"name": "1.steps", "values": ["1"]}]
        status, refused = server.ask("POST", f"{OWN}/sweeps", {"workflow": saving("Wait"), "axes": axes})
        assert (status, refused["problems"][0]["message"]) == (400, "should be a valid integer, not '1'")

    def test_a_sweep_that_an_earlier_version_queued_is_run(self, server: Live) -> None:
        document = {"kinograph": 1, "graph": saving("Wait")}
        old = {"name": "1.steps", "values": ["1", "2"]}
        (queue,) = (server.folder / "home").rglob("jobs.sqlite")
        with Jobs(queue) as jobs:
            jobs.add(Request("old-sweep", document, axes=[old]))
        job = server.ended("old-sweep")
        assert (job["state"], job["axes"]) == ("done", [old])

    def test_an_invalid_value_is_reported_at_its_input(self, server: Live) -> None:
        axes = [{"name": "1.steps", "values": [1, "many"]}]
        status, answer = server.ask("POST", f"{OWN}/sweeps", {"workflow": saving("Wait"), "axes": axes})
        assert (status, answer["problems"][0]["input"]) == (400, "steps")


class TestTheQueue:
    def test_order(self, paused: Live) -> None:
        first, second, third = (paused.submit(saving("Wait", name)) for name in "abc")
        assert waiting(paused) == [first, second, third]
        paused.post(f"{OWN}/jobs/{third}/move", {"before": second})
        assert waiting(paused) == [first, third, second]
        paused.post(f"{OWN}/jobs/{second}/move", {"to": "front"})
        assert waiting(paused) == [second, first, third]
        paused.post(f"{OWN}/jobs/{third}/priority", {"priority": 2})
        assert waiting(paused) == [third, second, first]

    def test_invalid_changes_are_refused(self, paused: Live) -> None:
        job = paused.submit(saving("Wait"))
        for path, body in (
            (f"jobs/{job}/move", {}),
            (f"jobs/{job}/move", {"before": "nobody"}),
            (f"jobs/{job}/priority", {"priority": 10**9}),
            (f"jobs/{job}/retry", {}),
        ):
            assert paused.ask("POST", f"{OWN}/{path}", body)[0] == 400
        for change, body in (("cancel", {}), ("retry", {}), ("move", {"to": "front"}), ("priority", {"priority": 1})):
            assert paused.ask("POST", f"{OWN}/jobs/nobody/{change}", body)[0] == 404

    def test_a_job_can_be_cancelled_and_retried(self, paused: Live) -> None:
        job = paused.submit(saving("Wait", "again", steps=1))
        paused.post(f"{OWN}/jobs/{job}/cancel")
        assert paused.job(job)["state"] == "cancelled"
        paused.post(f"{OWN}/jobs/{job}/retry")
        paused.post(f"{OWN}/resume")
        assert paused.ended(job)["state"] == "done"

    def test_a_job_has_its_workflow_and_how_it_ended(self, server: Live) -> None:
        name = server.submit(saving("Wait", "finished", steps=1))
        job = server.ended(name)
        assert job["document"]["graph"] == saving("Wait", "finished", steps=1)
        assert set(job["record"]["timings"]) == {"1", "2"}
        assert job["seconds"] > 0

    def test_a_job_has_what_its_nodes_reported_unless_they_are_cached(self, server: Live) -> None:
        first, again = (server.ended(server.submit(saving("Weigh", "weighed")))["record"] for _ in range(2))
        assert first["reports"] == {"1": {"letters": {"value": 7, "unit": ""}, "time": {"value": 0.5, "unit": "s"}}}
        assert "reports" not in again

    def test_jobs_are_listed_by_state(self, server: Live) -> None:
        name = server.submit(saving("Wait", "listed", steps=1))
        server.ended(name)
        found = server.get(f"{OWN}/jobs?state=done&limit=1")
        assert [job["id"] for job in found["jobs"]] == [name]
        assert found["total"] >= 1
        assert server.ask("GET", f"{OWN}/jobs?state=odd")[0] == 400


class TestWatching:
    def test_editors_receive_the_raw_events(self, server: Live) -> None:
        messages = server.watch(saving("Wait", "events", steps=2), flags={"kinograph_events": True})
        mine = messages[-1]["data"]["prompt_id"]
        groups = [message["data"] for message in messages if message["type"] == "kinograph"]  # others' jobs too
        events = [event for group in groups if group["job"] == mine for event in group["events"]]
        names = [event["event"] for event in events]
        assert names[0] == "run_started"
        assert names[-1] == "run_finished"
        (saved,) = [event for event in events if event["event"] == "node_saved"]
        assert set(saved["files"][0]) == {"filename", "subfolder", "type"}
        assert str(server.folder) not in json.dumps(events)

    def test_editors_receive_what_nodes_report_and_others_do_not(self, server: Live) -> None:
        messages = server.watch(saving("Weigh", "told to editors"), flags={"kinograph_events": True})
        events = [
            event for message in messages if message["type"] == "kinograph" for event in message["data"]["events"]
        ]
        figures = {"letters": {"value": 15, "unit": ""}, "time": {"value": 0.5, "unit": "s"}}
        assert {"event": "node_reported", "node": "1", "figures": figures} in events
        foreign = [message for message in messages if message["type"] != "kinograph"]
        foreign += server.watch(saving("Weigh", "told to others"))
        assert "letters" not in json.dumps(foreign)

    def test_editors_receive_the_queue(self, server: Live) -> None:
        messages = server.watch(saving("Wait", "queue", steps=20), flags={"kinograph_events": True})
        queues = [message["data"] for message in messages if message["type"] == "queue"]
        assert any(queue["running"] for queue in queues)

    def test_health_and_metrics(self, server: Live) -> None:
        health = server.until(lambda: (found := server.get(f"{OWN}/health"))["status"] == "ok" and found)
        assert [worker["device"] for worker in health["workers"]] == ["cpu"]
        text = server.get(f"{OWN}/metrics").decode()
        assert 'kinograph_jobs{state="pending"} 0' in text
        assert 'kinograph_worker_bytes{device="cpu"}' in text
