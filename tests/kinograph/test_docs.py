"""What the documentation shows is run, block by block, as someone would who reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> list[str]:
    return BLOCK.findall((ROOT / "docs" / "python.md").read_text("utf-8"))


def test_the_examples_of_the_reference_run(capsys: pytest.CaptureFixture[str]) -> None:
    around: dict[str, object] = {"__name__": "example"}
    assert len(blocks()) > 6
    for number, block in enumerate(blocks()):
        exec(compile(block, f"<block {number} of docs/python.md>", "exec", dont_inherit=True), around)
    assert Path("boat.json").exists()


def test_so_does_that_of_the_readme() -> None:
    section = (ROOT / "README.md").read_text("utf-8").partition("**In Python.**")[2].partition("\n## ")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    assert "kinograph.run" in code
    exec(compile(code, "<README.md>", "exec", dont_inherit=True), {"__name__": "example"})
