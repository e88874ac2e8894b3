"""What goes wrong between a client and a server is told clearly, and nothing that a server says is trusted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.client import AsyncClient, Client
from engine.errors import KinographError, MissingError, Problem, ServerError, UsageError, WorkflowError
from engine.server.http.routes import refusal
from tests.client.conftest import JOB, greeting, pretending
from tests.server.live import Live, live, saving

TOKEN = "a secret of these tests, with an ä"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("guarded"), env={"KINOGRAPH_TOKEN": TOKEN}) as running:
        yield running


class TestTokens:
    def test_given_as_it_is_in_the_address_or_by_the_environment(
        self, guarded: Live, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = f"http://{guarded.host}"
        for address, token in ((plain, TOKEN), (guarded.address, None)):
            with Client(address, token=token) as client:
                assert client.run(saving("Wait", steps=1)).files[0].read() == b"x"
        monkeypatch.setenv("KINOGRAPH_TOKEN", TOKEN)
        with Client(plain) as client:
            assert not client.queue().paused

    @pytest.mark.parametrize(("token", "said"), [("wrong", "doesn't take this token"), ("", "wants a token")])
    def test_wrong_or_none(self, guarded: Live, token: str, said: str) -> None:
        with Client(f"http://{guarded.host}", token=token) as client:
            for ask in (client.queue, lambda: client.submit(saving("Wait"))):
                with pytest.raises(UsageError, match=said) as caught:
                    ask()
                assert "KINOGRAPH_TOKEN" in (caught.value.hint or "")
                assert TOKEN not in str(caught.value)

    def test_that_cannot_be_one(self) -> None:
        with pytest.raises(UsageError, match="a token is one line"):
            Client(token="a\nb: c")


class TestNobody:
    def test_no_server(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and doesn't listen
            with Client(f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
                for ask in (client.health, lambda: client.run(saving("Wait"))):
                    with pytest.raises(ServerError, match=r"no server answers at http://127\.0\.0\.1") as caught:
                        ask()
                    assert "kinograph serve" in (caught.value.hint or "")

    def test_one_that_says_nothing(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with Client(f"http://127.0.0.1:{silent.getsockname()[1]}", silence_timeout=0.2) as client:
                for ask in (client.health, lambda: client.run(saving("Wait"))):
                    with pytest.raises(ServerError, match=r"has said nothing for 0\.2 s"):
                        ask()

    @pytest.mark.parametrize(
        "address", ["127.0.0.1:8188", "ftp://host", "http://", "http://a:b@host", "", "http://h:x"]
    )
    def test_no_address(self, address: str) -> None:
        with pytest.raises(UsageError, match="is not the address of a server"):
            Client(address)


class TestWorkflows:
    def test_all_that_is_wrong_is_told_with_its_place(self, client: Client) -> None:
        graph = saving("Wait", steps="many")
        graph["2"]["inputs"]["text"] = ["nowhere", 0]
        with pytest.raises(WorkflowError) as caught:
            client.submit(graph)
        places = {(problem.node, problem.input) for problem in caught.value.problems}
        assert places == {("1", "steps"), ("2", "text")}
        checked = client.validate(graph)
        assert not checked.valid
        assert checked.problems == caught.value.problems

    def test_nothing_is_run_in_part(self, client: Client) -> None:
        graph = saving("Wait", steps=1) | {"3": {"class_type": "Note", "inputs": {}}}
        with pytest.raises(WorkflowError, match="node 3, input text"):
            client.submit(graph)
        assert client.run(graph, targets=["2"]).files
        with pytest.raises(WorkflowError, match="node 3, input text"):
            client.submit(graph, targets=["2", "3"])

    def test_a_file_that_is_missing(self, client: Client) -> None:
        graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
        for ask in (lambda: client.submit(graph), lambda: client.sweep(graph, {"1.image": ["a.png", "b.png"]})):
            with pytest.raises(MissingError) as caught:
                ask()
            assert (caught.value.node, caught.value.input) == ("1", "image")
        checked = client.validate(graph)
        assert (checked.valid, checked.problems, len(checked.missing)) == (False, (), 1)

    def test_values_that_the_server_does_not_take(self, client: Client) -> None:
        with pytest.raises(UsageError, match="priority"):
            client.submit(saving("Wait"), priority=10**6)
        with pytest.raises(UsageError, match="limit"):
            client.history(0)
        with pytest.raises(UsageError, match=r"there is no such input|has no such input"):
            client.sweep(saving("Wait"), {"1.nothing": [1, 2]})


def asked(answers: dict[str, Any], ask: Any, **how: Any) -> Any:
    """What comes of asking a server that only pretends to be one."""

    async def asking() -> Any:
        async with pretending(answers) as address, AsyncClient(address, **how) as client:
            return await ask(client)

    return asyncio.run(asking())


HEALTH, QUEUE, ONE = "/api/kinograph/health", "/api/kinograph/queue", "/api/kinograph/jobs/job"


class TestStrangers:
    def test_another_program(self) -> None:
        for ask in (AsyncClient.health, lambda client: client.submit(saving("Wait"))):
            with pytest.raises(ServerError, match=r"answers GET /\S+ with status 404 \(is that its address"):
                asked({}, ask)

    @pytest.mark.parametrize("said", [b"", b"<html>", b"[]", b'{"workers": 3}', b'{"status": "ok", "workers": [{}]}'])
    def test_answers_that_are_none(self, said: bytes) -> None:
        with pytest.raises(ServerError, match=r"what the server at \S+ says can't be read") as caught:
            asked({HEALTH: said}, AsyncClient.health)
        assert "one version" in (caught.value.hint or "")

    def test_answers_that_are_newer_can_be_read(self) -> None:
        job = {**JOB, "outputs": {"1": {"holograms": [{"filename": "a.holo", "new": 1}]}}, "mood": "fine"}
        queue = asked({QUEUE: {"running": [job], "pending": [], "total_pending": 0, "new": []}}, AsyncClient.queue)
        (place,) = queue.running[0].outputs["1"]
        assert (place.name, place.media) == ("a.holo", "file")

    def test_an_answer_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("engine.client.connection.MOST_BYTES", 1 << 20)
        with pytest.raises(ServerError, match="answers with more than 1,048,576 bytes"):
            asked({HEALTH: b" " * (2 << 20)}, AsyncClient.health)

    def test_the_token_is_sent_nowhere_else(self) -> None:
        elsewhere: list[str] = []

        async def other(request: web.Request) -> web.StreamResponse:
            elsewhere.append(request.path)
            return web.json_response({})

        async def asking() -> None:
            async with pretending({"/{rest:.*}": other}) as there:

                async def redirect(request: web.Request) -> web.StreamResponse:
                    raise web.HTTPTemporaryRedirect(there)

                async with pretending({HEALTH: redirect}) as here, AsyncClient(here, token="secret") as client:
                    await client.health()

        with pytest.raises(ServerError, match="status 307"):
            asyncio.run(asking())
        assert elsewhere == []

    def test_a_connection_that_breaks_in_the_middle(self) -> None:
        async def half(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"status": ')
            assert request.transport
            request.transport.abort()
            return response

        with pytest.raises(ServerError, match=r"the connection to the server at .* broke"):
            asked({HEALTH: half}, AsyncClient.health)

    @pytest.mark.parametrize("is_taken", [True, False])
    def test_one_that_breaks_before_a_job_is_known_to_be_taken(self, is_taken: bool) -> None:
        taken: list[str] = []

        async def take(request: web.Request) -> web.StreamResponse:
            if is_taken:
                taken.append((await request.json())["prompt_id"])
            assert request.transport
            request.transport.abort()
            return web.Response()

        async def tell(request: web.Request) -> web.StreamResponse:
            if request.match_info["id"] not in taken:
                return refusal(404, "MissingError", [Problem("there is no such job")])
            return web.json_response(JOB | {"id": request.match_info["id"]})

        async def submit(client: AsyncClient) -> str:
            return (await client.submit(saving("Wait"))).id

        answers = {"/ws": greeting, "/prompt": take, "/api/kinograph/jobs/{id}": tell}
        if is_taken:
            assert [asked(answers, submit)] == taken
        else:
            with pytest.raises(ServerError, match="broke"):
                asked(answers, submit)

    def test_events_that_cannot_be_read_end_the_waiting(self) -> None:
        async def babbling(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                await socket.send_json({"type": "feature_flags", "data": {"kinograph_events": True}})
                events = [{"event": "unheard_of"}, {"event": "node_started", "node": 1}]
                await socket.send_json({"type": "kinograph", "data": {"job": "job", "events": events}})
            return socket

        async def wait(client: AsyncClient) -> object:
            return await (await client.job("job")).wait(10)

        with pytest.raises(ServerError, match="node: Input should be a valid string"):
            asked({"/ws": babbling, ONE: JOB | {"state": "running"}}, wait)


HOSTILE = [
    "../outside.txt",
    "/etc/outside.txt",
    "..",
    ".",
    "",
    ".bashrc",
    "a/b.txt",
    "..\\outside.txt",
    "C:\\outside.txt",
    "C:outside.txt",
    "a\0.txt",
    "a\n.txt",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    job = JOB | {"outputs": {"1": {"texts": [{"filename": name, "subfolder": "../..", "type": "output"}]}}}

    async def download(client: AsyncClient) -> tuple[bytes, list[Path]]:
        (file,) = (await (await client.job("job")).wait()).files
        with pytest.raises(KinographError, match="can't be the name of a file here"):
            await file.download(tmp_path / "kept")
        return await file.read(), [*tmp_path.rglob("*")]

    assert asked({ONE: job, "/view": b"evil", "/ws": greeting}, download) == (b"evil", [])
