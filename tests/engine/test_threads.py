"""How many threads compute, and how they wait."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.graph.check import check
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.run.threads import cores
from engine.store.cache import Cache
from tests.engine.toys import node


class Light(Node, version=1):
    def run(self, ctx: Context) -> int:
        return torch.get_num_threads()


class Heavy(Light, version=1, uses="device"):
    """The same on the device."""


def test_only_a_node_on_the_device_computes_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    graph = check(
        prepare(Workflow.read({"light": node("Light"), "heavy": node("Heavy")}), Registry([Light, Heavy])),
        targets=["light", "heavy"],
    )
    execution = Execution(graph, cache=Cache(), out=Path("out"))
    assert list(execution)
    torch.set_num_threads(before)
    assert execution.results == {"light": (1,), "heavy": (3,)}


@pytest.mark.parametrize("wanted", ["", "0", "all"])
def test_there_is_always_at_least_one_core(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert cores() >= 1


def test_waiting_threads_yield_their_core_unless_the_user_decides_otherwise() -> None:
    code = "import os, engine.run.execute; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={"PATH": "/usr/bin", **given},
        )
        assert answer.stdout.strip() == expected
