"""Routes as data: a handler's signature says what it takes and gives, for requests and for the OpenAPI document alike.

    routes = Routes("files")

    @routes.get("/view")
    async def view(request: web.Request, query: Viewed) -> web.StreamResponse:
        \"""Serve a file.\"""

`query` and `body` are pydantic models, checked before the handler is called; `{name}` in a path is a str argument. What
is returned is written as JSON, unless it is a response. The docstring is what the documentation says, and `form`,
`takes` and `gives` tell it what a handler reads and answers that isn't JSON.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json

from engine.errors import KinographError, MissingError, Problem, UsageError

Handler = Callable[..., Awaitable[Any]]
OWN = "/api/kinograph"
"""Where Kinograph's own routes are; all others are ComfyUI's, and each is there under /api too."""


class Query(BaseModel):
    """Base of what stands in an address; what is unknown is ignored, as clients add things to keep caches away."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Body(BaseModel):
    """Base of what a request's body may hold; what is unknown is ignored, as newer clients say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Route:
    """One method of one path, and what is known of it."""

    method: str
    path: str
    handler: Handler
    tag: str
    form: type[BaseModel] | None = None
    """The parts of a multipart body, which the handler reads itself."""
    takes: str = ""
    """The media type of a body that the handler reads itself, if it isn't a form."""
    gives: str = "application/octet-stream"
    """The media type of a response that the handler makes itself; "" is one without a body (204), "websocket" one that
    goes on as such (101)."""
    may_conflict: bool = False
    """Whether it is refused where it would take another's place (409)."""

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def help(self) -> str:
        return inspect.cleandoc(self.handler.__doc__ or "")

    @property
    def types(self) -> dict[str, Any]:
        """The types of what the handler takes, and of what it returns."""
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
        """The type of what is answered as JSON; None where the handler makes the response itself."""
        returned = self.types["return"]
        is_response = isinstance(returned, type) and issubclass(returned, web.StreamResponse)
        return None if is_response else returned


class Routes:
    """The routes of one module, gathered by decorators."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, **known: Any) -> Callable[[Handler], Handler]:
        """Answers GET at a path; `known` is what else a `Route` says of itself."""
        return self._adding("GET", path, known)

    def post(self, path: str, **known: Any) -> Callable[[Handler], Handler]:
        return self._adding("POST", path, known)

    def put(self, path: str, **known: Any) -> Callable[[Handler], Handler]:
        return self._adding("PUT", path, known)

    def delete(self, path: str, **known: Any) -> Callable[[Handler], Handler]:
        return self._adding("DELETE", path, known)

    def _adding(self, method: str, path: str, known: dict[str, Any]) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self._routes.append(Route(method, path, handler, self.tag, **known))
            return handler

        return add


def paths(route: Route) -> list[str]:
    """Where a route is: ComfyUI's own are under /api as well."""
    return [route.path] if route.path.startswith("/api/") else [route.path, f"/api{route.path}"]


ADDED = web.AppKey("added", tuple[Route, ...])
"""The routes that an application answers."""


def add_to(app: web.Application, routes: Iterable[Route]) -> None:
    """Have the application answer these routes."""
    added = tuple(routes)
    app[ADDED] = app.get(ADDED, ()) + added
    for route in added:
        handler = _checked(route)
        for path in paths(route):
            app.router.add_route(route.method, path, handler)
            if route.method == "GET":
                app.router.add_route("HEAD", path, handler)


def _checked(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler with what it takes read from the request, and what it gives written."""
    query, body, names = route.query, route.body, route.parameters
    answer = None if route.answer is None else TypeAdapter(route.answer)

    async def handle(request: web.Request) -> web.StreamResponse:
        given: dict[str, Any] = {name: request.match_info[name] for name in names}
        if query:
            given["query"] = query.model_validate(dict(request.query))
        if body:
            given["body"] = body.model_validate(await read_json(request))
        returned = await route.handler(request, **given)
        if answer is None:
            assert isinstance(returned, web.StreamResponse)
            return returned
        return web.Response(body=answer.dump_json(returned, by_alias=True), content_type="application/json")

    return handle


_LARGE = re.compile(rb"\d[eE]\+?\d{3}|\d{309}")
"""What may be a number that is read as infinite, and couldn't be written again."""


async def read_json(request: web.Request) -> Any:
    """A request's body as JSON, whatever its Content-Type says; nothing at all is an empty object."""
    text = await request.read()
    if not text:
        return {}
    try:
        data = from_json(text, allow_inf_nan=False)
        if _LARGE.search(text):
            json.dumps(data, allow_nan=False)
    except ValueError as error:
        raise UsageError(f"the request's body is not JSON: {error}") from None
    return data


STATUS: dict[type[KinographError], int] = {MissingError: 404}
"""The status of an error, if it isn't 400."""


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Whatever is raised, as JSON that says what is wrong and what to do."""
    try:
        return await handler(request)
    except KinographError as error:
        return refusal(STATUS.get(type(error), 400), type(error).__name__, error.problems)
    except ValidationError as error:
        problems = [Problem(f"{_place(found['loc'])}{found['msg']}") for found in error.errors()]
        return refusal(400, "invalid_request", problems)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return refusal(error.status, "http_error", [Problem(error.text or error.reason)], error)


def refusal(
    status: int, kind: str, problems: Iterable[Problem], error: web.HTTPException | None = None
) -> web.Response:
    """An answer that tells what is wrong, in the protocol's form, with all problems beside."""
    listed = list(problems)
    data = {
        "error": {"type": kind, "message": str(listed[0]), "details": "", "extra_info": {}},
        "node_errors": {},
        "problems": [problem_data(problem) for problem in listed],
    }
    headers = {name: error.headers[name] for name in ("Allow",) if error and name in error.headers}
    return web.Response(text=json.dumps(data), status=status, content_type="application/json", headers=headers)


def problem_data(problem: Problem) -> dict[str, str | None]:
    return {"message": problem.message, "node": problem.node, "input": problem.input, "hint": problem.hint}


def _place(where: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, where))}: " if where else ""
