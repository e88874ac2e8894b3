"""The example in the documentation runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.server.live import Live

DOCS = Path(__file__).parents[2] / "docs" / "server.md"


def test_the_example_runs(
    server: Live, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"## From Python\n\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert "http://127.0.0.1:8188" in example
    monkeypatch.chdir(picture.parent)
    exec(example.replace("http://127.0.0.1:8188", server.address), {})
    *events, ended, path = capsys.readouterr().out.splitlines()
    assert events[0].startswith("RunStarted(")
    assert ended.startswith("JobEnded(")
    with Image.open(picture.parent / path) as card:
        assert card.size == (32, 24)
