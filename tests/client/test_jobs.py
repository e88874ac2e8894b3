"""Jobs from submitting to their files, through the client, at a running server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from engine.client import (
    AsyncClient,
    AsyncFile,
    AsyncResult,
    Client,
    Event,
    Job,
    JobEnded,
    NodePreview,
    NodeSaved,
    Place,
    answers,
)
from engine.client.connection import Connection
from engine.errors import Cancelled, MissingError, NodeError, UsageError
from engine.events import (
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeReported,
    NodeStarted,
    NodeText,
    RunFinished,
    RunStarted,
)
from engine.figures import Figure
from tests.client.conftest import JOB
from tests.server.live import Live, saving


def kinds(events: list[Event]) -> list[type]:
    """The kinds of events, but for progress, of which there may be any number."""
    return [type(event) for event in events if not isinstance(event, NodeProgress)]


def until(job: Job, state: str) -> None:
    end = time.monotonic() + 30
    while job.status().state != state:
        assert time.monotonic() < end
        time.sleep(0.02)


RUN = [RunStarted, NodeStarted, NodeFinished, NodeStarted, NodeSaved, NodeFinished, RunFinished, JobEnded]


def test_a_job_tells_all_from_its_start_to_its_end(client: Client) -> None:
    job = client.submit(saving("Wait", "told", steps=5))
    events = list(job.events())
    assert kinds(events) == RUN
    progress = [event for event in events if isinstance(event, NodeProgress)]
    assert progress
    assert {(event.node, event.total) for event in progress} == {("1", 5)}
    assert isinstance(events[-1], JobEnded)
    assert events[-1].status.state == "done"


def test_what_a_node_reports_is_told_and_in_the_job_s_status(client: Client) -> None:
    job = client.submit(saving("Weigh", "by client"))
    report = {"letters": Figure(9), "time": Figure(0.5, "s")}
    assert NodeReported("1", report) in list(job.events())
    assert job.status().reports == {"1": report}


def test_what_was_told_before_anyone_listened_is_told_as_well(client: Client) -> None:
    job = client.submit(saving("Wait", "late", steps=3))
    job.wait()
    assert kinds(list(job.events())) == RUN
    assert kinds(list(job.events())) == RUN


def test_clients_and_results_print_as_what_they_are(client: Client) -> None:
    assert repr(Client("http://127.0.0.1:9/?token=secret")) == "<Client of http://127.0.0.1:9/>"
    assert repr(AsyncClient("http://127.0.0.1:9/")) == "<AsyncClient of http://127.0.0.1:9/>"
    result = client.run(saving("Wait", "printed", steps=1))
    first, *others = repr(result).splitlines()
    assert first.startswith(f"job {result.status.number} done in ")
    assert others == [f"  2: {result.files[0].name}"]


def test_a_result_names_only_so_many_files() -> None:
    status = answers.Job.model_validate(JOB).status
    files = tuple(
        AsyncFile(str(number), Place(filename="a.png"), Connection("http://127.0.0.1:9")) for number in range(20)
    )
    lines = repr(AsyncResult(status, files)).splitlines()
    assert lines[0] == "job 1 done"
    assert lines[-2:] == ["  11: a.png", "  and 8 more files"]


def test_a_result_has_files_that_can_be_read_and_downloaded(client: Client, tmp_path: Path) -> None:
    result = client.run(saving("Wait", "a result", steps=1))
    (file,) = result.files
    assert (file.node, file.subfolder, file.type, file.media) == ("2", "", "output", "text")
    assert file.read() == b"a result"
    path = file.download(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / file.name
    assert path.read_text() == "a result"
    assert result.status.started is not None
    assert result.status.finished is not None
    assert result.status.created <= result.status.started <= result.status.finished


def test_a_download_writes_over_nothing(client: Client, tmp_path: Path) -> None:
    (file,) = client.run(saving("Wait", "once", steps=1)).files
    kept = tmp_path / file.name
    kept.write_text("mine")
    other = file.download(tmp_path)
    assert other.name == f"{kept.stem} (1){kept.suffix}"
    assert file.download(tmp_path) == other
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {kept.name: "mine", other.name: "once"}


def test_a_folder_that_cannot_be_written_is_told(client: Client, tmp_path: Path) -> None:
    (file,) = client.run(saving("Wait", "nowhere", steps=1)).files
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"can't be saved in .*file: File exists"):
        file.download(tmp_path / "file")


def test_what_saves_nothing_gives_texts(client: Client) -> None:
    result = client.run({"1": {"class_type": "Wait", "inputs": {"text": "in short", "steps": 1}}}, targets=["1"])
    assert result.files == ()
    assert result.texts == ("out: 'in short'",)


def test_a_job_that_fails_says_where_and_why(client: Client) -> None:
    job = client.submit(saving("Shout"))
    with pytest.raises(NodeError, match="node 1: ValueError: xxx") as caught:
        job.wait()
    assert caught.value.node == "1"
    status = job.status()
    assert status.state == "failed"
    assert status.problems == caught.value.problems
    (failed,) = [event for event in job.events() if isinstance(event, NodeFailed)]
    assert (failed.node, failed.kind, failed.error) == ("1", "Shout", "ValueError")


def test_a_job_whose_worker_dies_tells_the_end_all_the_same(client: Client) -> None:
    job = client.submit(saving("Leave"))
    events = list(job.events())
    assert isinstance(events[-1], JobEnded)
    assert events[-1].status.attempts == 2
    with pytest.raises(NodeError, match="its worker ended by exit code 3"):
        job.wait()


def test_a_job_that_runs_can_be_cancelled(client: Client) -> None:
    job = client.submit(saving("Wait", "cancelled", steps=2000))
    for event in job.events():
        if isinstance(event, NodeProgress):
            job.cancel()
            break
    with pytest.raises(Cancelled):
        job.wait(30)
    with pytest.raises(UsageError, match="is neither pending nor running"):
        job.cancel()


def test_a_job_that_waits_can_be_cancelled_and_tried_again(client: Client) -> None:
    client.pause()
    job = client.submit(saving("Wait", "tried again", steps=1))
    assert job.status().state == "pending"
    job.cancel()
    assert kinds(list(job.events())) == [JobEnded]
    with pytest.raises(Cancelled, match=job.id):
        job.wait()
    job.retry()
    client.resume()
    assert kinds(list(job.events())) == RUN
    assert job.wait().files[0].read() == b"tried again"
    with pytest.raises(UsageError, match="has neither failed nor been cancelled"):
        job.retry()


def test_jobs_that_wait_have_an_order(client: Client) -> None:
    client.pause()
    first, second, third = (client.submit(saving("Wait", f"order {number}")) for number in range(3))
    front, urgent = client.submit(saving("Wait"), front=True), client.submit(saving("Wait"), priority=5)
    third.move(before=second)
    first.move(to="back")
    queue = client.queue()
    assert queue.paused
    jobs = [urgent, front, third, second, first]
    assert [status.id for status in queue.pending] == [job.id for job in jobs]
    assert [job.number for job in (first, second, third)] == sorted(job.number for job in (first, second, third))
    with pytest.raises(UsageError, match="a job is moved either 'before' another job or 'to' an end"):
        first.move()
    for job in jobs:
        job.cancel()
    assert {status.id for status in client.history(5)} == {job.id for job in jobs}


def test_waiting_has_an_end_and_the_job_goes_on(client: Client) -> None:
    job = client.submit(saving("Wait", "on and on", steps=2000))
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s; it goes on"):
        job.wait(0.2)
    until(job, "running")
    job.cancel()


def test_two_clients_each_hear_of_their_own_job_and_of_the_others(client: Client, server: Live) -> None:
    with Client(server.address) as other:
        mine, theirs = client.submit(saving("Wait", "mine", steps=9)), other.submit(saving("Wait", "theirs", steps=9))
        same = client.job(theirs.id)
        assert (same.id, same.number) == (theirs.id, theirs.number)
        told = list(theirs.events())
        assert kinds(told) == RUN
        assert kinds(list(mine.events())) == RUN
        (saved,) = [event for event in told if isinstance(event, NodeSaved)]
        assert [file.read() for file in saved.files] == [b"theirs"]
        assert [file.read() for file in same.wait().files] == [b"theirs"]


def test_of_a_job_that_has_ended_before_the_files_are_told(
    client: Client, server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.client.watching.LAST_SECONDS", 60.0)
    with Client(server.address) as other:
        job = other.submit(saving("Wait", "long ago", steps=1))
        job.wait()
    found = client.job(job.id)
    begun = time.monotonic()
    assert kinds(list(found.events())) == [NodeSaved, JobEnded]
    assert time.monotonic() - begun < 30
    with pytest.raises(MissingError, match="there is no job 'nobody'"):
        client.job("nobody")


def test_text_comes_as_it_is_written(client: Client) -> None:
    job = client.submit(saving("Recite", "a snail in the rain"))
    pieces = [event.text for event in job.events() if isinstance(event, NodeText)]
    assert len(pieces) > 1
    assert "".join(pieces) == "a snail in the rain "
    (whole,) = [event.text for event in job.events() if isinstance(event, NodeText)]
    assert whole == "a snail in the rain "


def test_previews_come_to_those_who_ask(client: Client) -> None:
    job = client.submit(saving("Flicker", "seen"))
    preview = next(event for event in job.events(previews=True) if isinstance(event, NodePreview))
    assert preview.node == "1"
    assert preview.jpeg.startswith(b"\xff\xd8")
    assert NodePreview not in kinds(list(job.events()))


def test_inputs_are_given_by_the_names_that_a_workflow_exposes(client: Client) -> None:
    document = {"kinograph": 1, "inputs": {"theme": "1.text"}, "graph": saving("Wait", "before", steps=1)}
    (file,) = client.run(document, {"theme": "after", "1.steps": 2}).files
    assert file.read() == b"after"


def test_a_sweep_runs_every_combination(client: Client) -> None:
    job = client.sweep(saving("Wait", "swept"), {"1.text": ["a", "b"], "1.steps": [1, 2]})
    result = job.wait()
    assert sorted(file.read() for file in result.files if file.media == "text") == [b"a", b"a", b"b", b"b"]
    sheet, table = [file for file in result.files if file.node == "sweep"]
    assert (sheet.media, table.media) == ("image", "table")
    assert table.read().startswith(b"1.text,1.steps,status,files\n")
    assert [event.node for event in job.events() if isinstance(event, NodeSaved)][-1] == "sweep"


def test_an_upload_is_what_load_image_reads(client: Client, picture: Path) -> None:
    name = client.upload(picture, name='Schnecke "ä".png', subfolder="sent")
    assert name == 'sent/Schnecke "ä".png'
    graph: dict[str, Any] = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    (file,) = client.run(graph).files
    assert file.media == "image"
    assert file.read().startswith(b"\x89PNG")
    assert client.upload(picture, name='Schnecke "ä".png', subfolder="sent") == name
    with pytest.raises(MissingError, match="there is no file"):
        client.upload(picture.with_name("none.png"))
    with pytest.raises(UsageError, match=r"'a\\r\\nb\.png' can't be the name of an upload"):
        client.upload(picture, name="a\r\nb.png")


def test_a_server_tells_of_itself(client: Client) -> None:
    health = client.health()
    assert health.status == "ok"
    assert [worker.device for worker in health.workers] == ["cpu"]
    (text, steps) = client.nodes()["Wait"].inputs
    assert (text.name, text.type, text.required) == ("text", "str", True)
    assert (steps.name, steps.required, steps.default) == ("steps", False, 100)
    assert client.nodes()["Wait"].input_schema["properties"]["steps"]["type"] == "integer"
    assert "sprite/sdxl" in {model.source for model in client.models()}


async def _asynchronously(address: str, folder: Path) -> tuple[list[type], str]:
    async with AsyncClient(address) as client:
        job = await client.submit(saving("Wait", "asynchronous", steps=2))
        told = [type(event) async for event in job.events() if not isinstance(event, NodeProgress)]
        (file,) = (await job.wait()).files
        path = await file.download(folder)
        assert (await file.read()).decode() == path.read_text()
        return told, path.read_text()


def test_asynchronously_it_is_the_same(server: Live, tmp_path: Path) -> None:
    assert asyncio.run(_asynchronously(server.address, tmp_path)) == (RUN, "asynchronous")
