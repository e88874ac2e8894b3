"""Sends valid and invalid requests, made from the OpenAPI document, to every route; each must answer as documented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from engine.server.app import ROUTES
from engine.server.http.openapi import document
from tests.server.live import Live, live, saving

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
API = schemathesis.openapi.from_dict(document(tuple(route for routes in ROUTES for route in routes)))
OPERATIONS = {operation.label: operation for operation in (found.ok() for found in API.get_all_operations())}
OPERATIONS.pop("GET /ws")  # continues as a WebSocket


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with TemporaryDirectory() as folder, live(Path(folder)) as server:
        yield server


@pytest.fixture
def there(server: Live) -> dict[str, str]:
    """Existing names for the parameters of paths."""
    job = server.submit(saving("Shout"))
    server.ask("PUT", "/api/kinograph/workflows/mine", {"kinograph": 1, "graph": {}})
    server.ask("POST", "/userdata/notes.txt", b"some")
    return {"id": job, "prompt_id": job, "name": "mine", "version": "1", "kind": "SaveText", "file": "notes.txt"}


def cases(operation: schemathesis.APIOperation, there: dict[str, str]) -> Iterator[st.SearchStrategy[Any]]:
    """Valid requests, some with existing names; and invalid ones, where a request can be invalid."""
    yield operation.as_strategy()
    names = [parameter.name for parameter in operation.path_parameters]
    if known := {name: there[name] for name in names if name in there}:
        yield operation.as_strategy(path_parameters=known)
    if list(operation.query) or any(body.definition["schema"] for body in operation.body):
        yield operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.full)])
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_route_answers_as_documented(server: Live, there: dict[str, str], label: str, examples: int) -> None:
    for strategy in cases(OPERATIONS[label], there):

        @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=strategy)
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=server.address.rstrip("/"), checks=CHECKS)

        ask()
    assert "Traceback" not in server.log
