"""The package itself: light to import, whole, and apart from the command of the same name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import kinograph
from kinograph import Graph, Handle, stubs
from kinograph.handles import Inputs
from tests.engine.test_architecture import HEAVY

ROOT = Path(__file__).parents[2]


def test_importing_it_imports_nothing_that_takes_long() -> None:
    code = "import kinograph, sys, json; print(json.dumps([*sys.modules]))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded = set(json.loads(told))
    assert not (HEAVY | {"networkx", "numpy", "rich", "typer", "aiohttp", "jinja2", "IPython"}) & loaded


def test_what_it_offers_is_there_and_nothing_is_offered_twice() -> None:
    assert len(set(kinograph.__all__)) == len(kinograph.__all__)
    for name in kinograph.__all__:
        assert getattr(kinograph, name).__doc__, name


def test_it_tells_its_version_and_all_of_its_names() -> None:
    assert kinograph.__version__ == metadata.version("kinograph")
    assert {*kinograph.__all__, "__version__"} <= {*dir(kinograph)}
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = kinograph.Cleint


def test_its_names_leave_room_for_those_of_kinds_and_sockets() -> None:
    """Kinds begin with capital letters; `engine.cli.export` knows what else a handle has."""
    from engine.cli.export import HANDLE

    assert not [name for name in vars(Graph) if name[0].isupper()]
    handle = Graph().Text(text="x")
    assert set(HANDLE) == {name for name in dir(Handle) if not name.startswith("_")} == {*dir(handle)} - {"out"}
    assert not [name for name in dir(Inputs) if not name.startswith("_")]


def test_the_stub_file_is_as_the_kinds_are() -> None:
    assert stubs.STUB.read_text("utf-8") == stubs.stub(stubs.shipped()), "run python -m kinograph.stubs"


def test_the_command_of_its_name_is_something_else(tmp_path: Path) -> None:
    """As pip installs it: a script without a suffix, in a folder that Python looks for modules in."""
    script = tmp_path / "kinograph"
    script.write_text("from engine.cli.main import main\nimport kinograph\nassert kinograph.run\nmain()\n")
    command = [sys.executable, str(script), "workflows"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=env).stdout
    assert "keyframes" in told
