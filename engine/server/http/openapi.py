"""Documents the server's routes: an OpenAPI 3.1 document, and the same as a page to read and search.

Route → its operation (`document`) → its entry on the page (`Entry`) → docs.html.jinja
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

from engine.server.http.routes import ADDED, OWN, Answer, Query, Route, Routes

routes = Routes("documentation")

REFERENCE = "#/components/schemas/{model}"
TEXT = {"type": "string"}
REFUSALS = {
    400: "The request, or the workflow in it, is invalid; all problems are listed.",
    401: "The server was started with a token, which the request doesn't carry.",
    403: "The request comes from a page of another site, or calls this server by a name that it doesn't answer to.",
    404: "The requested object doesn't exist.",
    409: "The request would replace what already exists.",
    408: "The request took too long to arrive.",
    413: "The request's body is too large.",
    415: "The request's body is compressed.",
    429: "Too many tokens come from this address.",
    503: "There are too many connections, or the queue can't be read or written.",
    507: "The disk is full.",
}
ABOUT = """Runs node graphs for generative video. Routes outside `/api/kinograph` are ComfyUI's protocol, and exist \
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
    """One problem."""

    message: str
    node: str | None
    input: str | None
    hint: str | None


class Error(Answer):
    """The first problem, in the protocol's format."""

    type: str
    message: str
    details: str
    extra_info: dict[str, JsonValue]


class Refusal(Answer):
    """Why a request was refused."""

    error: Error
    problems: list[Problem]


class SearchQuery(Query):
    """What to search for."""

    q: str = ""
    """Words that must all occur in a route's path or description."""


@dataclass(frozen=True)
class Field:
    """A parameter, or a member of a body, as the page shows it."""

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
class SchemaEntry:
    """A schema as the page shows it."""

    name: str
    help: str
    fields: tuple[Field, ...]


@routes.get(f"{OWN}/openapi.json")
async def openapi(request: web.Request) -> dict[str, JsonValue]:
    """This server's routes as an OpenAPI 3.1 document."""
    return await asyncio.to_thread(document, request.app[ADDED])


@routes.get(f"{OWN}/docs", gives="text/html")
async def docs(request: web.Request, query: SearchQuery) -> web.Response:
    """This server's routes as a page."""
    text = await asyncio.to_thread(page, request.app[ADDED], query.q, str(request.url.origin()))
    return web.Response(text=text, content_type="text/html")


@lru_cache(maxsize=4)
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of some routes."""
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
        "security": [{}, {"token": []}, {"basic": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"E{status}": _refusal(status) for status in REFUSALS},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user, with the token as password."},
            },
        },
    }


def page(routes: tuple[Route, ...], query: str, origin: str) -> str:
    """The page, with the routes that match a query, or all if it is empty; it contains no scripts."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("engine.server.http", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    spec = document(routes)
    environment.filters["marked"] = partial(_marked, spec["components"]["schemas"])
    matching = [entry for entry in _entries(spec, origin) if _matches(entry, query)]
    tags = list(dict.fromkeys(entry.tag for entry in matching))
    return environment.get_template("docs.html.jinja").render(
        about=ABOUT,
        version=spec["info"]["version"],
        query=query,
        sections=[(tag, [entry for entry in matching if entry.tag == tag]) for tag in tags],
        schemas=[] if query else list(_schema_entries(spec)),
        refusals=REFUSALS,
    )


