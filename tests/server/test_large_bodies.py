"""Workflows that are too large, by every route that takes one, are refused unread, while others are answered."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.errors import KinographError
from engine.server.http.limits import MOST_VALUES, TooLargeError, check_values
from engine.server.jobs import checking
from tests.server.live import Live, live, saving

OWN = "/api/kinograph"
LISTS = b"[" + b",".join([b"[]"] * (MOST_VALUES // 2 + 1)) + b"]"
"""Less than a megabyte."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


def posted(server: Live, path: str, file: bytes, name: str = "a.json") -> tuple[int, Any]:
    """The answer to a form with a file."""
    edge = uuid.uuid4().hex
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + file + f"\r\n--{edge}--\r\n".encode()
    return server.ask("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={edge}"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in ("/prompt", f"{OWN}/validate", f"{OWN}/convert", f"{OWN}/sweeps", "/settings")),
        ("PUT", f"{OWN}/workflows/snail"),
    ],
)
def test_a_body_of_too_many_values_is_refused(server: Live, method: str, path: str) -> None:
    status, answer = server.ask(method, path, b'{"prompt": %s, "workflow": {}}' % LISTS)
    assert (status, "500,000" in answer["error"]["message"]) == (413, True)


def test_a_form_has_the_same_limits(server: Live) -> None:
    status, answer = posted(server, f"{OWN}/convert", LISTS)
    assert (status, "500,000" in answer["error"]["message"]) == (413, True)
    status, answer = posted(server, f"{OWN}/convert", b" " * (33 << 20))
    assert (status, "33,554,432" in answer["error"]["message"]) == (413, True)
    graph = {str(number): {"class_type": "EmptyImage"} for number in range(20_001)}
    status, answer = posted(server, f"{OWN}/convert", json.dumps(graph).encode())
    assert (status, "20,001 nodes" in answer["error"]["message"]) == (400, True)


def test_so_has_what_a_picture_carries(server: Live, tmp_path: Path) -> None:
    carrying = PngInfo()
    carrying.add_text("workflow", LISTS.decode())
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=carrying)
    assert posted(server, f"{OWN}/convert", (tmp_path / "a.png").read_bytes(), "a.png")[0] == 413


def test_others_are_answered_while_a_large_workflow_is_sent(server: Live) -> None:
    """Where 30 MB of empty lists were parsed this took many times as long, for everyone."""
    body = b"[" + b",".join([b"[]"] * 10_000_000) + b"]"
    waits, done = list[float](), threading.Event()

    def ask() -> None:
        while not done.is_set():
            start = time.monotonic()
            server.get("/prompt")
            waits.append(time.monotonic() - start)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert posted(server, f"{OWN}/convert", body)[0] == 413
        assert server.ask("POST", "/prompt", b'{"prompt": %s}' % body)[0] == 413
    finally:
        done.set()
        asking.join()
    assert max(waits) < 2


def test_a_large_workflow_within_the_limits_is_run(server: Live) -> None:
    graph = {str(number): {"class_type": "Text", "inputs": {"text": f"{number}, {number}"}} for number in range(5000)}
    assert server.ended(server.submit(graph | saving("Wait", steps=1)))["state"] == "done"


def test_a_node_has_a_limited_number_of_inputs(server: Live) -> None:
    graph = {"1": {"class_type": "EmptyImage", "inputs": {f"i{number}": 1 for number in range(1001)}}}
    for sent in (graph, {"kinograph": 1, "graph": graph}):
        status, answer = server.ask("POST", f"{OWN}/validate", {"workflow": sent})
        assert (status, "1,001 inputs" in answer["error"]["message"]) == (400, True)


def test_a_size_is_refused_before_the_workflow_is_read(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(checking.reading, "parse", never)
    for data in ({str(n): 0 for n in range(20_001)}, {"graph": dict.fromkeys(map(str, range(20_001)))}):
        with pytest.raises(KinographError, match="20,001 nodes"):
            checking.parse(data, None)  # type: ignore[arg-type]
    with pytest.raises(KinographError, match="20,001 nodes"):
        checking.parse({"nodes": [{}] * 20_001, "links": []}, None)  # type: ignore[arg-type]


def test_of_very_many_problems_the_first_are_told(server: Live) -> None:
    graph = {str(number): {"class_type": "Nothing"} for number in range(1500)}
    answer = server.post(f"{OWN}/validate", {"workflow": graph})
    assert len(answer["problems"]) == 1000
    status, answer = server.ask("POST", "/prompt", {"prompt": graph})
    assert (status, len(answer["problems"]), len(answer["node_errors"])) == (400, 1000, 1000)


@pytest.mark.parametrize("path", ["/queue", "/history"])
def test_a_list_of_very_many_ids_is_refused_in_one_line(server: Live, path: str) -> None:
    status, answer = server.ask("POST", path, {"delete": [1] * 200_000})
    assert (status, len(answer["problems"])) == (400, 1)


def test_commas_in_texts_count_too() -> None:
    check_values(b'"' + b"," * MOST_VALUES + b'"')
    for text in (b"," * (MOST_VALUES + 1), "{" * (MOST_VALUES + 1)):
        with pytest.raises(TooLargeError):
            check_values(text)


def test_a_sweep_that_multiplies_a_large_workflow_is_refused_at_once(server: Live) -> None:
    """A megabyte of these would be minutes of checking, and a gigabyte of memory."""
    node = {"class_type": "SaveText", "inputs": {"text": "x"}}
    workflow = {"kinograph": 1, "graph": {str(number): node for number in range(2000)}}
    axes = [{"name": "1.text", "values": [*map(str, range(1000))]}]
    start = time.monotonic()
    status, answer = server.ask("POST", f"{OWN}/sweeps", {"workflow": workflow, "axes": axes})
    assert time.monotonic() - start < 20
    assert status == 400
    assert answer["error"]["message"].startswith("the 1,000 combinations have 2,000,000 nodes together")
