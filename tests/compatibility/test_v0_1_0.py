"""What 0.1.0 wrote is read, found and gone on with by every later version.

`v0_1_0/` holds a workflow with a subgraph, a muted node, exposed inputs and a layout (`squares.json`); the PNG and the
cache folder of its run; and the data of a server that had done one job, failed another and had a third waiting.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture

from engine.document.reading import Document, read
from engine.events import NodeCached, NodeFinished, NodeSaved
from engine.graph.check import check
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.store.disk import Disk
from engine.values import Image
from nodes import registry
from tests.server.live import live

FILES = Path(__file__).with_name("v0_1_0")


def squares() -> Document:
    return read(str(FILES / "squares.json"), registry())


def run(document: Document, folder: Path, *targets: str) -> tuple[Execution, list[Any]]:
    shutil.copytree(FILES / "cache", folder / "cache")
    graph = check(document.prepared, base=document.base, targets=targets or None)
    with Cache(disk=Disk(folder / "cache")) as cache:
        execution = Execution(graph, cache=cache, out=folder / "out")
        return execution, list(execution)


def test_a_workflow_keeps_all_that_it_said() -> None:
    assert squares().workflow.document() == json.loads((FILES / "squares.json").read_text())


def test_a_picture_carries_the_same_workflow_still() -> None:
    carried = read(str(FILES / "squares_00001.png"), registry())
    assert carried.workflow == squares().workflow


def test_what_was_computed_then_is_not_computed_again(tmp_path: Path) -> None:
    _, events = run(squares(), tmp_path)
    assert not [event for event in events if isinstance(event, NodeFinished)]
    assert [event.kind for event in events if isinstance(event, NodeCached)] == ["SaveImage"]
    (saved,) = [event for event in events if isinstance(event, NodeSaved)]
    with Picture.open(saved.files[0]) as new, Picture.open(FILES / "squares_00001.png") as old:
        assert new.tobytes() == old.tobytes()
        assert new.text["prompt"] == old.text["prompt"]
    assert read(str(saved.files[0]), registry()).workflow == squares().workflow


def test_a_picture_runs_again(tmp_path: Path) -> None:
    _, events = run(read(str(FILES / "squares_00001.png"), registry()), tmp_path)
    assert not [event for event in events if isinstance(event, NodeFinished)]
    assert [event for event in events if isinstance(event, NodeSaved)]


def test_a_value_in_the_cache_is_what_it_was(tmp_path: Path) -> None:
    execution, events = run(squares(), tmp_path, "square")
    assert not [event for event in events if isinstance(event, NodeFinished)]
    ((image,),) = execution.results.values()
    assert isinstance(image, Image)
    assert image.pixels.shape == (1, 3, 24, 24)
    assert image.pixels[0, :, 0, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.full
def test_a_server_goes_on_with_its_queue_history_and_workflows(tmp_path: Path) -> None:
    shutil.copytree(FILES / "server", tmp_path / "data")
    (tmp_path / "output").mkdir()
    shutil.copy(FILES / "squares_00001.png", tmp_path / "output")
    with live(tmp_path, "--data", "data", "--device", "cpu") as server:
        done, failed = (server.get(f"/history/{name}-before")[f"{name}-before"] for name in ("done", "failed"))
        assert done["status"]["status_str"] == "success"
        (file,) = done["outputs"]["save"]["images"]
        assert server.ask("GET", "/view?filename={filename}&type={type}".format(**file))[0] == 200
        assert "17,179,869,184 pixels" in json.dumps(failed["status"])
        assert server.get("/settings")["kinograph.theme"] == "dark"
        assert [saved["name"] for saved in server.get("/api/kinograph/workflows")] == ["Squares"]
        assert len(server.get("/api/kinograph/workflows/Squares/versions")) == 2

        assert server.get("/api/kinograph/queue")["paused"], "as it was left"
        assert server.job("waiting")["state"] == "pending"
        server.post("/api/kinograph/resume")
        assert server.ended("waiting")["state"] == "done"
