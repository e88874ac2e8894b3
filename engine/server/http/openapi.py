"""What the server can do, told by its routes: an OpenAPI 3.1 document, and the same as a page to read and search.

Route → its operation (`document`) → what a person is shown of it (`Entry`) → docs.html.jinja
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic import JsonValue, TypeAdapter

from engine.server.http.guard import COOKIE
from engine.server.http.routes import ADDED, OWN, Answer, Query, Route, Routes

routes = Routes("documentation")

REFERENCE = "#/components/schemas/{model}"
TEXT = {"type": "string"}
REFUSALS = {
    400: "The request, or the workflow in it, is wrong; all that is wrong with it is told.",
    401: "The server was started with a token, and the request doesn't show it.",
    403: "The request comes from a page of another site, or names this server in a way that it doesn't know.",
    404: "There is no such thing.",
    409: "Something else is there already.",
    413: "The request's body is too large.",
}
ABOUT = """Runs node graphs for generative video. Routes outside of `/api/kinograph` are ComfyUI's protocol, and are \
under `/api` as well. A body is read as JSON whatever its Content-Type says, unless it is a form."""
EXAMPLES: Mapping[str, Any] = {
    "filename": "kinograph_00001.png",
    "source": "hf:owner/name",
    "client_id": "me",
    "folder": "loras",
    "dir": "workflows",
    "kind": "SaveImage",
    "version": "1",
    "original_ref": '{"filename": "snail.png", "type": "input"}',
    "workflow": {"kinograph": 1, "graph": {}},
    "prompt": {"1": {"class_type": "TextLines", "inputs": {"text": "a snail"}}},
}


class Problem(Answer):
    """One thing that is wrong."""

    message: str
    node: str | None
    input: str | None
    hint: str | None


class Error(Answer):
    """What is wrong, in short."""

    type: str
    message: str
    details: str
    extra_info: dict[str, JsonValue]


class Refusal(Answer):
    """What is wrong."""

    error: Error
    problems: list[Problem]


class Searched(Query):
    """What to look for."""

    q: str = ""
    """Words that all occur in a route's path or description."""


@dataclass(frozen=True)
class Field:
    """A parameter, or a part of a body, as the page shows it."""

    name: str
    where: str
    type: str
    required: bool
    help: str


@dataclass(frozen=True)
class Entry:
    """A route as the page shows it."""

    tag: str
    method: str
    path: str
    id: str
    help: str
    fields: tuple[Field, ...]
    answer: str
    example: str

    @property
    def summary(self) -> str:
        return _summary(self.help)

    @property
    def rest(self) -> str:
        return self.help.removeprefix(self.summary).strip()


@dataclass(frozen=True)
class Named:
    """A schema as the page shows it."""

    name: str
    help: str
    fields: tuple[Field, ...]


@routes.get(f"{OWN}/openapi.json")
async def openapi(request: web.Request) -> dict[str, JsonValue]:
    """This server's routes as an OpenAPI 3.1 document."""
    return await asyncio.to_thread(document, request.app[ADDED])


@routes.get(f"{OWN}/docs", gives="text/html")
async def docs(request: web.Request, query: Searched) -> web.Response:
    """This server's routes as a page."""
    text = await asyncio.to_thread(page, request.app[ADDED], query.q, str(request.url.origin()))
    return web.Response(text=text, content_type="text/html")


