"""Long videos in parts: a resumed run repeats no finished part, and gives the same results."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.document.prepared import prepare
from engine.errors import Cancelled
from engine.graph.check import check
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.store.disk import Disk
from nodes import registry
from nodes.dataset.scan import scanner as scan
from nodes.dataset.scan.scanner import Part, ScanSettings, parts
from nodes.dataset.table import rows
from nodes.files.footage import Footage
from tests.dataset.films import sprites, write
from tests.dataset.test_curate import bytes_of, run, workflow

SETTINGS = ScanSettings(text=False)


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of eight shots of two to four seconds, whose parts end after five seconds."""
    monkeypatch.setattr(scan, "PART", 5.0)
    shots = [sprites(seed, 2 + seed % 3) for seed in range(1, 9)]
    (tmp_path / "raw").mkdir()
    return write(tmp_path / "raw" / "film.mp4", np.concatenate(shots), g="36")


def spans(found: list[Part]) -> list[tuple[int, int]]:
    return [(clip["first_frame"], clip["end_frame"]) for part in found for clip in rows(part.clips)]


def all_of(found: Iterable[Part]) -> list[tuple[object, ...]]:
    return [(part.number, part.video, part.clips.data, part.last) for part in found]


def test_parts_end_at_cuts_and_omit_nothing(film: Path) -> None:
    found = list(parts(film, SETTINGS))
    edges = np.cumsum([0, *(24 * (2 + seed % 3) for seed in range(1, 9))]).tolist()
    assert spans(found) == list(pairwise(edges))
    assert [part.number for part in found] == list(range(len(found)))
    assert len(found) > 2
    assert [part.last for part in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].video["frames"] == len(list(Footage(film)))
    times = [frame.time for frame in Footage(film)]
    starts = [clip["start"] for part in found for clip in rows(part.clips)]
    assert starts == pytest.approx([times[first] for first in edges[:-1]], abs=1e-4)


def test_the_parts_after_a_part_are_the_same_in_any_run(film: Path) -> None:
    whole = list(parts(film, SETTINGS))
    for number, part in enumerate(whole):
        assert all_of(parts(film, SETTINGS, after=part)) == all_of(whole[number + 1 :])


def test_a_run_that_ends_within_a_video_is_resumed_there(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = run(film.parent, Cache(), tmp_path / "whole")
    original, done = scan._part, list[int]()

    def part(footage: Footage, settings: ScanSettings, before: Part | None, progress: Any) -> Part:
        done.append(before.number + 1 if before else 0)
        if done == [0, 1, 2]:
            raise Cancelled
        return original(footage, settings, before, progress)

    monkeypatch.setattr(scan, "_part", part)
    with Cache(disk=Disk(tmp_path / "cache")) as cache:
        graph = check(prepare(workflow(film.parent), registry()), targets=["curate", "save"])
        list(Execution(graph, cache=cache, out=tmp_path / "none"))
    with Cache(disk=Disk(tmp_path / "cache")) as cache:
        _, resumed = run(film.parent, cache, tmp_path / "resumed")
    assert done[:4] == [0, 1, 2, 2]
    assert bytes_of(resumed) == bytes_of(whole)


def test_a_process_reports_parts_as_they_are_done(film: Path, tmp_path: Path) -> None:
    """The process doesn't know the shorter parts of these tests, so there is one part; it is reported once."""
    from nodes.dataset.scan.processes import Scanners, Update

    reported = list[int]()

    def report(path: Path, update: Update) -> None:
        if isinstance(update, Part):
            reported.append(update.number)

    with Scanners(SETTINGS, 2, report) as scanners:
        found = scanners.start(film)()
    assert not isinstance(found, str)
    assert reported == [part.number for part in found] == [0]


@pytest.mark.parametrize("name", ["a.ts", "a.avi", "joined.ts"])
def test_where_frames_can_not_be_found_by_their_times_no_frame_is_lost(
    name: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.concatenate([sprites(seed, 3) for seed in range(1, 6)])
    path = write(tmp_path / name, frames)
    if name == "joined.ts":
        path.write_bytes(path.read_bytes() * 2)
    found = list(parts(path, SETTINGS))
    monkeypatch.setattr(scan, "PART", 1000.0)
    (whole,) = parts(path, SETTINGS)
    assert spans(found) == spans([whole])
    assert found[-1].video["frames"] == whole.video["frames"]
    assert found[-1].video["seconds"] == pytest.approx(whole.video["seconds"], abs=1e-3)


def test_damage_in_one_part_is_reported_for_the_video(film: Path) -> None:
    data = bytearray(film.read_bytes())
    middle = data.index(b"mdat") + 4000
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    film.write_bytes(bytes(data))
    found = list(parts(film, SETTINGS))
    assert len(found) > 1
    assert "at" in found[-1].video["problem"]
    for number, part in enumerate(found):
        assert all_of(parts(film, SETTINGS, after=part)) == all_of(found[number + 1 :])
