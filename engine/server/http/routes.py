"""Declares routes: a handler's signature says what it takes and gives, both for requests and for the OpenAPI document.

    routes = Routes("files")

    @routes.get("/view")
    async def view(request: web.Request, query: ViewQuery) -> web.StreamResponse:
        \"""Serve a file.\"""

`query` and `body` are pydantic models, validated before the handler is called; `{name}` in a path is a str argument. A
returned value is written as JSON, unless it is a response. The docstring becomes the documentation; `form`, `takes` and
`gives` describe bodies and answers that aren't JSON.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack, get_type_hints

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from engine.document.jsontext import json_of
from engine.errors import DiskFullError, KinographError, MissingError, Problem, StorageError, UsageError, WorkflowError
from engine.server.http.faults import own_fault, storage_error
from engine.server.http.limits import MOST_PROBLEMS, SMALL, TooLargeError, check_values, in_turn
from engine.server.http.settings import SETTINGS

logger = logging.getLogger("kinograph")

Handler = Callable[..., Awaitable[Any]]
OWN = "/api/kinograph"
"""The prefix of Kinograph's own routes; all others are ComfyUI's, and exist under /api as well."""


class Query(BaseModel):
    """Base of query parameters; unknown ones are ignored, as clients add some to avoid caches."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Body(BaseModel):
    """Base of request bodies; unknown members are ignored, as newer clients may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class RouteOptions(TypedDict, total=False):
    """The optional fields of a `Route`."""

    form: type[BaseModel]
    takes: str
    gives: str
    may_conflict: bool


@dataclass(frozen=True)
class Route:
    """One method of one path, with its handler."""

    method: str
    path: str
    handler: Handler
    tag: str
    form: type[BaseModel] | None = None
    """The parts of a multipart body that the handler reads itself."""
    takes: str = ""
    """The media type of a body that the handler reads itself, if it isn't a form."""
    gives: str = "application/octet-stream"
    """The media type of a response that the handler makes itself; "" for one without a body (204), "websocket" for a
    switch to that protocol (101)."""
    may_conflict: bool = False
    """Whether it refuses to replace what already exists (409)."""

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def help(self) -> str:
        return inspect.cleandoc(self.handler.__doc__ or "")

    @property
    def types(self) -> dict[str, Any]:
        """The types of the handler's arguments and of its result."""
        return get_type_hints(self.handler, include_extras=True)

    @property
    def query(self) -> type[BaseModel] | None:
        return self.types.get("query")

    @property
    def body(self) -> type[BaseModel] | None:
        return self.types.get("body")

    @property
    def parameters(self) -> list[str]:
        """The names in the path."""
        return re.findall(r"{(\w+)", self.path)

    @property
    def answer(self) -> Any:
        """The type of the JSON answer; None if the handler makes the response itself."""
        returned = self.types["return"]
        is_response = isinstance(returned, type) and issubclass(returned, web.StreamResponse)
        return None if is_response else returned


class Routes:
    """The routes of one module, collected by decorators."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Register a handler for GET at a path."""
        return self._register("GET", path, options)

    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        return self._register("POST", path, options)

    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        return self._register("PUT", path, options)

    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        return self._register("PATCH", path, options)

    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        return self._register("DELETE", path, options)

    def _register(self, method: str, path: str, options: RouteOptions) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self._routes.append(Route(method, path, handler, self.tag, **options))
            return handler

        return register


def paths(route: Route) -> list[str]:
    """The paths of a route: ComfyUI's own exist under /api as well."""
    return [route.path] if route.path.startswith("/api/") else [route.path, f"/api{route.path}"]


ADDED = web.AppKey("added", tuple[Route, ...])
"""The routes of an application."""


def add_to(app: web.Application, routes: Iterable[Route]) -> None:
    """Add routes to an application."""
    added = tuple(routes)
    app[ADDED] = app.get(ADDED, ()) + added
    for route in added:
        handler = _adapted(route)
        for path in paths(route):
            app.router.add_route(route.method, path, handler)
            if route.method == "GET":
                app.router.add_route("HEAD", path, handler)


