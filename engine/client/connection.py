"""HTTP requests to one server: its address, the token, and failures as errors that say what to do."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from typing import Any, TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from engine.client.answers import Refused
from engine.document.given import described, seconds_of, text_of
from engine.errors import KinographError, MissingError, ServerError, UsageError, WorkflowError

T = TypeVar("T")
OWN = "api/kinograph"
TOKEN = "KINOGRAPH_TOKEN"
"""The environment variable with the token."""
MOST_BYTES = 256 << 20
"""The largest answer or message that is read."""
HEARTBEAT = 30.0
"""Seconds between two checks that the other end is still there."""
FAREWELL_SECONDS = 1.0
"""How long the server may take to confirm that a WebSocket is closed."""
CHUNK = 256 << 10
CLOSED = "this client is closed"
TO_CHECK = "is that its address, and is it Kinograph's?"
GATEWAY = (502, 503, 504)
"""The status codes of a proxy while the server behind it is away."""
KINDS: Mapping[str, type[KinographError]] = {
    kind.__name__: kind for kind in (KinographError, UsageError, WorkflowError, MissingError)
}
"""The errors that the server names when it refuses a request."""


class Unreachable(ServerError):
    """No server answers at present."""


class Connection:
    """Sends requests to one server, in one event loop.

    Args:
        address: such as `http://127.0.0.1:8188`; it may include a `?token=…`, as the server prints it.
        token: the server's token; by default that of the address or the environment's `KINOGRAPH_TOKEN`.
        connect_timeout: seconds within which the server must accept a connection.
        silence_timeout: seconds after which a silent server is given up on.

    Raises:
        UsageError: the address, the token or a time is invalid.
    """

    def __init__(
        self, address: str, token: str | None = None, *, connect_timeout: float = 10.0, silence_timeout: float = 300.0
    ) -> None:
        self._url, in_address = _parsed(address)
        given = in_address or os.environ.get(TOKEN, "") if token is None else token
        self._token = text_of(given, "token", "give the text that the server was started with").strip()
        if not self._token.isprintable():
            raise UsageError("a token is one line of printable letters")
        connect_timeout = seconds_of(connect_timeout, "connect_timeout")
        self.silence_timeout = seconds_of(silence_timeout, "silence_timeout")
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout, sock_connect=connect_timeout, sock_read=self.silence_timeout
        )
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def __str__(self) -> str:
        """The address, without its token."""
        return str(self._url)

    async def close(self) -> None:
        self._closed = True
        if self._session:
            await self._session.close()

    async def get(self, path: str, answer: type[T], **query: str | int) -> T:
        """The checked answer at a path; raises the server's refusal, or ServerError."""
        async with self.answer("GET", path, query=query) as response:
            return self.read(answer, await self._whole(response))

    async def post(self, path: str, answer: type[T], data: Any) -> T:
        """The same after sending JSON data or a form."""
        async with self.answer("POST", path, data=data) as response:
            return self.read(answer, await self._whole(response))

    def read(self, answer: type[T], data: bytes | str) -> T:
        """JSON from the server, parsed as a type; raises ServerError if it doesn't fit."""
        try:
            return TypeAdapter(answer).validate_json(data)
        except ValidationError as error:
            raise self.strange(error) from None

    def strange(self, error: ValidationError) -> ServerError:
        """The error for an answer or message that can't be read."""
        found = error.errors()[0]
        where = ".".join(map(str, found["loc"]))
        return ServerError(
            f"what the server at {self} says can't be read: {where + ': ' if where else ''}{found['msg']}",
            hint="are the server and this client of one version?",
        )

    @asynccontextmanager
    async def answer(
        self, method: str, path: str, *, data: Any = None, query: Mapping[str, str | int] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body is still to be read, with `chunks`."""
        is_form = isinstance(data, aiohttp.FormData)
        headers = {} if data is None or is_form else {"Content-Type": "application/json"}
        body = data if data is None or is_form else BytesIO(as_json(data))
        with self._breaking():
            async with self._opened().request(
                method, self._at(path), params=query, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    raise self._refusal(response.status, f"{method} /{path}", await self._whole(response))
                yield response

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of an answer, in parts."""
        with self._breaking():
            async for chunk in response.content.iter_chunked(CHUNK):
                yield chunk

    @asynccontextmanager
    async def socket(self, client: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket, for a client of this id."""
        heartbeat = min(HEARTBEAT, self.silence_timeout)
        with self._breaking():
            try:
                socket = await self._opened().ws_connect(
                    self._at("ws"),
                    params={"clientId": client},
                    heartbeat=heartbeat,
                    max_msg_size=MOST_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=FAREWELL_SECONDS),
                )
            except aiohttp.WSServerHandshakeError as error:
                await self.get(f"{OWN}/health", object)  # raises the reason, if the token was refused
                raise ServerError(f"the server at {self} opens no WebSocket: {error.status}", hint=TO_CHECK) from error
            async with socket:
                yield socket

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise UsageError(CLOSED, hint="make another")
        if self._session is None:
            # a kept connection may lead to a server that has been restarted since
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=32),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
                timeout=self._timeout,
            )
        return self._session

    def _at(self, path: str) -> URL:
        """The URL of a path that is already quoted."""
        return URL(f"{str(self._url).rstrip('/')}/{path}", encoded=True)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for chunk in self.chunks(response):
            size += len(chunk)
            if size > MOST_BYTES:
                raise ServerError(f"the server at {self} answers with more than {MOST_BYTES:,} bytes", hint=TO_CHECK)
            parts.append(chunk)
        return b"".join(parts)

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Turn connection failures into errors that say what to do."""
        try:
            yield
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise ServerError(
                f"the server at {self} can't be trusted: {error}", hint="is it http instead of https?"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            has_tried = isinstance(error, aiohttp.ClientConnectorError)
            why = error.strerror if has_tried else "the connection isn't taken"
            raise Unreachable(
                f"no server answers at {self}: {why}", hint="`kinograph serve` starts one, and prints its address"
            ) from error
        except TimeoutError as error:
            raise Unreachable(
                f"the server at {self} has said nothing for {self.silence_timeout:g} s",
                hint="it may have much to do: give the client a longer silence_timeout",
            ) from error
        except aiohttp.ClientError as error:
            raise Unreachable(
                f"the connection to the server at {self} broke: {error or type(error).__name__}",
                hint="look whether it still runs, and what it has done",
            ) from error

    def _refusal(self, status: int, request: str, data: bytes) -> KinographError:
        """The error for a response that refuses the request."""
        if status == 401:
            wrong = "the server at {} doesn't take this token" if self._token else "the server at {} wants a token"
            return UsageError(wrong.format(self), hint=f"give the client the server's token=…, or set {TOKEN}")
        try:
            refused = Refused.model_validate_json(data)
        except ValidationError:
            kind = Unreachable if status in GATEWAY else ServerError
            return kind(f"the server at {self} answers {request} with status {status}", hint=TO_CHECK)
        named = str(refused.error.extra_info.get("kind", refused.error.type))
        is_ours = refused.error.type != "http_error" or status == 413
        by_status = ServerError if status >= 500 or not is_ours else UsageError
        return KINDS.get(named, by_status).of(refused.problems)


def as_json(data: Any) -> bytes:
    """JSON data as bytes; raises UsageError if it isn't JSON."""
    try:
        return json.dumps(data, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"what is to be sent isn't JSON: {error}") from None


def _parsed(address: str) -> tuple[URL, str]:
    """A server's address, and the token in it."""
    try:
        url = URL(address)
        known = url.scheme in ("http", "https") and url.host and url.user is None and url.port
    except (TypeError, ValueError):
        known = None
    if not known:
        what = f"'{address}'" if isinstance(address, str) else described(address)
        raise UsageError(f"{what} is not the address of a server", hint="such as http://127.0.0.1:8188")
    return url.with_query(None).with_fragment(None), url.query.get("token", "")