@lru_cache(maxsize=4)
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of routes."""
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _path(route)
        entry = paths.setdefault(path, {} if path.startswith("/api/") else {"servers": [{"url": "/"}, {"url": "/api"}]})
        entry[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kinograph",
            "version": version("kinograph"),
            "summary": "The HTTP interface of `kinograph serve`.",
            "description": ABOUT,
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}, {"cookie": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"E{status}": _refusal(status) for status in REFUSALS},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def page(routes: tuple[Route, ...], query: str, origin: str) -> str:
    """The page, with the routes that a search finds; all if it is empty. No script is in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("engine.server.http", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    told = document(routes)
    environment.filters["marked"] = partial(_marked, told["components"]["schemas"])
    found = [entry for entry in _entries(told, origin) if _is_found(entry, query)]
    tags = list(dict.fromkeys(entry.tag for entry in found))
    return environment.get_template("docs.html.jinja").render(
        about=ABOUT,
        version=told["info"]["version"],
        query=query,
        sections=[(tag, [entry for entry in found if entry.tag == tag]) for tag in tags],
        schemas=[] if query else list(_named(told)),
        refusals=REFUSALS,
    )


def _schemas(routes: tuple[Route, ...]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """The schemas of all that is sent and answered, by route and role, and the components that they refer to."""
    wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = [("refusal", "serialization", TypeAdapter(Refusal))]
    for route in routes:
        if model := route.body or route.form:
            wanted.append(((route, "body"), "validation", TypeAdapter(model)))
        if route.answer is not None:
            wanted.append(((route, "answer"), "serialization", TypeAdapter(route.answer)))
    found, defined = TypeAdapter.json_schemas(wanted, ref_template=REFERENCE)
    return {key: schema for (key, _), schema in found.items()}, defined["$defs"]


def _operation(route: Route, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.tag}_{route.name}",
        "tags": [route.tag],
        "summary": _summary(route.help),
        "description": route.help,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": TEXT} for name in route.parameters),
            *_query(route),
        ],
        "responses": {**_success(route, schemas), **_refusals(route)},
    }
    if body := _body(route, schemas):
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _query(route: Route) -> Iterator[dict[str, Any]]:
    schema = route.query.model_json_schema() if route.query else {}
    for name, found in schema.get("properties", {}).items():
        about = {"description": found["description"]} if "description" in found else {}
        rest = {key: value for key, value in found.items() if key not in ("description", "title")}
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": rest, **about}


def _body(route: Route, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    if route.form:
        return {"multipart/form-data": {"schema": schemas[route, "body"]}}
    if route.body:
        return {"application/json": {"schema": schemas[route, "body"]}}
    return {route.takes: {"schema": {}}} if route.takes else {}


def _success(route: Route, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    if (schema := schemas.get((route, "answer"))) is not None:
        return {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    if route.gives == "websocket":
        return {"101": {"description": "Goes on as a WebSocket."}}
    if not route.gives:
        return {"204": {"description": "Done."}}
    return {"200": {"description": "Done.", "content": {route.gives: {}}}}


def _refusals(route: Route) -> dict[str, Any]:
    limited = {409: route.may_conflict, 413: bool(route.body or route.form or route.takes)}
    told = [status for status in REFUSALS if limited.get(status, True)]
    return {str(status): {"$ref": f"#/components/responses/E{status}"} for status in told}


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model="Refusal")}
    return {"description": REFUSALS[status], "content": {"application/json": {"schema": schema}}}


def _path(route: Route) -> str:
    """The path as OpenAPI writes it, without what a parameter must look like."""
    return re.sub(r"{(\w+):[^/]*}", r"{\1}", route.path)


def _summary(help: str) -> str:
    """The first sentence, or the part of it before a colon or semicolon."""
    return re.split(r"(?<=[.;:])\s", help, maxsplit=1)[0]


def _name_of(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _entries(told: Mapping[str, Any], origin: str) -> Iterator[Entry]:
    components = told["components"]["schemas"]
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            if method == "servers":
                continue
            fields = [
                Field(one["name"], one["in"], _said(one["schema"]), one["required"], one.get("description", ""))
                for one in operation["parameters"]
            ]
            content = operation.get("requestBody", {}).get("content", {})
            for media, body in content.items():
                where = "form" if media.startswith("multipart") else "body"
                fields += _fields(body["schema"], components, where) or [Field(media, where, "any", True, "")]
            yield Entry(
                operation["tags"][0],
                method.upper(),
                path,
                operation["operationId"],
                operation["description"],
                tuple(fields),
                _answered(operation["responses"]),
                _curl(method.upper(), path, operation, components, origin),
            )


def _named(told: Mapping[str, Any]) -> Iterator[Named]:
    components = told["components"]["schemas"]
    for name, schema in sorted(components.items()):
        yield Named(name, schema.get("description", ""), tuple(_fields(schema, components, "")))


def _fields(schema: Mapping[str, Any], components: Mapping[str, Any], where: str) -> list[Field]:
    """The properties of an object."""
    if "$ref" in schema:
        schema = components[_name_of(schema)]
    required = schema.get("required", ())
    return [
        Field(name, where, _said(found), name in required, found.get("description", ""))
        for name, found in schema.get("properties", {}).items()
    ]


def _answered(responses: Mapping[str, Any]) -> str:
    status, response = next(iter(responses.items()))
    told = f"{status} {HTTPStatus(int(status)).phrase}"
    for media, content in response.get("content", {}).items():
        told += f": {_said(content['schema'])}" if "schema" in content else f": {media}"
    return told


def _said(schema: Mapping[str, Any]) -> str:
    """A schema in words; `[Name]` is one that is described elsewhere."""
    if "$ref" in schema:
        return f"[{_name_of(schema)}]"
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_said, members))
    match schema.get("type"):
        case "array":
            parts = schema.get("prefixItems")
            return f"({', '.join(map(_said, parts))})" if parts else f"list of {_said(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {_said(schema['additionalProperties'])}"
        case "string" if schema.get("format") == "binary":
            return "file"
        case None:
            return "any JSON"
        case kind:
            return f"{kind}{_limits(schema)}"


