"""Saved workflows are never lost: not through odd names, later versions, invalid drafts, or kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.server.jobs.checking import examine
from engine.server.own.workflows import MOST_LETTERS, RECENT, Version, expendable, folder_name
from nodes import registry
from tests.server.conftest import Server

ROUTE = "/api/kinograph/workflows"


def document(title: str = "A snail", text: str = "a snail") -> dict[str, Any]:
    graph = {"1": {"class_type": "TextLines", "inputs": {"text": text}}}
    return {"kinograph": 1, "title": title, "graph": graph, "layout": {"1": [0, 0]}}


def test_a_workflow_is_saved_listed_read_and_deleted(server: Server) -> None:
    assert server.put(f"{ROUTE}/snail", document()).json == {"name": "snail", "version": 1}
    assert server.get(f"{ROUTE}/snail").json == document()
    (saved,) = server.get(ROUTE).json
    assert (saved["name"], saved["title"], saved["versions"]) == ("snail", "A snail", 1)
    assert abs(saved["saved"] - time.time()) < 60
    assert server.delete(f"{ROUTE}/snail").status == 204
    assert (server.get(ROUTE).json, server.get(f"{ROUTE}/snail").status) == ([], 404)
    assert server.delete(f"{ROUTE}/snail").status == 404


def test_only_a_change_makes_a_new_version(server: Server) -> None:
    for text, version in (("one", 1), ("one", 1), ("two", 2), ("one", 3)):
        assert server.put(f"{ROUTE}/snail", document(text=text)).json["version"] == version
    moved = document(text="one") | {"layout": {"1": [5, 5]}}
    assert server.put(f"{ROUTE}/snail", moved).json["version"] == 4
    versions = server.get(f"{ROUTE}/snail/versions").json
    assert [version["version"] for version in versions] == [4, 3, 2, 1]
    assert versions[0].keys() == {"version", "saved", "size"}
    assert server.get(f"{ROUTE}/snail/versions/2").json == document(text="two")
    assert server.get(f"{ROUTE}/snail/versions/5").status == 404
    assert server.get(f"{ROUTE}/snail/versions/x").status == 404


def test_a_version_saved_elsewhere_meanwhile_is_not_overwritten(server: Server) -> None:
    assert server.put(f"{ROUTE}/snail", document(text="one"), after=0).json["version"] == 1
    assert server.put(f"{ROUTE}/snail", document(text="two"), after=1).json["version"] == 2
    refused = server.put(f"{ROUTE}/snail", document(text="three"), after=1)
    assert refused.status == 409
    assert refused.json["problems"][0]["message"] == "'snail' was saved elsewhere since its version 1"
    assert server.get(f"{ROUTE}/snail").json == document(text="two")
    assert server.put(f"{ROUTE}/snail", document(text="two"), after=1).json["version"] == 2  # nothing has changed
    assert server.put(f"{ROUTE}/snail", document(text="four")).json["version"] == 3  # no check
    server.delete(f"{ROUTE}/snail")
    assert server.put(f"{ROUTE}/snail", document(text="five"), after=3).json["version"] == 1


def test_restoring_a_version_makes_a_new_one(server: Server) -> None:
    server.put(f"{ROUTE}/snail", document(text="one"))
    server.put(f"{ROUTE}/snail", document(text="two"))
    assert server.post(f"{ROUTE}/snail/versions/1/restore").json == {"name": "snail", "version": 3}
    assert server.get(f"{ROUTE}/snail").json == document(text="one")
    assert server.get(f"{ROUTE}/snail/versions/2").json == document(text="two")
    assert server.post(f"{ROUTE}/snail/versions/9/restore").status == 404


def test_the_latest_is_listed_first(server: Server) -> None:
    for name in ("a", "b", "c"):
        server.put(f"{ROUTE}/{name}", document(title=name))
        time.sleep(0.002)
    server.put(f"{ROUTE}/a", document(title="again"))
    assert [(saved["name"], saved["title"]) for saved in server.get(ROUTE).json] == [
        ("a", "again"),
        ("c", "c"),
        ("b", "b"),
    ]


@pytest.mark.parametrize(
    "draft",
    [
        {"kinograph": 1, "graph": {"1": {"class_type": "NoSuchKind", "inputs": {"a": ["2", 0]}}}},
        {"kinograph": 1, "graph": {"1": {"inputs": {}}}},
        {"kinograph": 1, "graph": {}, "unknown": [1, 2]},
        {"kinograph": 2, "graph": 5, "title": 7},
        {"graph": None},
    ],
)
def test_a_draft_is_kept_as_it_was_sent(server: Server, draft: dict[str, Any]) -> None:
    assert server.put(f"{ROUTE}/draft", draft).status == 200
    assert server.get(f"{ROUTE}/draft").json == draft
    assert len(server.get(ROUTE).json) == 1


def test_a_bare_graph_is_saved_as_a_document(server: Server) -> None:
    server.put(f"{ROUTE}/bare", document()["graph"])
    assert server.get(f"{ROUTE}/bare").json == {"kinograph": 1, "graph": document()["graph"]}


def deep(levels: int) -> dict[str, Any]:
    data: Any = 1
    for _ in range(levels):
        data = [data]
    return {"kinograph": 1, "graph": {}, "layout": data}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b"{}x",
        b'{"a": NaN, "graph": {}}',
        b"[" * 5000,
        b"\xff",
        deep(65),
        {"a": 1},
    ],
    ids=range(12),
)
def test_a_body_that_is_no_workflow_is_not_saved(server: Server, body: Any) -> None:
    answer = server.put(f"{ROUTE}/snail", body)
    assert answer.status == 400
    assert server.get(ROUTE).json == []


def test_a_workflow_has_a_limit(server: Server) -> None:
    assert server.put(f"{ROUTE}/snail", deep(60)).status == 200
    assert server.put(f"{ROUTE}/snail", document(text="x" * server.settings.body_limit)).status == 413


@pytest.mark.parametrize(
    "name",
    [
        "Grüße, 世界 🐌",
        "a%2Fb",
        "..%2F..%2Fsecret",
        "%2e%2e%2fa",
        "C:%5Cx",
        "con",
        "NUL.txt",
        "name.",
        "'; drop table",
        "-rf",
        "%25",
        "世" * MOST_LETTERS,
        "%3Cb%3E",
        "e%CC%81",
    ],
)
def test_any_title_is_a_name(server: Server, name: str) -> None:
    assert server.put(f"{ROUTE}/{name}", document()).status == 200
    (saved,) = server.get(ROUTE).json
    again = server.put(f"{ROUTE}/{name}", document(text="other"))
    assert again.json == {"name": saved["name"], "version": 2}
    (folder,) = (server.folders.data / "workflows").iterdir()
    assert folder.name.isascii()
    assert len(folder.name) < 64
    assert server.delete(f"{ROUTE}/{name}").status == 204
    assert list((server.folders.data / "workflows").iterdir()) == []


@pytest.mark.parametrize("name", ["%20", "a%0Ab", "a%00b", "x" * (MOST_LETTERS + 1), "%E2%80%AE"])
def test_unprintable_or_overlong_names_are_refused(server: Server, name: str) -> None:
    assert server.put(f"{ROUTE}/{name}", document()).status == 400


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_different_names_have_different_folders_even_ignoring_case(one: str, other: str) -> None:
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    assert (folder_name(one).lower() == folder_name(other).lower()) == same


def version(number: int, when: datetime) -> Version:
    return Version(number, int(when.timestamp() * 1000), Path(f"{number}.json"))


@given(st.lists(st.integers(0, 400_000) | st.integers(398_000, 400_000), max_size=200).map(sorted))
def test_thinning_keeps_the_last_fifty_then_some_of_the_last_day_and_one_of_each_before(minutes: list[int]) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    versions = [version(number, start + timedelta(minutes=minute)) for number, minute in enumerate(minutes, 1)]
    gone = expendable(versions)
    kept = [one for one in versions if one not in gone]
    assert kept[-RECENT:] == versions[-RECENT:]
    older = [one for one in versions[:-RECENT] if one in kept]
    ancient = [one for one in older if versions[-1].saved - one.saved > 86_400]
    assert len({one.day for one in ancient}) == len(ancient)
    assert len({one.saved // 600 for one in older}) == len(older)
    assert {one.day for one in versions} == {one.day for one in kept}
    assert expendable(kept) == []


def test_hours_of_saving_every_few_seconds_keep_versions_of_each_hour() -> None:
    start = datetime(2025, 1, 1, 8, tzinfo=UTC)
    versions = [version(number, start + timedelta(seconds=4 * number)) for number in range(1, 3600)]
    gone = set(expendable(versions))
    hours = {datetime.fromtimestamp(one.saved, UTC).hour for one in versions if one not in gone}
    assert hours == {8, 9, 10, 11}


def test_versions_do_not_pile_up(server: Server) -> None:
    for number in range(RECENT + 30):
        server.put(f"{ROUTE}/snail", document(text=str(number)))
    versions = server.get(f"{ROUTE}/snail/versions").json
    assert RECENT <= len(versions) <= RECENT + 2  # midnight may fall between
    assert versions[0]["version"] == RECENT + 30
    assert server.get(f"{ROUTE}/snail").json == document(text=str(RECENT + 29))


def test_a_kill_at_any_moment_loses_and_corrupts_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.server.own.workflows import _save\n"
        "root = Path(sys.argv[1])\n"
        "for number in range(int(sys.argv[2]), 10**9):\n"
        "    name = f'flow {number % 3}'\n"
        "    _save(root, name, {'number': number, 'filling': 'x' * 20_000})\n"
        "    print(number, flush=True)\n"
    )
    root, last = tmp_path / "workflows", 0
    for moment in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(last)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.013 * moment)
        os.kill(process.pid, signal.SIGKILL)
        numbers = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        last = int(numbers[-1]) if numbers else last
        documents = [json.loads(path.read_text()) for path in root.glob("[!.]*/[!.]*.json")]
        assert all(len(one["filling"]) == 20_000 for one in documents)
        assert last in {one["number"] for one in documents}
        assert all((folder / "name.txt").read_text() for folder in root.glob("[!.]*"))
        last += 1


def test_leftovers_of_a_killed_server_are_neither_listed_nor_kept(server: Server) -> None:
    server.put(f"{ROUTE}/snail", document())
    root = server.folders.data / "workflows"
    (root / ".half").mkdir()
    (root / ".half" / "name.txt").write_text("half")
    (root / folder_name("snail") / ".half.part").write_text("{")
    (root / "strange").mkdir()
    assert [saved["name"] for saved in server.get(ROUTE).json] == ["snail"]
    server.put(f"{ROUTE}/snail", document(text="other"))
    assert not (root / ".half").exists()
    assert [path.name for path in root.glob("*/.*")] == []


def test_templates_are_the_workflows_that_come_with_kinograph(server: Server) -> None:
    templates = server.get("/api/kinograph/templates").json
    assert {"name", "title", "description"} == templates[0].keys()
    assert "keyframes" in {template["name"] for template in templates}
    assert server.get("/api/kinograph/templates/keyframes").json["title"] == "Key frames from a text"
    for name in ("nothing", "..%2f..%2fpyproject", "%2e%2e"):
        assert server.get(f"/api/kinograph/templates/{name}").status == 404


def test_a_template_can_be_run_as_it_is(server: Server) -> None:
    document = server.get("/api/kinograph/templates/image_to_video").json
    picture = server.folders.input / "boat.png"
    examined = examine(prepare(Workflow.read(document), registry()), server.settings)
    assert examined.can_run
    picture.write_bytes(b"mine")
    server.get("/api/kinograph/templates/image_to_video")
    assert picture.read_bytes() == b"mine"


def test_a_template_brings_the_folders_that_it_reads(server: Server) -> None:
    document = server.get("/api/kinograph/templates/train_and_zip").json
    examined = examine(prepare(Workflow.read(document), registry()), server.settings)
    assert examined.can_run
    pictures = server.folders.input / "pictures"
    assert {folder.name for folder in pictures.iterdir()} == {"rocket", "neon"}
    assert (pictures / "neon" / "neon_1.txt").read_text() == "a purple boat in the sky in neon style\n"
    assert not (server.folders.input / "boat.png").exists()
