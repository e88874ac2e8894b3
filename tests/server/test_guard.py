"""Attacks: pages of other sites, rebound names, forged origins, missing tokens, hostile bodies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from engine.server.app import ROUTES
from engine.server.http.routes import paths
from tests.server.live import Live, live, saving

TOKEN = "a secret of these tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("guarded"), env={"KINOGRAPH_TOKEN": TOKEN}) as running:
        yield running


SOME = ["/", "/queue", "/view?filename=a.png", "/api/kinograph/queue", "/ws"]
ALL = sorted({(route.method, path) for routes in ROUTES for route in routes for path in paths(route)})


def test_every_route_is_guarded(server: Live, guarded: Live) -> None:
    for method, path in [*ALL, ("GET", "/"), ("GET", "/assets/index.js"), ("GET", "/nothing"), ("DELETE", "/")]:
        for headers in ({"Host": "evil.example"}, {"Origin": "null"}, {"Origin": "http://evil.example"}):
            assert server.ask(method, path, b"", headers)[0] == 403, (method, path, headers)
        assert guarded.ask(method, path, b"")[0] == 401, (method, path)


@pytest.mark.parametrize("path", SOME)
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "169.254.169.254", "", "[::1", "a b"])
def test_a_name_that_is_rebound_to_this_machine(server: Live, host: str, path: str) -> None:
    status, _ = server.ask("GET", path, headers={"Host": host})
    assert status in (400, 403)


@pytest.mark.parametrize("path", SOME)
@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1", "http://localhost:1", "http://[::1"]
)
def test_a_page_of_another_site(server: Live, origin: str, path: str) -> None:
    assert server.ask("GET", path, headers={"Origin": origin})[0] == 403


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "null"}, {"Origin": "http://evil.example"}])
def test_a_socket_of_another_site(server: Live, headers: dict[str, str]) -> None:
    async def connect(path: str) -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(f"http://{server.host}{path}", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as refused:
                return refused.status

    assert [asyncio.run(connect(path)) for path in ("/ws", "/api/ws")] == [403, 403]


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data"])
def test_a_forged_job_of_another_site(server: Live, kind: str) -> None:
    body = {"prompt": saving("Wait", "forged")}
    status, _ = server.ask("POST", "/prompt", body, {"Origin": "null", "Content-Type": kind})
    assert status == 403
    status, _ = server.ask("POST", "/prompt", body, {"Sec-Fetch-Site": "cross-site", "Content-Type": kind})
    assert status == 403
    assert server.get("/history") == {}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])  # another port of this machine is of the same site
def test_a_picture_that_another_site_shows(server: Live, site: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert server.ask("GET", "/view?filename=a.png", headers=headers)[0] == 403


def test_a_link_to_the_editor_may_be_followed(server: Live) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.ask("GET", "/", headers=headers)[0] == 200


def test_its_own_page_may_send_requests(server: Live) -> None:
    headers = {"Origin": f"http://{server.host}", "Sec-Fetch-Site": "same-origin"}
    assert server.ask("GET", "/queue", headers=headers)[0] == 200


@pytest.mark.parametrize("path", SOME)
def test_nothing_is_served_without_the_token(guarded: Live, path: str) -> None:
    assert guarded.ask("GET", path)[0] == 401
    for nothing in ("Bearer ", TOKEN, f"Basic {TOKEN}"):
        assert guarded.ask("GET", path, headers={"Authorization": nothing})[0] == 401
    for value in ("wrong", TOKEN):
        assert guarded.ask("GET", path, headers={"Cookie": f"kinograph_{guarded.port}={value}"})[0] == 401


def test_a_token_that_is_not_valid_text(guarded: Live) -> None:
    for name, value in (("Authorization", "Bearer \xff"), ("Cookie", f"kinograph_{guarded.port}=\xff")):
        assert guarded.ask("GET", "/queue", headers={name: value})[0] == 401
    assert "Traceback" not in guarded.log


def test_a_body_that_unpacks_to_more_is_not_unpacked(server: Live) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    assert server.ask("POST", "/prompt", bomb, {"Content-Encoding": "gzip"})[0] == 415


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def test_with_the_token_requests_are_served(guarded: Live) -> None:
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, basic("x", TOKEN), basic("", TOKEN)):
        assert guarded.ask("GET", "/queue", headers=headers)[0] == 200
    assert guarded.ask("GET", "/queue", headers=basic(TOKEN, ""))[0] == 401


def test_an_address_with_user_and_token(guarded: Live) -> None:
    async def ask() -> tuple[int, int]:
        address = URL(f"http://{guarded.host}").with_user("x").with_password(TOKEN)
        async with (
            aiohttp.ClientSession() as session,
            session.get(address / "queue") as answer,
            session.ws_connect(address / "ws") as socket,
        ):
            return answer.status, len(await socket.receive_str())

    status, size = asyncio.run(ask())
    assert status == 200
    assert size > 0


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [({}, "Basic"), ({"Sec-Fetch-Mode": "navigate"}, "Bearer"), ({"User-Agent": "Mozilla/5.0"}, "Bearer")],
)
def test_programs_are_asked_for_a_password_and_browsers_raise_no_dialog(
    guarded: Live, headers: dict[str, str], scheme: str
) -> None:
    async def ask() -> str:
        address = f"http://{guarded.host}/"
        async with aiohttp.ClientSession() as session, session.get(address, headers=headers) as answer:
            return answer.headers["WWW-Authenticate"]

    assert asyncio.run(ask()).partition(" ")[0] == scheme


def test_the_first_visit_leaves_a_cookie_that_scripts_cannot_read(guarded: Live) -> None:
    async def visit() -> tuple[int, str, int]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(guarded.address, allow_redirects=False) as first:
                cookie = first.headers["Set-Cookie"]
            async with session.get(f"http://{guarded.host}/queue") as second:
                return first.status, cookie, second.status

    first, cookie, asked = asyncio.run(visit())
    assert (first, asked) == (303, 200)
    assert cookie.startswith(f"kinograph_{guarded.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert TOKEN.encode().hex() not in cookie


@pytest.mark.parametrize("token", ["ab+cd/ef==", "a b&c=d", "sécret?#"])
def test_the_printed_address_works_with_any_token(tmp_path: Path, token: str) -> None:
    async def visit(address: str, host: str) -> list[int]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(URL(address, encoded=True), allow_redirects=False) as first:
                found = [first.status]
            async with session.get(f"http://{host}/queue") as second:
                return [*found, second.status]

    with live(tmp_path, env={"KINOGRAPH_TOKEN": token}) as running:
        assert asyncio.run(visit(running.address, running.host)) == [303, 200]


@pytest.mark.parametrize(
    ("options", "token", "message"),
    [
        (["--host", "0.0.0.0"], "", "set KINOGRAPH_TOKEN to a secret of at least 16 characters"),
        (["--host", "0.0.0.0"], "x" * 15, "this token of 15 characters could be guessed; 16 are needed"),
        (["--allow-host", "films.example"], "x" * 15, "this token of 15 characters could be guessed; 16 are needed"),
    ],
)
def test_listening_beyond_this_machine_requires_a_long_token(
    tmp_path: Path, options: list[str], token: str, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        Live(tmp_path, *options, env={"KINOGRAPH_TOKEN": token})


def test_every_response_has_security_headers(server: Live) -> None:
    async def headers() -> list[Mapping[str, str]]:
        async with aiohttp.ClientSession() as session:
            found = []
            for method, path in [*ALL, ("GET", "/"), ("GET", "/nothing")]:
                async with session.request(method, f"http://{server.host}{path}", data=b"") as answer:
                    found.append(answer.headers)
            return found

    for found in asyncio.run(headers()):
        assert found["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'self'" in found["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in found["Content-Security-Policy"]
        assert "unsafe-eval" not in found["Content-Security-Policy"]


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../etc/passwd", "~/.ssh/id_rsa", "..\\..\\x.png", "C:\\x.png", "a.png\0", "/proc/self/environ"],
)
def test_workflows_read_nothing_outside_their_folders(server: Live, name: str) -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    status, answer = server.ask("POST", "/prompt", {"prompt": graph})
    assert status == 400
    assert "1" in answer["node_errors"]


def test_a_link_that_leads_out_is_not_followed(server: Live, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    (server.folder / "input" / "innocent.png").symlink_to(secret)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "innocent.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    assert server.ask("POST", "/prompt", {"prompt": graph})[0] == 400
    assert server.ask("GET", "/view?filename=innocent.png&type=input")[0] in (400, 404)


@pytest.mark.parametrize("prefix", ["../out", "/tmp/out", "a/../../out", "C:out"])
def test_workflows_write_nothing_outside_their_folders(server: Live, prefix: str) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }
    assert server.ask("POST", "/prompt", {"prompt": graph})[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"nul", b"NaN", b"\xff\xfe", b'"x"', b'{"prompt": 1}', b'{"prompt": []}', b'{"prompt": {}}', b"{}",
        b'{"prompt": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b"[" * 100_000,
        b'{"prompt": {"1": {"class_type": "Wait", "inputs": {"text": 1e999}}}}',
        b'{"prompt": {"1": {"class_type": 5}}}',
        b'{"prompt": {"1": null}}',
        b'{"prompt": {"nodes": [null], "links": "x"}}',
        b'{"prompt": {"1": {"class_type": "Note", "inputs": {"text": ["1", 0]}}}}',
    ],
)  # fmt: skip
def test_a_hostile_body_is_refused_in_one_line(server: Live, body: bytes) -> None:
    status, answer = server.ask("POST", "/prompt", body)
    assert status == 400
    assert answer["error"]["message"]
    assert "Traceback" not in server.log


def test_a_body_that_is_too_large(server: Live) -> None:
    body = json.dumps({"prompt": {"1": {"class_type": "Note", "inputs": {"text": "x" * (33 << 20)}}}}).encode()
    assert server.ask("POST", "/prompt", body)[0] == 413


def test_a_graph_that_is_too_large(server: Live) -> None:
    graph = {str(number): {"class_type": "Text", "inputs": {"text": ""}} for number in range(20_001)}
    status, answer = server.ask("POST", "/prompt", {"prompt": graph})
    assert status == 400
    assert "20,000" in answer["error"]["message"]


MESSAGES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SENT = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    MESSAGES.map(json.dumps),
    st.fixed_dictionaries({"type": st.just("feature_flags") | st.text(), "data": MESSAGES}).map(json.dumps),
    st.just("[" * 50_000),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(messages=st.lists(SENT, max_size=6))
def test_the_server_survives_whatever_a_websocket_client_sends(server: Live, messages: list[bytes | str]) -> None:
    async def say() -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{server.host}/ws") as socket:
            for message in messages:
                await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))
            await socket.send_json({"type": "feature_flags", "data": {"kinograph_events": True}})
            while True:
                answer = await socket.receive_json(timeout=60)
                if answer["type"] == "queue":
                    return answer["data"]

    assert asyncio.run(say())["total_pending"] == 0
    assert "Traceback" not in server.log


def test_a_websocket_message_that_is_too_large_only_ends_the_connection(server: Live) -> None:
    async def shout() -> bool:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{server.host}/ws") as socket:
            await socket.receive(timeout=60)
            with contextlib.suppress(ConnectionError):  # the server may disconnect before everything is sent
                await socket.send_str("x" * 70_000)
            while (await socket.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT:
                pass
            return socket.closed

    assert asyncio.run(shout())
    assert server.get("/prompt")


def test_an_extension_of_a_browser_whose_name_is_the_servers(server: Live) -> None:
    for scheme, expected in (("http", 200), ("https", 200), ("chrome-extension", 403), ("file", 403)):
        origin = f"{scheme}://{server.host}"
        assert server.ask("GET", "/queue", headers={"Origin": origin})[0] == expected, origin
