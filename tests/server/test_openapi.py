"""The OpenAPI document covers every route, and the page shows it to people."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from engine.server.http.openapi import document, page
from engine.server.http.routes import ADDED, Route, Routes, paths
from tests.server.conftest import Server

DOCS = "/api/kinograph/docs"


@pytest.fixture
def spec(server: Server) -> dict[str, Any]:
    answer: dict[str, Any] = server.get("/api/kinograph/openapi.json").json
    return answer


def test_the_document_is_valid(spec: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(spec).validate()
    assert spec["openapi"] == "3.1.0"
    operations = [operation for path in spec["paths"].values() for name, operation in path.items() if name != "servers"]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"].endswith((".", ":", ";")) for operation in operations)


def test_exactly_the_routes_are_documented(server: Server, spec: dict[str, Any]) -> None:
    known = {(r.method, path) for r in server.app.router.routes() if (path := r.resource and r.resource.canonical)}
    documented = {
        (method.upper(), prefix + path)
        for path, methods in spec["paths"].items()
        for method in methods
        if method != "servers"
        for prefix in [server["url"].rstrip("/") for server in methods.get("servers", spec["servers"])]
    }
    assert documented == {(method, path) for method, path in known if method != "HEAD"}


def test_parameters_bodies_and_answers_are_documented(spec: dict[str, Any]) -> None:
    view = spec["paths"]["/view"]["get"]
    by_name = {one["name"]: one for one in view["parameters"]}
    assert by_name["filename"]["required"]
    assert by_name["type"]["schema"]["enum"] == ["input", "output", "temp"]
    assert "webp;90" in by_name["preview"]["description"]
    assert view["responses"]["200"]["content"] == {"*/*": {}}
    upload = spec["paths"]["/upload/image"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    schemas = spec["components"]["schemas"]
    assert schemas[upload["$ref"].rpartition("/")[2]]["properties"]["image"]["format"] == "binary"
    outputs = spec["paths"]["/api/kinograph/outputs"]
    assert outputs["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Page")
    assert set(outputs["delete"]["responses"]) == {"204", "400", "401", "403", "404", "429", "503", "507"}
    assert {"408", "413", "415"} <= set(spec["paths"]["/upload/image"]["post"]["responses"])
    bodies = {path: spec["paths"][path]["post"]["requestBody"] for path in ("/upload/image", "/users", "/settings")}
    assert [body["required"] for body in bodies.values()] == [True, False, False]
    assert spec["paths"]["/api/kinograph/models/fetch"]["post"]["requestBody"]["required"]
    name = spec["paths"]["/api/kinograph/workflows/{name}"]["put"]["parameters"][0]
    assert (name["in"], name["required"]) == ("path", True)


def test_answers_match_the_document(server: Server, spec: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    server.put("/api/kinograph/workflows/snail", {"kinograph": 1, "graph": {}})
    server.post("/userdata/a.json", b"{}")
    (server.folders.output / "a.txt").touch()
    (server.folders.output / "a.json").write_text('{"kinograph": 1, "graph": {}}')
    for path, methods in spec["paths"].items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        required = [one["name"] for one in methods.get("get", {}).get("parameters", ()) if one.get("required")]
        query = {name: "a.json" for name in required if name == "filename"}
        if "application/json" in content and "{" not in path and path != "/userdata":
            schema = content["application/json"]["schema"] | {"components": spec["components"]}
            Draft202012Validator(schema).validate(server.get(path, **query).json)
    refused = server.get("/view")
    schema = spec["components"]["responses"]["E400"]["content"]["application/json"]["schema"]
    Draft202012Validator(schema | {"components": spec["components"]}).validate(refused.json)


class Page(HTMLParser):
    """The parts of a page that the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.tags, self.attributes = set[str](), set[str](), set[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.add(value or "")
            if name in ("href", "src", "action"):
                self.links.add(value or "")


def test_the_page_shows_every_route_and_needs_no_script_and_nothing_from_elsewhere(
    server: Server, spec: dict[str, Any]
) -> None:
    answer = server.get(DOCS)
    assert answer.headers["Content-Type"].startswith("text/html")
    shown = Page(answer.body.decode())
    operations = [one for path in spec["paths"].values() for name, one in path.items() if name != "servers"]
    assert {operation["operationId"] for operation in operations} <= shown.ids
    assert not shown.tags & {"script", "link", "iframe", "img"}
    assert not {name for name in shown.attributes if name.startswith("on") or name == "style"}
    assert {link[1:] for link in shown.links if link.startswith("#")} <= shown.ids
    assert {link for link in shown.links if not link.startswith("#")} == {"openapi.json"}


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("files_view", {"filename": "query", "preview": "query"}),
        ("files_upload_image", {"image": "form", "overwrite": "form"}),
        ("models_fetch", {"source": "body"}),
        ("userdata_write_file", {"file": "path", "application/octet-stream": "body"}),
    ],
)
def test_the_page_says_what_a_route_takes(server: Server, operation: str, fields: dict[str, str]) -> None:
    section = server.get(DOCS).body.decode().partition(f'id="{operation}"')[2].partition(" id=")[0]
    shown = dict(re.findall(r"<tr><td><code>(.*?)</code>.*?</td><td class=\"dim\">(\w+)</td>", section))
    assert fields.items() <= shown.items()


def test_the_page_can_be_searched(server: Server) -> None:
    found = server.get(DOCS, q="UPLOAD mask").body.decode()
    assert "1 routes for" in found
    assert Page(found).ids == {"files_upload_mask"}
    assert "0 routes for" in server.get(DOCS, q="no such thing").body.decode()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "[Page]"])
def test_the_query_is_shown_as_text(server: Server, text: str) -> None:
    found = server.get(DOCS, q=text).body.decode()
    assert not Page(found).tags & {"script", "img"}
    assert "49 " not in re.sub(r"<style>.*</style>", "", found, flags=re.DOTALL)


def test_examples_can_be_tried_as_they_are(server: Server) -> None:
    text = server.get(DOCS).body.decode()
    address = str(server.client.make_url("")).rstrip("/")
    assert f"curl &#39;{address}/view?filename=kinograph_00001.png&#39;" in text
    assert "-F image=@snail.png" in text


def test_a_path_is_documented_without_its_pattern() -> None:
    routes = Routes("toys")

    @routes.get("/toys/{name:.+}")
    async def toy(request: web.Request, name: str) -> str:
        """A toy."""
        return name

    (route,) = routes
    assert (route.parameters, paths(route)) == (["name"], ["/toys/{name:.+}", "/api/toys/{name:.+}"])
    spec = document((route,))
    OpenAPIV31SpecValidator(spec).validate()
    assert list(spec["paths"]) == ["/toys/{name}"]
    assert "/toys/name" in page((route,), "", "http://127.0.0.1:8188")


def test_an_application_knows_its_routes(server: Server) -> None:
    assert all(isinstance(route, Route) for route in server.app[ADDED])