def _adapted(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler, with its arguments read from the request and its result written as the response."""
    query, body, names = route.query, route.body, route.parameters
    answer = None if route.answer is None else TypeAdapter(route.answer)

    async def handle(request: web.Request) -> web.StreamResponse:
        arguments: dict[str, Any] = {name: request.match_info[name] for name in names}
        if query:
            arguments["query"] = query.model_validate(dict(request.query))
        if body:
            arguments["body"] = body.model_validate(await read_json(request))
        returned = await route.handler(request, **arguments)
        if answer is None:
            assert isinstance(returned, web.StreamResponse)
            return returned
        return web.Response(body=answer.dump_json(returned, by_alias=True), content_type="application/json")

    return handle


async def read_json(request: web.Request) -> Any:
    """A request's body as JSON, whatever its Content-Type says; no body counts as an empty object.

    Raises:
        UsageError: it is not JSON.
        TooLargeError: it has too many values.
        HTTPRequestEntityTooLarge: it has too many bytes.
    """
    text = await request.read()
    if not text:
        return {}
    return _json(text) if len(text) <= SMALL else await in_turn(_json, text)


def _json(text: bytes) -> Any:
    check_values(text)
    try:
        return json_of(text, "the request's body")
    except WorkflowError as error:
        raise UsageError.of(error.problems) from None


STATUS: dict[type[KinographError], int] = {MissingError: 404, TooLargeError: 413, StorageError: 503, DiskFullError: 507}
"""The HTTP status of errors for which it isn't 400."""


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn what a handler raises into JSON that says what is wrong and what to do."""
    try:
        return await handler(request)
    except KinographError as error:
        return refusal(STATUS.get(type(error), 400), type(error).__name__, error.problems)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:MOST_PROBLEMS]
        return refusal(400, "invalid_request", [Problem(f"{_location(each['loc'])}{each['msg']}") for each in found])
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return refusal(error.status, "http_error", [Problem(error.text or error.reason)], error)
    except ConnectionError:
        raise  # there is nobody to tell
    except Exception as error:
        if request.writer.output_size:
            raise  # the answer has begun
        if not isinstance(error, OSError) or isinstance(error, TimeoutError):
            logger.exception("%s %s", request.method, request.path)
            return refusal(500, "internal_error", [own_fault(error)])
        logger.error("%s %s: %s", request.method, request.path, error)
        failed = storage_error(error)
        return refusal(STATUS[type(failed)], type(failed).__name__, failed.problems)


@web.middleware
async def without_paths(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Leave absolute paths out of errors, if those who read them may be elsewhere."""
    answer, settings = await handler(request), request.app[SETTINGS]
    is_error = answer.status >= 400 and answer.content_type == "application/json"
    if settings.hiding and is_error and isinstance(answer, web.Response) and answer.text:
        answer.text = json.dumps(settings.shown(json.loads(answer.text)))
    return answer


def refusal(
    status: int, kind: str, problems: Iterable[Problem], error: web.HTTPException | None = None
) -> web.Response:
    """An error response in the protocol's format, with all problems in addition."""
    listed = list(problems)
    data = {
        "error": {"type": kind, "message": str(listed[0]), "details": "", "extra_info": {}},
        "node_errors": {},
        "problems": problems_data(listed),
    }
    headers = {name: error.headers[name] for name in ("Allow", "Retry-After") if error and name in error.headers}
    return web.Response(text=json.dumps(data), status=status, content_type="application/json", headers=headers)


def problems_data(problems: Sequence[Problem]) -> list[dict[str, str | None]]:
    """The first of some problems as JSON data."""
    return [problem_data(problem) for problem in problems[:MOST_PROBLEMS]]


def problem_data(problem: Problem) -> dict[str, str | None]:
    return {"message": problem.message, "node": problem.node, "input": problem.input, "hint": problem.hint}


def _location(path: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""