def _limits(schema: Mapping[str, Any]) -> str:
    told = [f"≥ {schema['minimum']}"] if "minimum" in schema else []
    told += [f"≤ {schema['maximum']}"] if "maximum" in schema else []
    told += [f"default {json.dumps(schema['default'])}"] if schema.get("default") not in (None, "") else []
    return f" ({', '.join(told)})" if told else ""


def _curl(method: str, path: str, operation: Mapping[str, Any], components: Mapping[str, Any], origin: str) -> str:
    """A call that can be tried, up to the names in it."""
    given = {
        place: {
            one["name"]: EXAMPLES.get(one["name"], "name")
            for one in operation["parameters"]
            if one["in"] == place and one["required"]
        }
        for place in ("path", "query")
    }
    address = origin + path.format(**given["path"]) + (f"?{urlencode(given['query'])}" if given["query"] else "")
    parts = ["curl", *([] if method == "GET" else [f"-X {method}"])]
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        if media.startswith("multipart"):
            named = [field.name for field in _fields(body["schema"], components, "") if field.required]
            parts += [f"-F {name}={'@snail.png' if name == 'image' else repr(EXAMPLES.get(name))}" for name in named]
        elif media == "application/json":
            parts.append(f"-d '{json.dumps(_example(body['schema'], components))}'")
        else:
            parts.append("--data-binary @file")
    return " ".join([*parts, f"'{address}'"])


def _example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """A body with what must be in it, or else with what is worth showing."""
    if "$ref" in schema:
        schema = components[_name_of(schema)]
    properties = schema.get("properties", {})
    samples = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return {
        name: EXAMPLES.get(name, samples.get(properties[name].get("type"), "…"))
        for name in schema.get("required") or [name for name in properties if name in EXAMPLES]
    }


def _is_found(entry: Entry, query: str) -> bool:
    names = " ".join(field.name for field in entry.fields)
    text = f"{entry.method} {entry.path} {entry.tag} {entry.help} {names}".lower()
    return all(word in text for word in query.lower().split())


def _marked(known: Collection[str], text: str) -> Any:
    """A text with `code`, and `[Name]` as a link to the schema of that name; all else is escaped."""
    from markupsafe import Markup, escape

    def linked(match: re.Match[str]) -> str:
        return f'<a href="#schema-{match[1]}">{match[1]}</a>' if match[1] in known else match[0]

    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\[(\w+)\]", linked, marked))
