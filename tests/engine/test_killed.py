"""A process that is killed at any moment: the next one goes on from what was stored."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cache import Cache
from engine.disk import Disk
from engine.events import NodeStarted
from engine.keys import node_keys
from tests.engine.toys import Run, checked, node


def mixed() -> dict[str, Any]:
    """Two branches of slow nodes, one of them through a value that can't be stored, joined and saved."""
    graph = {"a0": node("Number", value=1), "open": node("Open", number=7), "b0": node("Use", handle=["open", 0])}
    for branch in "ab":
        for index in range(1, 9):
            graph[f"{branch}{index}"] = node("Slow", a=[f"{branch}{index - 1}", 0])
    graph["join"] = node("Mix", a=["a8", 0], b=["b8", 0])
    graph["save a"] = node("SaveNumber", number=["a8", 0], prefix="a")
    graph["save"] = node("SaveNumber", number=["join", 0])
    return graph


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_until_killed(cache: Path, finished: int) -> None:
    """Run the graph in a process of its own, which is killed when so many nodes have finished."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", f"from tests.engine.test_killed import child; child({str(cache)!r})"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _ in range(finished):
            process.stdout.readline()
        process.kill()
    assert process.returncode == -9


def child(cache: str) -> None:
    from engine.events import NodeFinished, RunFinished
    from engine.execute import Execution

    with Cache(disk=Disk(Path(cache))) as held:
        for event in Execution(checked(mixed()), cache=held, out=Path(cache).parent / "killed"):
            if isinstance(event, NodeFinished | RunFinished):
                print(type(event).__name__, flush=True)
    input()  # to be killed even when all is done


@pytest.mark.parametrize("seed", range(5))
def test_the_next_process_goes_on_from_what_was_stored(seed: int, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    run_until_killed(folder, random.Random(seed).randint(1, 20))
    stored = {path.name[:64] for path in folder.glob("*.safetensors")}
    with Cache(disk=Disk(folder)) as cache:
        resumed = Run(mixed(), cache=cache, out=tmp_path / "resumed")
    keys = node_keys(checked(mixed()), "cpu")
    assert not stored & {keys[event.node] for event in resumed.of(NodeStarted)}
    Run(mixed(), out=tmp_path / "whole")
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")
