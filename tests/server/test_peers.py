"""Other accounts of the machine don't get in without a token; this one's clients need none."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from engine.server.http import peers
from engine.server.http.peers import Address, asked, listed, owner
from tests.server.live import Live, live, saving

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose connections are")
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can act for other accounts"
)
OTHER = 54321
"""The id of an account that isn't this one."""


def ask(server: Live, path: str, body: str = "", user: int | None = None, **headers: str) -> tuple[int, str]:
    """What an account is answered: a socket belongs to whom the process acts for when it makes it."""
    own = os.geteuid()
    os.seteuid(own if user is None else user)
    try:
        connection = HTTPConnection(server.host)
        connection.connect()
    finally:
        os.seteuid(own)
    with closing(connection):
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


@as_root
def test_other_accounts_are_refused(server: Live) -> None:
    job = json.dumps({"prompt": saving("Wait", "theirs")})
    for path, body in (("/prompt", job), ("/queue", ""), ("/", ""), ("/view?filename=a.png", "")):
        status, text = ask(server, path, body, user=OTHER)
        assert status == 401, path
        assert "KINOGRAPH_TOKEN" in text
    assert server.get("/history") == {}
    assert f"a request of the account with the id {OTHER} was refused" in server.log


def test_this_account_needs_no_token(server: Live) -> None:
    assert ask(server, "/queue")[0] == 200


@as_root
def test_other_accounts_need_the_token_if_there_is_one(tmp_path: Path) -> None:
    with live(tmp_path, env={"KINOGRAPH_TOKEN": "secret"}) as server:
        assert ask(server, "/queue", user=OTHER)[0] == 401
        assert ask(server, "/queue", user=OTHER, Authorization="Bearer secret")[0] == 200


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_what_a_proxy_passes_on_needs_the_token(server: Live, header: str) -> None:
    assert server.ask("GET", "/queue", headers={header: "192.0.2.1"})[0] == 401


@pytest.fixture(params=["127.0.0.1", "::1", "mapped"])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, Address, Address]]:
    """The client's socket of a connection, and both ends as the server sees them."""
    address = "::1" if request.param == "::1" else "127.0.0.1"
    family = socket.AF_INET if address == "127.0.0.1" else socket.AF_INET6
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.socket(socket.AF_INET if request.param == "127.0.0.1" else socket.AF_INET6) as client:
            client.connect(("::ffff:127.0.0.1" if request.param == "mapped" else address, port))
            accepted, peer = listener.accept()
            with accepted:
                yield client, peer[:2], accepted.getsockname()[:2]


@linux
@pytest.mark.parametrize("way", [asked, listed])
def test_the_owner_of_a_connection(connection: tuple[socket.socket, Address, Address], way: type[asked]) -> None:
    client, peer, own = connection
    assert way(peer, own) == os.geteuid()
    client.shutdown(socket.SHUT_WR)
    assert way(peer, own) == os.geteuid()
    assert way((peer[0], 1), own) is None
    client.close()
    assert way(peer, own) is None


@linux
@pytest.mark.parametrize("way", [asked, listed])
def test_who_listens_at_the_clients_port_is_not_its_owner(way: type[asked]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert way(listener.getsockname(), ("127.0.0.1", 9)) is None


@linux
def test_a_kernel_that_cannot_be_asked(
    connection: tuple[socket.socket, Address, Address], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(client: Address, server: Address) -> int | None:
        raise PermissionError

    monkeypatch.setattr(peers, "asked", refuse)
    assert asyncio.run(owner(*connection[1:])) == os.geteuid()
    assert listed(*connection[1:], tables=tmp_path) is None


@linux
def test_accounts_outside_of_a_container_are_not_taken_for_one_within(
    connection: tuple[socket.socket, Address, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_foreign", os.geteuid)
    assert asyncio.run(owner(*connection[1:])) is None
