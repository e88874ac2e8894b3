"""Sends valid and invalid requests, made from the OpenAPI document, to every route; each must answer as documented.

The whole run draws other requests each time; what it finds, hypothesis prints so that it can be repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
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
    same_each_time = examples < 50
    for strategy in cases(OPERATIONS[label], there):

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=same_each_time,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=server.address.rstrip("/"), checks=CHECKS)

        ask()
    assert "Traceback" not in server.log


@pytest.mark.full
def test_limits_methods_and_sequences_of_requests_are_as_documented(tmp_path: Path) -> None:
    """Values at and beyond each limit, all methods at each path, and requests that use what earlier ones made."""
    token = "correct horse battery staple"
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    checks += ",unsupported_method,allow_header_conformance,use_after_free"
    with live(tmp_path, env={"KINOGRAPH_TOKEN": token}) as server:
        headers = {"Authorization": f"Bearer {token}"}
        spec = tmp_path / "spec.json"
        spec.write_text(json.dumps(server.ask("GET", "/api/kinograph/openapi.json", headers=headers)[1]))
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(spec), "--url", f"http://{server.host}"]
        command += ["--exclude-path", "/ws", "--checks", checks, "--phases", "coverage,stateful", "--max-time", "20"]
        command += ["-H", f"Authorization: Bearer {token}", "--request-timeout", "20"]
        found = subprocess.run(
            [*command, "--continue-on-failure", "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stdout[-10_000:] + found.stderr
        assert "Traceback" not in server.log
