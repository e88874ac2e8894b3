"""ComfyUI's protocol, as its clients use it, against a running server."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.work.reporting import PREVIEW_SECONDS
from tests.server.conftest import png
from tests.server.live import Live, live, saving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


NATIVE = {"kinograph_events": True}


def kinds(messages: list[Any]) -> list[str]:
    """The types of the messages, without those about progress and the queue."""
    names = [message["type"] for message in messages if isinstance(message, dict)]
    return [name for name in names if not name.startswith(("progress", "status"))]


def of(messages: list[Any], kind: str) -> list[dict[str, Any]]:
    return [message["data"] for message in messages if isinstance(message, dict) and message["type"] == kind]


def test_a_client_follows_a_job_from_start_to_end(server: Live) -> None:
    messages = server.watch(saving("Wait", "followed", steps=3))
    assert messages[0]["type"] == "status"
    assert messages[0]["data"]["sid"] == "me"
    expected = ["execution_start", "execution_cached", "executing", "executing", "executed", "execution_success"]
    assert kinds(messages) == [*expected, "executing"]
    assert [data["node"] for data in of(messages, "executing")] == ["1", "2", None]
    (executed,) = of(messages, "executed")
    assert executed["node"] == executed["display_node"] == "2"
    assert of(messages, "progress")[-1]["max"] == 3
    states = [data["nodes"] for data in of(messages, "progress_state")]
    assert states[-1]["2"]["state"] == "finished"


def test_the_history_is_written_before_the_end_is_announced(server: Live) -> None:
    messages = server.watch(saving("Wait", "history", steps=1))
    (job,) = {data["prompt_id"] for data in of(messages, "execution_start")}
    past = server.get(f"/history/{job}")[job]
    assert past["status"]["status_str"] == "success"
    assert past["status"]["completed"] is True
    assert [event for event, _ in past["status"]["messages"]][-1] == "execution_success"
    number, name, graph, extra, _ = past["prompt"]
    assert (name, graph, extra["client_id"]) == (job, saving("Wait", "history", steps=1), "me")
    assert isinstance(number, int)


def test_no_status_says_that_nothing_remains_before_the_end_is_announced(server: Live) -> None:
    for number in range(20):
        messages = server.watch(saving("Wait", f"short {number}", steps=0))
        started = [message["type"] for message in messages].index("execution_start")
        assert kinds(messages)[-2:] == ["execution_success", "executing"]
        left = [data["status"]["exec_info"]["queue_remaining"] for data in of(messages[started:], "status")]
        assert 0 not in left


def test_cached_nodes_are_reported_as_cached(server: Live) -> None:
    server.watch(saving("Wait", "twice", steps=1))
    messages = server.watch(saving("Wait", "twice", steps=1))
    (cached,) = of(messages, "execution_cached")
    assert set(cached["nodes"]) == {"1", "2"}
    assert len(of(messages, "executed")) == 1


def test_only_its_own_client_gets_the_messages_of_a_job(server: Live) -> None:
    job = server.submit(saving("Wait", "not mine", steps=1))
    messages = server.watch(saving("Wait", "mine", steps=1), client="another")
    assert job not in {data["prompt_id"] for data in of(messages, "execution_start")}


def test_a_failure_is_reported_with_node_and_trace(server: Live) -> None:
    graph = saving("TextLines", "") | {"1": {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}}
    graph["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    (server.folder / "input" / "broken.png").write_bytes(b"no picture")
    messages = server.watch(graph)
    (error,) = of(messages, "execution_error")
    assert (error["node_id"], error["node_type"]) == ("1", "LoadImage")
    assert "broken.png" in error["exception_message"]
    assert error["traceback"]
    past = server.get(f"/history/{error['prompt_id']}")[error["prompt_id"]]
    assert past["status"]["status_str"] == "error"
    assert past["status"]["completed"] is False


def test_a_failure_has_all_fields_that_clients_read(server: Live) -> None:
    graph = {
        "first": {"class_type": "Wait", "inputs": {"text": "before", "steps": 1}},
        "fails": {"class_type": "Shout", "inputs": {"text": ["first", 0]}},
        "last": {"class_type": "Note", "inputs": {"text": ["fails", 0]}},
    }
    messages = server.watch(graph)
    assert kinds(messages)[-2:] == ["execution_error", "executing"]
    (error,) = of(messages, "execution_error")
    (job,) = {data["prompt_id"] for data in of(messages, "execution_start")}
    message, trace = error.pop("exception_message"), error.pop("traceback")
    assert error == {
        "prompt_id": job,
        "timestamp": int(server.job(job)["finished"] * 1000),
        "node_id": "fails",
        "node_type": "Shout",
        "executed": ["first"],
        "exception_type": "ValueError",
        "current_inputs": {"text": "'before'"},
        "current_outputs": [],
    }
    assert message.startswith("ValueError: xxx")
    assert "run" in "".join(trace)
    assert all(line.endswith("\n") for line in trace[:-1])
    (past,) = server.get(f"/history/{job}").values()
    assert past["status"]["messages"][-1] == [
        "execution_error",
        error | {"exception_message": message, "traceback": trace},
    ]


def test_a_workflow_is_run_in_part_unless_it_is_wanted_whole(server: Live) -> None:
    graph = saving("Wait", "part", steps=1) | {"3": {"class_type": "Note", "inputs": {}}}
    answer = server.post("/prompt", {"prompt": graph})
    assert set(answer["node_errors"]) == {"3"}
    status, answer = server.ask("POST", "/prompt", {"prompt": graph, "whole": True})
    assert status == 400
    assert answer["error"]["extra_info"] == {"kind": "WorkflowError"}
    server.post("/prompt", {"prompt": graph, "whole": True, "partial_execution_targets": ["2"]})
    status, _ = server.ask("POST", "/prompt", {"prompt": graph, "whole": True, "partial_execution_targets": ["2", "3"]})
    assert status == 400


def test_problems_are_reported_by_node(server: Live) -> None:
    graph = saving("Wait", "x", steps="many")
    status, answer = server.ask("POST", "/prompt", {"prompt": graph})
    assert status == 400
    assert answer["error"]["type"] == "prompt_outputs_failed_validation"
    (error,) = answer["node_errors"]["1"]["errors"]
    assert error["type"] == "invalid_input_type"
    assert error["extra_info"] == {"input_name": "steps", "received_value": "many"}
    assert answer["node_errors"]["1"]["class_type"] == "Wait"
    assert answer["node_errors"]["1"]["dependent_outputs"] == ["2"]


def test_inputs_that_exist_only_for_widgets_are_dropped(server: Live) -> None:
    (server.folder / "input" / "red.png").write_bytes(png())
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "red.png", "upload": "image"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    answer = server.post("/prompt", {"prompt": graph})
    assert answer["node_errors"] == {}
    assert server.ended(answer["prompt_id"])["state"] == "done"


def test_constants_are_converted_only_where_the_protocol_has_them(server: Live) -> None:
    graph = saving("Wait", steps="1") | {"3": {"class_type": "Note", "inputs": {"text": 2024}}}
    answer = server.post("/prompt", {"prompt": graph})
    assert answer["node_errors"] == {}
    job = server.ended(answer["prompt_id"])
    assert job["state"] == "done"
    assert server.job(job["id"])["document"]["graph"]["1"]["inputs"]["steps"] == 1
    status, answer = server.ask("POST", "/prompt", {"prompt": saving("Wait", steps=1.5)})
    assert (status, list(answer["node_errors"])) == (400, ["1"])
    status, answer = server.ask("POST", "/prompt", {"prompt": {"kinograph": 1, "graph": graph}})
    assert (status, sorted(answer["node_errors"])) == (400, ["1", "3"])
    found = server.post("/api/kinograph/validate", {"workflow": graph})
    assert len(found["problems"]) == 2


def test_values_that_nodes_do_not_have_are_ignored_in_a_graph_and_told(server: Live) -> None:
    graph = saving("Wait", "odd", steps=1)
    graph["1"]["inputs"] |= {"stepz": 3, "strange": [1, 2, 3]}
    answer = server.post("/prompt", {"prompt": graph})
    assert answer["node_errors"] == {}
    (about,) = answer["node_warnings"].values()
    assert (about["class_type"], len(about["warnings"])) == ("Wait", 2)
    assert about["warnings"][0]["extra_info"] == {"input_name": "stepz"}
    assert server.ended(answer["prompt_id"])["state"] == "done"
    assert "input stepz: is ignored: Wait has no such input" in server.log
    status, answer = server.ask("POST", "/prompt", {"prompt": {"kinograph": 1, "graph": graph}})
    assert (status, len(answer["node_errors"]["1"]["errors"])) == (400, 2)


def test_what_can_be_run_is_run_and_the_rest_reported(server: Live) -> None:
    graph = saving("Wait", "good", steps=1) | {"bad": {"class_type": "Note", "inputs": {}}}
    answer = server.post("/prompt", {"prompt": graph})
    assert list(answer["node_errors"]) == ["bad"]
    job = server.ended(answer["prompt_id"])
    assert (job["state"], list(job["outputs"])) == ("done", ["2"])


def test_unknown_kinds_are_named(server: Live) -> None:
    status, answer = server.ask("POST", "/prompt", {"prompt": {"1": {"class_type": "KSampler", "inputs": {}}}})
    assert status == 400
    assert "KSampler" in answer["node_errors"]["1"]["errors"][0]["message"]


def test_only_the_nodes_asked_for_are_run(server: Live) -> None:
    graph = saving("Wait", "part", steps=1) | {"3": {"class_type": "Note", "inputs": {"text": "not this"}}}
    job = server.submit(graph, partial_execution_targets=["2"])
    assert list(server.ended(job)["outputs"]) == ["2"]


def test_a_client_chooses_the_id_once(server: Live) -> None:
    body = {"prompt": saving("Wait", "id", steps=1), "prompt_id": "my-id"}
    assert server.post("/prompt", body)["prompt_id"] == "my-id"
    status, answer = server.ask("POST", "/prompt", body)
    assert status == 400
    assert "my-id" in answer["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_bodies_are_json_whatever_they_call_themselves(server: Live, kind: str) -> None:
    status, answer = server.ask("POST", "/prompt", {"prompt": saving("Wait", kind)}, {"Content-Type": kind})
    assert status == 200, answer
    server.post(f"/api/jobs/{answer['prompt_id']}/cancel")


def test_jobs_wait_in_order_and_can_be_removed(server: Live) -> None:
    server.until(lambda: server.get("/prompt")["exec_info"]["queue_remaining"] == 0)
    running = server.submit(saving("Wait", "long", steps=500))
    server.running(running)
    first, second = (server.submit(saving("Wait", name)) for name in ("first", "second"))
    front = server.submit(saving("Wait", "front"), front=True)
    queue = server.get("/queue")
    assert [row[1] for row in queue["queue_running"]] == [running]
    assert [row[1] for row in queue["queue_pending"]] == [front, first, second]
    number = queue["queue_pending"][1][0]
    between = server.submit(saving("Wait", "between"), number=number + 0.5)
    very_first = server.submit(saving("Wait", "very first"), number=-1)
    queue = server.get("/queue")
    assert [row[1] for row in queue["queue_pending"]] == [very_first, front, first, between, second]
    assert server.get("/prompt") == {"exec_info": {"queue_remaining": 6}}
    server.post("/queue", {"delete": [first]})
    assert [row[1] for row in server.get("/queue")["queue_pending"]] == [very_first, front, between, second]
    server.post("/queue", {"clear": True})
    server.post("/interrupt")
    assert server.ended(running)["state"] == "cancelled"
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []}


def test_an_interrupted_job_is_reported_as_interrupted(server: Live) -> None:
    import threading

    def interrupt() -> None:
        server.until(lambda: server.get("/queue")["queue_running"])
        server.post("/interrupt")

    thread = threading.Thread(target=interrupt)
    thread.start()
    messages = server.watch(saving("Wait", "stop me", steps=1000))
    thread.join()
    assert kinds(messages)[-2:] == ["execution_interrupted", "executing"]


def test_an_unknown_job_has_no_history(server: Live) -> None:
    assert server.get("/history/none") == {}
    assert server.ask("GET", "/api/jobs/none")[0] == 404


def test_history_can_be_paged_and_cleared(server: Live) -> None:
    names = [server.submit(saving("Wait", f"page {n}", steps=1)) for n in range(3)]
    for name in names:
        server.ended(name)
    assert list(server.get("/history"))[-3:] == names
    assert list(server.get("/history?max_items=2")) == names[1:]
    everything = list(server.get("/history?max_items=1000&offset=0"))
    assert everything[-3:] == names
    assert list(server.get(f"/history?max_items=2&offset={len(everything) - 3}")) == names[:2]
    assert server.get(f"/history?max_items=2&offset={len(everything)}") == {}
    server.post("/history", {"delete": [names[1]]})
    assert names[1] not in server.get("/history")


def test_the_client_id_may_be_in_the_extra_data(server: Live) -> None:
    job = server.submit(saving("Wait", "beside", steps=1), extra_data={"client_id": "me"})
    assert server.ended(job)["client_id"] == "me"
    nobody = server.submit(saving("Wait", "beside", steps=1), client_id="", extra_data=None)
    assert server.ended(nobody)["client_id"] is None


def test_keys_to_other_services_are_neither_stored_nor_sent(server: Live) -> None:
    extra = {"api_key_comfy_org": "SECRET", "auth_token_comfy_org": "SECRET", "extra_pnginfo": {"workflow": {}}}
    job = server.submit(saving("Wait", "keys", steps=1), extra_data=extra)
    server.ended(job)
    (past,) = server.get(f"/history/{job}").values()
    assert past["prompt"][3].keys() == {"extra_pnginfo", "client_id", "create_time"}
    stored = b"".join(path.read_bytes() for path in (server.folder / "home").rglob("jobs.sqlite*"))
    assert b"extra_pnginfo" in stored
    assert b"SECRET" not in stored


def picture(name: str) -> dict[str, Any]:
    """A graph that saves a picture under a name."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": name}},
    }


