"""Why a video gives no clip, or a scan doesn't start, is said as it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.document.prepared import prepare
from engine.errors import NodeError
from engine.events import NodeFailed
from engine.graph.check import check
from engine.node import Context
from engine.run.execute import Execution
from engine.store.cache import Cache
from nodes import registry
from nodes.dataset.curate import CurationSettings, curate
from nodes.dataset.describe.describer import Describer, DescribeSettings
from nodes.dataset.scan import processes as scanning
from nodes.dataset.scan import scanner
from nodes.dataset.scan.scanner import ScanSettings, scan
from nodes.dataset.table import rows
from nodes.files.nodes import LoadVideo
from tests.dataset.films import Frames, sprites, write
from tests.dataset.test_curate import run, workflow

SETTINGS = ScanSettings(text=False)


def plain(seconds: float, level: int = 90) -> Frames:
    return np.full((round(24 * seconds), 64, 64, 3), level, np.uint8)


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        (sprites(1)[:1], "holds a single picture"),
        (sprites(1)[:12], "lasts 0.5 s, and clips 1 s or more"),
        (plain(2), "shows one colour only"),
        (plain(2, level=0), "shows one colour only"),
        (np.concatenate([sprites(seed, 0.7) for seed in (1, 2)]), "has no shot of 1 s or more"),
        (plain(4), ""),
        (sprites(1), ""),
    ],
    ids=["one picture", "short", "one colour", "black", "quick cuts", "a plain shot", "a shot"],
)
def test_a_video_without_clips_has_a_reason(film: Frames, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", film)
    found = scan(path, SETTINGS)
    assert found.video["problem"] == reason
    assert bool(found.clips) == (not reason)
    assert len(LoadVideo(file=str(path)).run(Context()).frames) == len(film), "it can be loaded all the same"


def test_a_long_video_without_clips_has_a_reason_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "PART", 3.0)
    film = write(tmp_path / "raw.mp4", np.concatenate([sprites(seed, 0.7) for seed in range(12)]), g="12")
    assert len(list(scanner.parts(film, SETTINGS))) > 1
    said: list[str] = []
    describe = Describer(Context(), DescribeSettings(), None)
    found = curate(Context(on_text=said.append), film, CurationSettings(SETTINGS, describe))
    (video,) = rows(found.videos)
    assert (video["clips"], video["problem"]) == (0, "has no shot of 1 s or more")
    assert said == ["raw.mp4: has no shot of 1 s or more\n"]


def test_where_no_process_can_be_started_the_run_says_so_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write(raw / "a.mp4", sprites(1))
    cache = Cache()
    run(raw, cache, tmp_path / "out")
    for seed in (2, 3):
        write(raw / f"{seed}.mp4", sprites(seed))

    def refused(self: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    scanned: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr("multiprocessing.popen_spawn_posix.Popen.__init__", lambda self, process: refused(self))
        with pytest.raises(
            NodeError, match=r"no process can be started to scan a\.mp4: Resource temporarily"
        ) as caught:
            scanning.Scanners(SETTINGS, 2, lambda *update: None).start(raw / "a.mp4")
        assert caught.value.exit_code == 5
        assert "`processes` 1" in str(caught.value.hint)
        graph = check(prepare(workflow(raw, processes=2), registry()), targets=["curate", "save"])
        (failed,) = (
            event for event in Execution(graph, cache=cache, out=tmp_path / "out") if isinstance(event, NodeFailed)
        )
        assert "no process can be started to scan 2.mp4" in failed.problem.message
    start = scanning.Scanners.start
    monkeypatch.setattr(
        scanning.Scanners, "start", lambda self, path, after: (scanned.append(path.name), start(self, path, after))[1]
    )
    run(raw, cache, tmp_path / "out")
    assert scanned == ["2.mp4", "3.mp4"], "the first is kept"
