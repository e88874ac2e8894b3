"""A process is killed at any moment: the next one continues from what was stored, and the results are the same.

Toy nodes are killed five times, and in `make test-full` a hundred times, and the shipped models ten times.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import NodeCached, NodeFinished, NodeStarted, RunFinished
from engine.graph.check import check
from engine.graph.keys import node_keys
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.store.disk import Disk
from nodes import registry
from tests.engine.toys import Run, checked, node

ROOT = Path(__file__).parents[2]


def mixed() -> dict[str, Any]:
    """Two branches of slow nodes, one of them through a value that can't be stored, a list and a choice, all saved."""
    graph = {"a0": node("Number", value=1), "open": node("Open", number=7), "b0": node("Use", handle=["open", 0])}
    for branch in "ab":
        for index in range(1, 9):
            graph[f"{branch}{index}"] = node("Slow", a=[f"{branch}{index - 1}", 0])
    graph["join"] = node("Mix", a=["a8", 0], b=["b8", 0])
    graph["count"] = node("Count", to=4)
    graph["each"] = node("Slow", a=["count", 0])
    graph["odd"] = node("IsOdd", a=["each", 0])
    graph["choose"] = node("Choose", first=["odd", 0], one=["each", 0], other=["a3", 0])
    graph["save each"] = node("SaveNumber", number=["choose", 0], prefix="each")
    graph["save a"] = node("SaveNumber", number=["a8", 0], prefix="a")
    graph["save"] = node("SaveNumber", number=["join", 0])
    return graph


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_until_killed(code: str, finished: int, pause: float) -> None:
    """Run code that prints a line for each finished node in a process, and kill that a pause after so many lines."""
    pipe = subprocess.PIPE  # its input is a pipe that ends with this process, whatever this process's own input is
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        for _ in range(finished):
            if process.stdout.readline() == "RunFinished\n":  # with all that was stored little was left to do
                break
        time.sleep(pause)
        process.kill()
    assert process.returncode == -9


def run_and_print(execution: Execution) -> None:
    """Run, print a line for each finished node, and wait to be killed even when everything is done."""
    for event in execution:
        if isinstance(event, NodeFinished | NodeCached | RunFinished):
            print(type(event).__name__, flush=True)
    input()


def child(cache: str) -> None:
    with Cache(disk=Disk(Path(cache))) as held:
        run_and_print(Execution(checked(mixed()), cache=held, out=Path(cache).parent / "killed"))


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(5, 100))])
def test_the_next_process_continues_from_what_was_stored(seed: int, tmp_path: Path) -> None:
    folder, chance = tmp_path / "cache", random.Random(seed)
    code = f"from tests.engine.test_killed import child; child({str(folder)!r})"
    for _ in range(chance.choice([1, 1, 2, 3])):  # a resumed run may be killed as well
        run_until_killed(code, chance.randint(1, 20), chance.uniform(0, 0.02))
    stored = {path.name[:64] for path in folder.glob("*.safetensors")}
    with Cache(disk=Disk(folder)) as cache:
        resumed = Run(mixed(), cache=cache, out=tmp_path / "resumed")
    keys = node_keys(checked(mixed()), "cpu")
    assert not stored & {keys[event.node] for event in resumed.of(NodeStarted) if event.node in keys}
    Run(mixed(), out=tmp_path / "uninterrupted")
    assert contents(tmp_path / "resumed") == contents(tmp_path / "uninterrupted")


REAL: dict[str, Any] = {
    "model": node("ImageModelLoad", source="sprite/sdxl"),
    "lora": node("LoRALoad", file="sprite/loras/snail.safetensors"),
    "adapted": node("LoRAApply", model=["model", 0], lora=["lora", 0]),
    "prompts": node("TextLines", text="a red snail in a meadow in flat style\na blue snail at night in pixel style"),
    "pictures": node("KeyframeSampler", model=["adapted", 0], prompt=["prompts", 0], steps=6, guidance_scale=3.0),
    "video_model": node("VideoModelLoad", source="sprite/svd"),
    "videos": node("SVDSampler", model=["video_model", 0], image=["pictures", 0], frames=5, steps=4),
    "joined": node("JoinVideos", first=["videos", 0]),
    "save pictures": node("SaveImage", images=["pictures", 0], filename_prefix="picture"),
    "save video": node("SaveVideo", video=["joined", 0], filename_prefix="video"),
}
"""Prompts, key frames and video from the shipped models."""


def real(cache: Path, out: Path) -> Execution:
    graph = check(prepare(Workflow.read(REAL), registry()))
    return Execution(graph, cache=Cache(disk=Disk(cache)), out=out)


def real_child(cache: str) -> None:
    run_and_print(real(Path(cache), Path(cache).parent / "killed"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run of the shipped models that isn't interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    list(real(folder / "cache", folder / "out"))
    return contents(folder / "out")


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10))
def test_the_next_process_continues_with_real_models_too(
    seed: int, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    chance = random.Random(seed)
    code = f"from tests.engine.test_killed import real_child; real_child({str(tmp_path / 'cache')!r})"
    run_until_killed(code, chance.randint(1, 12), chance.uniform(0, 1.0))
    run = real(tmp_path / "cache", tmp_path / "resumed")
    list(run)
    assert run.exit_code == 0
    assert contents(tmp_path / "resumed") == uninterrupted
