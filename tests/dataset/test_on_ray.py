"""Curation by workers of Ray, of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Cancelled
from engine.store.cache import Cache
from engine.store.disk import Disk
from nodes.dataset import on_ray
from nodes.dataset.describe.describer import DescribeSettings
from nodes.dataset.on_ray import Task
from nodes.dataset.scan.scanner import Part, ScanSettings
from nodes.dataset.table import rows
from tests.dataset.films import sprites, three_shots, write
from tests.dataset.test_curate import bytes_of, run

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.full]  # Ray's own, and it takes a while to start


def test_two_workers_make_the_data_set_that_one_process_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    three_shots(raw / "shots.mp4")
    write(raw / "again.mp4", sprites(2, 3), crf="30")
    (raw / "broken.mp4").write_bytes(b"\0" * 1000)
    models = {"clip": "sprite/clip", "aesthetics": "sprite/clip/aesthetic.safetensors", "find_text": True}
    _, plain = run(raw, Cache(), tmp_path / "plain", **models)
    with Cache(disk=Disk(tmp_path / "cache")) as cache:
        execution, by_ray = run(raw, cache, tmp_path / "ray", processes=2, on_ray=True, **models)
    differing = {name for name, data in bytes_of(plain).items() if bytes_of(by_ray)[name] != data}
    assert differing == {"workflow.json"}
    problems = {row["video"]: row["problem"] for row in rows(execution.results["curate"][1])}
    assert "can't be opened as a video" in problems["broken.mp4"]

    asked = list[list[Task]]()
    original = on_ray.described

    def described(tasks: Callable[[], Iterator[Task]], *rest: Any) -> Iterator[on_ray.Outcome]:
        asked.append(list(tasks()))
        return original(tasks, *rest)

    monkeypatch.setattr(on_ray, "described", described)
    with Cache(disk=Disk(tmp_path / "cache")) as cache:  # kept parts are not given to the workers again
        run(raw, cache, tmp_path / "ray", processes=2, on_ray=True, rules="motion >= 0", **models)
    assert [[task.path.name for task in tasks] for tasks in asked] == [["broken.mp4"]]

    asked.clear()
    others = models | {"aesthetics": None}
    with Cache(disk=Disk(tmp_path / "cache")) as cache:  # other models decode nothing anew
        _, by_ray = run(raw, cache, tmp_path / "others", processes=2, on_ray=True, **others)
    scanned = {
        task.path.name: bool(task.after and task.after.last and task.seen) for (tasks,) in [asked] for task in tasks
    }
    assert scanned == {"broken.mp4": False, "shots.mp4": True, "again.mp4": True}
    _, plain = run(raw, Cache(), tmp_path / "others plain", **others)
    differing = {name for name, data in bytes_of(plain).items() if bytes_of(by_ray)[name] != data}
    assert differing == {"workflow.json"}


CRASHING = """
import os, sys
from pathlib import Path
from nodes.dataset import on_ray
from nodes.dataset.describe.describer import DescribeSettings
from nodes.dataset.scan.scanner import ScanSettings

scan = on_ray._scan

def crash(row, stages):  # as a decoder might at one of the videos
    return os._exit(1) if row["path"].endswith("crash.mp4") else scan(row, stages)

on_ray._scan = crash
stages = on_ray.Stages(ScanSettings(text=False), DescribeSettings(), None, "cpu")
tasks = [on_ray.Task(Path(name), [], None) for name in sys.argv[1:]]
for task, (_, found) in zip(tasks, on_ray.run_tasks(tasks, stages, 2)):
    print(task.path.name, found if isinstance(found, str) else sum(part.clips.rows for part in found), sep=";")
"""


def test_a_video_that_ends_its_worker_is_listed_and_affects_no_other(tmp_path: Path) -> None:
    files = [str(write(tmp_path / f"{name}.mp4", sprites(seed))) for seed, name in enumerate(("a", "crash", "c"))]
    words = [sys.executable, "-c", CRASHING, *files]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert [line for line in done.stdout.splitlines() if ";" in line] == [
        "a.mp4;1",
        "crash.mp4;its worker ended each of 3 times",
        "c.mp4;1",
    ], done.stderr


def test_a_video_that_is_gone_for_a_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, reasons = list[float](), [OSError("away"), OSError("away"), OSError("gone\nfor good")]

    def away(*args: object, **options: object) -> Iterator[Part]:
        raise reasons[len(pauses)]

    monkeypatch.setattr(on_ray, "parts", away)
    monkeypatch.setattr(on_ray.time, "sleep", pauses.append)
    stages = on_ray.Stages(ScanSettings(text=False), DescribeSettings(), None, "cpu")
    row = on_ray._block(0, Task(Path("a.mp4"), [], None)).to_pylist()[0]
    assert on_ray._scan(row, stages)["problem"] == "OSError: gone"
    assert pauses == [1.0, 2.0], "nothing is waited for after the last try"


def test_a_run_that_is_cancelled_ends(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", sprites(1))

    def cancel() -> None:
        raise Cancelled

    stages = on_ray.Stages(ScanSettings(text=False), DescribeSettings(), None, "cpu")
    with pytest.raises(Cancelled):
        list(on_ray.described(lambda: iter([Task(tmp_path / "a.mp4", [], None)]), 1, stages, 1, cancel))


def test_a_cluster_of_its_own_lets_nobody_in_without_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    on_ray._set_environment()
    import ray

    code = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR'); print('in')"
    with on_ray._cluster(1):
        address = ray.get_runtime_context().gcs_address
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        token = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
        for given, enters in ((token, True), ({}, False), (token | {"RAY_AUTH_TOKEN": "0" * 64}, False)):
            words = [sys.executable, "-c", code, address]
            tried = subprocess.run(words, env=outside | given, capture_output=True, text=True)
            assert ("in" in tried.stdout.split()) == enters, tried.stderr


def test_its_workers_import_nothing_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nodes", "queue", "engine"):
        (tmp_path / f"{name}.py").write_text("open(f'{__file__}.sprung', 'w')\nraise SystemExit(9)\n")
    video = write(tmp_path / "a.mp4", sprites(1))
    monkeypatch.chdir(tmp_path)
    stages = on_ray.Stages(ScanSettings(text=False), DescribeSettings(), None, "cpu")
    ((scanned, described),) = on_ray.described(lambda: iter([Task(video, [], None)]), 1, stages, 1)
    assert (len(scanned), len(described)) == (1, 1)
    assert list(tmp_path.glob("*.sprung")) == []