def _schemas(routes: tuple[Route, ...]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """The schemas of all bodies and answers, by route and role, and the components that they refer to."""
    models: list[tuple[Any, Any, TypeAdapter[Any]]] = [("refusal", "serialization", TypeAdapter(Refusal))]
    for route in routes:
        if model := route.body or route.form:
            models.append(((route, "body"), "validation", TypeAdapter(model)))
        if route.answer is not None:
            models.append(((route, "answer"), "serialization", TypeAdapter(route.answer)))
    schemas, defined = TypeAdapter.json_schemas(models, ref_template=REFERENCE)
    return {key: schema for (key, _), schema in schemas.items()}, defined["$defs"]


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
        operation["requestBody"] = {"required": _needs_body(route), "content": body}
    return operation


def _query(route: Route) -> Iterator[dict[str, Any]]:
    schema = route.query.model_json_schema() if route.query else {}
    for name, member in schema.get("properties", {}).items():
        about = {"description": member["description"]} if "description" in member else {}
        rest = {key: value for key, value in member.items() if key not in ("description", "title")}
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": rest, **about}


def _body(route: Route, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    if route.form:
        return {"multipart/form-data": {"schema": schemas[route, "body"]}}
    if route.body:
        return {"application/json": {"schema": schemas[route, "body"]}}
    return {route.takes: {"schema": {}}} if route.takes else {}


def _needs_body(route: Route) -> bool:
    """Whether the body can't be left out, which counts as an empty object."""
    fields = route.body.model_fields.values() if route.body else ()
    return route.form is not None or any(field.is_required() for field in fields)


def _success(route: Route, schemas: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    if (schema := schemas.get((route, "answer"))) is not None:
        return {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    if route.gives == "websocket":
        return {"101": {"description": "Continues as a WebSocket."}}
    if not route.gives:
        return {"204": {"description": "Done."}}
    return {"200": {"description": "Done.", "content": {route.gives: {}}}}


def _refusals(route: Route) -> dict[str, Any]:
    has_body = bool(route.body or route.form or route.takes)
    conditional = {409: route.may_conflict, 408: has_body, 413: has_body, 415: has_body}
    statuses = [status for status in REFUSALS if conditional.get(status, True)]
    return {str(status): {"$ref": f"#/components/responses/E{status}"} for status in statuses}


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model="Refusal")}
    return {"description": REFUSALS[status], "content": {"application/json": {"schema": schema}}}


def _path(route: Route) -> str:
    """The path as OpenAPI writes it, without the patterns of parameters."""
    return re.sub(r"{(\w+):[^/]*}", r"{\1}", route.path)


def _summary(help: str) -> str:
    """The first sentence, or the part of it before a colon or semicolon."""
    return re.split(r"(?<=[.;:])\s", help, maxsplit=1)[0]


def _name_of(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _entries(spec: Mapping[str, Any], origin: str) -> Iterator[Entry]:
    components = spec["components"]["schemas"]
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            if method == "servers":
                continue
            fields = [
                Field(one["name"], one["in"], _in_words(one["schema"]), one["required"], one.get("description", ""))
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
                _answer_in_words(operation["responses"]),
                _curl(method.upper(), path, operation, components, origin),
            )


def _schema_entries(spec: Mapping[str, Any]) -> Iterator[SchemaEntry]:
    components = spec["components"]["schemas"]
    for name, schema in sorted(components.items()):
        yield SchemaEntry(name, schema.get("description", ""), tuple(_fields(schema, components, "")))


def _fields(schema: Mapping[str, Any], components: Mapping[str, Any], where: str) -> list[Field]:
    """The properties of an object."""
    if "$ref" in schema:
        schema = components[_name_of(schema)]
    required = schema.get("required", ())
    return [
        Field(name, where, _in_words(member), name in required, member.get("description", ""))
        for name, member in schema.get("properties", {}).items()
    ]


def _answer_in_words(responses: Mapping[str, Any]) -> str:
    status, response = next(iter(responses.items()))
    text = f"{status} {HTTPStatus(int(status)).phrase}"
    for media, content in response.get("content", {}).items():
        text += f": {_in_words(content['schema'])}" if "schema" in content else f": {media}"
    return text


def _in_words(schema: Mapping[str, Any]) -> str:
    """A schema in words; `[Name]` refers to a schema described elsewhere."""
    if "$ref" in schema:
        return f"[{_name_of(schema)}]"
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_in_words, members))
    match schema.get("type"):
        case "array":
            parts = schema.get("prefixItems")
            return f"({', '.join(map(_in_words, parts))})" if parts else f"list of {_in_words(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {_in_words(schema['additionalProperties'])}"
        case "string" if schema.get("format") == "binary":
            return "file"
        case None:
            return "any JSON"
        case kind:
            return f"{kind}{_limits(schema)}"


def _limits(schema: Mapping[str, Any]) -> str:
    limits = [f"≥ {schema['minimum']}"] if "minimum" in schema else []
    limits += [f"≤ {schema['maximum']}"] if "maximum" in schema else []
    limits += [f"default {json.dumps(schema['default'])}"] if schema.get("default") not in (None, "") else []
    return f" ({', '.join(limits)})" if limits else ""


def _curl(method: str, path: str, operation: Mapping[str, Any], components: Mapping[str, Any], origin: str) -> str:
    """An example call that can be tried, once the names in it fit."""
    values = {
        place: {
            one["name"]: EXAMPLES.get(one["name"], "name")
            for one in operation["parameters"]
            if one["in"] == place and one["required"]
        }
        for place in ("path", "query")
    }
    address = origin + path.format(**values["path"]) + (f"?{urlencode(values['query'])}" if values["query"] else "")
    parts = ["curl", *([] if method == "GET" else [f"-X {method}"])]
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        if media.startswith("multipart"):
            names = [field.name for field in _fields(body["schema"], components, "") if field.required]
            parts += [f"-F {name}={'@snail.png' if name == 'image' else repr(EXAMPLES.get(name))}" for name in names]
        elif media == "application/json":
            parts.append(f"-d '{json.dumps(_example(body['schema'], components))}'")
        else:
            parts.append("--data-binary @file")
    return " ".join([*parts, f"'{address}'"])


def _example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """An example body: its required members or, if it has none, those in `EXAMPLES`."""
    if "$ref" in schema:
        schema = components[_name_of(schema)]
    properties = schema.get("properties", {})
    samples = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return {
        name: EXAMPLES.get(name, samples.get(properties[name].get("type"), "…"))
        for name in schema.get("required") or [name for name in properties if name in EXAMPLES]
    }


def _matches(entry: Entry, query: str) -> bool:
    names = " ".join(field.name for field in entry.fields)
    text = f"{entry.method} {entry.path} {entry.tag} {entry.help} {names}".lower()
    return all(word in text for word in query.lower().split())


def _marked(known: Collection[str], text: str) -> Any:
    """A text as HTML, with `code`, and with `[Name]` as a link to the schema of that name; the rest is escaped."""
    from markupsafe import Markup, escape

    def linked(match: re.Match[str]) -> str:
        return f'<a href="#schema-{match[1]}">{match[1]}</a>' if match[1] in known else match[0]

    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"\[(\w+)\]", linked, marked))
