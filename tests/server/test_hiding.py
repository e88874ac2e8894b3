"""Errors tell those who may be elsewhere no absolute paths."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.work.hiding import Hiding
from tests.server.live import Live, live, saving

TOKEN = "a secret of these tests"


@pytest.fixture
def hiding(tmp_path: Path) -> Hiding:
    return Hiding({"input": tmp_path / "my films", "output": tmp_path / "out", "data": tmp_path})


def test_folders_that_are_known_get_their_names(hiding: Hiding, tmp_path: Path) -> None:
    assert hiding.text(f"{tmp_path}/my films/a b.png is damaged") == "input/a b.png is damaged"
    assert hiding.text(f"{tmp_path}/out is full: {tmp_path}/jobs.sqlite") == "output is full: data/jobs.sqlite"
    assert hiding.text(f"{tmp_path}/outside/a.png") == "data/outside/a.png"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("there is no /usr/lib/python3/x.py.", "there is no …/x.py."),
        ("[Errno 2] No such file: '/home/me/my films/a b.png'", "[Errno 2] No such file: '…/a b.png'"),
        ('  File "/usr/lib/with space/node.py", line 3, in run', '  File "…/node.py", line 3, in run'),
        ("PosixPath('/tmp/x/y')", "PosixPath('…/y')"),
        ("in /usr/lib/, and (/etc/passwd)", "in …/lib, and (…/passwd)"),
        (r"C:\Users\me\a.png is damaged", "…/a.png is damaged"),
        ("POST /api/kinograph/jobs failed", "POST /api/kinograph/jobs failed"),
        ("see http://127.0.0.1:8188/usr/lib/x", "see http://127.0.0.1:8188/usr/lib/x"),
        ("hf:owner/name and a/usr/b and 1/2", "hf:owner/name and a/usr/b and 1/2"),
    ],
)
def test_of_other_paths_the_last_part_is_left(hiding: Hiding, text: str, shown: str) -> None:
    assert hiding.text(text) == shown


def test_all_texts_of_a_report_are_gone_through(hiding: Hiding) -> None:
    report = {"problems": [{"message": "/etc/passwd", "node": None}], "seconds": 2.5, "files": ("/usr/bin/x",)}
    shown = {"problems": [{"message": "…/passwd", "node": None}], "seconds": 2.5, "files": ["…/x"]}
    assert hiding.data(report) == shown


def ask(server: Live, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return server.ask(method, path, body, {"Authorization": f"Bearer {TOKEN}"} if "token" in server.address else {})


def told(folder: Path, token: str) -> str:
    """All that a server says of a request that it refuses, and of a job that fails."""
    with live(folder, env={"KINOGRAPH_TOKEN": token}) as server:
        answers = [ask(server, "POST", "/prompt", {"prompt": saving("Wait", "x"), "prompt_id": "/usr/lib/x"})]
        graph = saving("Fail", f"{server.folder}/input/secret.txt and {sys.prefix}/lib/secret.py")
        status, answer = ask(server, "POST", "/prompt", {"prompt": graph})
        assert status == 200, answer

        def ended() -> Any:
            job = ask(server, "GET", f"/api/kinograph/jobs/{answer['prompt_id']}")[1]
            return job if job["state"] == "failed" else None

        job, history = server.until(ended), ask(server, "GET", f"/history/{answer['prompt_id']}")[1]
        assert job["problem"]
        answers += [
            job["problem"],
            *(entry["status"] for entry in history.values()),
        ]  # not the workflow, which was sent
    return json.dumps(answers)


def test_a_server_with_a_token_tells_no_paths(tmp_path: Path) -> None:
    text = told(tmp_path, TOKEN)
    assert "secret.txt" in text
    assert not re.search(rf"{re.escape(str(tmp_path))}|{re.escape(sys.prefix)}|/usr/lib", text)


def test_on_this_machine_they_are_told(tmp_path: Path) -> None:
    assert f"{tmp_path}/input/secret.txt" in told(tmp_path, "")
