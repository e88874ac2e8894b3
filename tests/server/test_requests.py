"""What isn't HTTP, or not as the server reads it: refused in JSON, and nothing of it is sent back."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.server.live import Live, live


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


def answered(server: Live, sent: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"SECRET" * 2000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"SECRET" * 2000 + b"\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: SECRET\r\n" % number for number in range(500)) + b"\r\n",
        b"<script>SECRET</script>\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03SECRET\r\n\r\n",
        b"GET / HTTP/9.9SECRET\r\n" + HOST + b"\r\n",
        b"POST /queue HTTP/1.1\r\n" + HOST + b"Content-Length: SECRET\r\n\r\n{}",
        b"POST /queue HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n{}",
        b"POST /queue HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /queue HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nSECRET\r\n",
        b"GET / HTTP/1.1\r\nHost : SECRET\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
    ids=[
        *("long address", "long header", "many headers", "no HTTP", "TLS", "version", "no length", "negative length"),
        *("two lengths", "no chunk", "space in a name", "address"),
    ],
)
def test_what_is_no_request_is_refused_as_others_are(server: Live, sent: bytes) -> None:
    head, _, body = answered(server, sent).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"\r\ncontent-type: application/json" in head.lower()
    refused = json.loads(body)
    assert refused["error"]["message"]
    assert refused["problems"][0]["message"]
    assert b"SECRET" not in head + body
    assert server.ask("GET", "/prompt")[0] == 200
    assert "Traceback" not in server.log


def test_a_client_that_leaves_in_the_middle_of_its_request_fills_no_log(server: Live) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /prompt HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n" + JSON + b"\r\n{")
        assert server.ask("GET", "/prompt")[0] == 200  # meanwhile the request has arrived
    for _ in range(3):
        assert server.ask("GET", "/prompt")[0] == 200
    assert "Traceback" not in server.log
