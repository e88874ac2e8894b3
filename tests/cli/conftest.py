"""The command, called in this process or in its own, in a folder and a home made for the test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.cli.main import app
from tests.models_sources.conftest import index

__all__ = ["index"]

NODES = Path(__file__).with_name("toy_nodes.py")
Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")  # so that what the command sets ends with the test
        monkeypatch.delenv(name)


@pytest.fixture
def kinograph() -> Command:
    """Calls the command; those that take a workflow know the toy nodes."""

    def call(*args: str, stdin: str | None = None) -> Result:
        added = ("--nodes", str(NODES)) if args[0] in ("run", "sweep", "validate", "nodes", "models") else ()
        return CliRunner().invoke(app, [*args, *added], input=stdin, catch_exceptions=False)

    return call


def start(*args: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    call = "import sys; from engine.cli.main import main; sys.argv[0] = 'kinograph'; main()"
    return subprocess.Popen(
        [sys.executable, "-c", call, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def write(name: str, graph: dict[str, Any], **about: Any) -> str:
    """Write a workflow file, with nodes given as (kind, inputs); returns its name."""
    entries = {node: {"class_type": kind, "inputs": inputs} for node, (kind, inputs) in graph.items()}
    Path(name).write_text(json.dumps({"kinograph": 1, "graph": entries} | about))
    return name


@pytest.fixture
def snail() -> str:
    """A workflow that saves "SNAIL!", and exposes its text as `theme`."""
    graph = {"say": ("Shout", {"text": "snail"}), "keep": ("Keep", {"text": ["say", 0]})}
    return write("snail.json", graph, inputs={"theme": "say.text"})