def in_ui_format(name: str, color: str) -> dict[str, Any]:
    """The same graph in ComfyUI's UI format."""
    out, into = {"name": "IMAGE", "type": "IMAGE"}, {"name": "images", "type": "IMAGE", "link": 1}
    return {
        "nodes": [
            {"id": 1, "type": "EmptyImage", "pos": [0, 0], "color": color, "widgets_values": [8, 8], "outputs": [out]},
            {"id": 2, "type": "SaveImage", "pos": [300, 0], "widgets_values": [name], "inputs": [into]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "version": 0.4,
    }


def tags(server: Live, job: str) -> dict[str, Any]:
    """The metadata in the only picture of a job."""
    (file,) = server.ended(job)["outputs"]["2"]["images"]
    with Image.open(server.folder / "output" / file["filename"]) as saved:
        return {name: json.loads(text) for name, text in saved.text.items()}


def test_files_carry_the_workflow_that_the_client_sent_along(server: Live) -> None:
    for color in ("#111111", "#222222"):  # the second time from the cache
        sent = in_ui_format("sent", color)
        job = server.submit(picture("sent"), extra_data={"extra_pnginfo": {"workflow": sent, "tool": [1]}})
        document = {"kinograph": 1, "graph": picture("sent")}
        assert tags(server, job) == {"prompt": picture("sent"), "kinograph": document, "workflow": sent, "tool": [1]}
    opened = server.get("/api/kinograph/outputs/workflow?filename=sent_00002.png")["document"]
    assert list(opened["graph"]) == ["1", "2"]
    assert opened["layout"]["nodes"]["1"]["color"] == "#222222"


def test_the_workflow_that_the_client_sent_survives_a_restart(tmp_path: Path) -> None:
    sent = in_ui_format("later", "#333333")
    with live(tmp_path) as server:
        server.post("/api/kinograph/pause")
        job = server.submit(picture("later"), extra_data={"extra_pnginfo": {"workflow": sent}})
        server.kill()
        server.start()
        server.post("/api/kinograph/resume")
        assert tags(server, job)["workflow"] == sent


@pytest.mark.parametrize("extra", [{}, {"extra_pnginfo": None}, {"extra_pnginfo": {"workflow": {"nodes": 5}}}])
def test_files_carry_a_workflow_for_comfyuis_editor_if_none_was_sent(server: Live, extra: dict[str, Any]) -> None:
    found = tags(server, server.submit(picture("plain"), extra_data=extra))
    drawn = found.pop("workflow")
    assert found == {"prompt": picture("plain"), "kinograph": {"kinograph": 1, "graph": picture("plain")}}
    assert [(node["id"], node["type"]) for node in drawn["nodes"]] == [(1, "EmptyImage"), (2, "SaveImage")]
    assert drawn["links"] == [[1, 1, 0, 2, 0, "IMAGE"]]
    assert drawn["nodes"][1]["widgets_values"] == ["plain", 1]


@pytest.mark.parametrize("body", [{}, {"prompt": {}}, {"prompt": 5}, {"prompt": {"1": {"class_type": 5}}}])
def test_every_refusal_has_the_fields_that_clients_expect(server: Live, body: dict[str, Any]) -> None:
    status, answer = server.ask("POST", "/prompt", body)
    assert status == 400
    assert set(answer["error"]) == {"type", "message", "details", "extra_info"}
    assert isinstance(answer["node_errors"], dict)


def test_all_jobs_are_listed_in_pages(server: Live) -> None:
    for name in [server.submit(saving("Wait", f"listed {n}", steps=1)) for n in range(2)]:
        server.ended(name)
    page = server.get("/api/jobs?limit=1")
    assert (len(page["jobs"]), page["pagination"]["has_more"]) == (1, True)
    assert page["jobs"][0]["status"] == "completed"
    total = page["pagination"]["total"]
    for limit, offset, more in ((total, 0, False), (1, total - 1, False), (1, total - 2, True)):
        last = server.get(f"/api/jobs?limit={limit}&offset={offset}")
        assert (len(last["jobs"]), last["pagination"]["has_more"]) == (limit, more)


@pytest.mark.parametrize("path", ["/history", "/api/jobs", "/api/kinograph/jobs"])
def test_huge_numbers_are_handled(server: Live, path: str) -> None:
    for name in ("offset", "limit", "max_items"):
        assert server.ask("GET", f"{path}?{name}={10**30}")[0] in (200, 400)
    assert "Traceback" not in server.log


def test_every_route_is_also_under_api(server: Live) -> None:
    for path in ("/queue", "/history", "/prompt", "/object_info", "/system_stats"):
        assert server.get(f"/api{path}").keys() == server.get(path).keys()


def test_previews_are_sent_to_clients_that_ask_for_them(server: Live) -> None:
    graph = {
        "model": {"class_type": "ImageModelLoad", "inputs": {"source": "sprite/sdxl"}},
        "draw": {
            "class_type": "KeyframeSampler",
            "inputs": {"model": ["model", 0], "prompt": "a red fish", "steps": 8, "guidance_scale": 1.0},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["draw", 0]}},
    }
    messages = server.watch(graph, flags={"supports_preview_metadata": True})
    previews = [message for message in messages if isinstance(message, bytes)]
    assert previews
    form, length = struct.unpack(">II", previews[0][:8])
    assert form == 4
    assert b'"display_node_id": "draw"' in previews[0][8 : 8 + length]
    assert previews[0][8 + length :].startswith(b"\xff\xd8")

    graph["draw"]["inputs"]["seed"] = 1
    messages = server.watch(graph, flags={"supports_preview_metadata": False})
    plain = [message for message in messages if isinstance(message, bytes)]
    assert [struct.unpack(">II", message[:8]) for message in plain[:1]] == [(1, 1)]

    graph["draw"]["inputs"]["seed"] = 2
    assert not [message for message in server.watch(graph) if isinstance(message, bytes)]


def test_the_rate_of_previews_is_limited(server: Live) -> None:
    start = time.monotonic()
    messages = server.watch(saving("Flicker", "seldom"), flags={"supports_preview_metadata": True})
    took = time.monotonic() - start
    assert 1 <= len([message for message in messages if isinstance(message, bytes)]) <= 2 + took / PREVIEW_SECONDS


def test_the_text_of_a_node_is_sent_while_it_is_written(server: Live) -> None:
    graph = {
        "é": {"class_type": "Recite", "inputs": {"text": "eine Schnecke läuft"}},
        "2": {"class_type": "Note", "inputs": {"text": ["é", 0]}},
    }
    pieces = [message for message in server.watch(graph) if isinstance(message, bytes)]
    heads = {(struct.unpack(">II", message[:8]), message[8:10]) for message in pieces}
    assert heads == {((3, 2), "é".encode())}
    assert b"".join(message[10:] for message in pieces).decode() == "eine Schnecke läuft "
    assert len(pieces) > 1

    graph["é"]["inputs"]["text"] = "noch einmal"
    assert not [message for message in server.watch(graph, flags=NATIVE) if isinstance(message, bytes)]


def test_output_printed_by_nodes_does_no_harm(server: Live) -> None:
    job = server.ended(server.submit(saving("Chatter")))
    assert job["state"] == "done"
    assert "this belongs to no protocol" in server.log


def test_long_titles_and_ids_are_not_sent_to_everyone(server: Live) -> None:
    graph = saving("Wait", "titled", steps=1)
    job = server.submit({"kinograph": 1, "title": "a" * 1_000_000 + "z", "graph": graph})
    found = server.job(job)
    assert len(found["title"]) < 250
    assert found["title"].startswith("aaa")
    assert found["title"].endswith("z")
    assert len(found["document"]["title"]) == 1_000_001
    for where in ({"client_id": "x" * 201}, {"extra_data": {"client_id": "x" * 201}}):
        status, refused = server.ask("POST", "/prompt", {"prompt": graph, **where})
        assert status == 400
        assert "200 characters" in refused["error"]["message"]
