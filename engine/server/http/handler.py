"""Answers what can't be read as a request in the same form as every other refusal."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from engine.errors import Problem
from engine.server.http.routes import refusal


class Handler(web.RequestHandler):
    """aiohttp's handler of a connection; it answers errors that no route sees with a text that repeats the request."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log the error, and say in JSON what is wrong; the connection is closed.

        That a client has left is no error: nothing is logged, and nobody reads the answer.
        """
        if not (isinstance(exc, ConnectionError) and request.transport is None):
            super().handle_error(request, status, exc, message)
        answer = refusal(status, "http_error", [_problem(status, exc)])
        answer.force_close()
        return answer


def _problem(status: int, error: BaseException | None) -> Problem:
    if isinstance(error, LineTooLong):
        return Problem("the address or a header is longer than the server reads", hint="send the data as the body")
    if status < 500:
        return Problem("this can't be read as an HTTP request", hint="use HTTP/1.1, without TLS")
    return Problem(HTTPStatus(status).phrase.lower())
