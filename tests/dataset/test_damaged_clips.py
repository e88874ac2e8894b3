"""Damaged clips are left out of data sets, and take no good copies with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.store.cache import Cache
from nodes.dataset.nodes import LVDCurate
from nodes.dataset.save.statistics import about_damage
from nodes.dataset.table import rows
from tests.dataset.films import sprites, write
from tests.dataset.test_curate import run
from tests.files.test_damage import damage, places


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with a video whose second shot is damaged, and a good copy of that shot."""
    folder = tmp_path / "raw"
    folder.mkdir()
    hurt = write(folder / "a.mp4", np.concatenate([sprites(1), sprites(2)]), g="48")
    write(folder / "b.mp4", sprites(2), crf="20")
    damage(hurt, places(hurt)[85][0] + 20, 600)
    return folder


def test_a_damaged_clip_is_left_out_and_its_good_copy_stays(raw: Path, tmp_path: Path) -> None:
    execution, saved = run(raw, Cache(), tmp_path / "out", rules="no duplicates\nno damage")
    clips, videos = (rows(table) for table in execution.results["curate"])
    assert [(clip["video"], clip["clip"], clip["damaged"] > 0) for clip in clips] == [
        ("a.mp4", 0, False),
        ("a.mp4", 1, True),
        ("b.mp4", 0, False),
    ]
    assert [clip["duplicate_of"] for clip in clips] == [None, "b.mp4#0", None]
    assert [len(clip["dropped"]) for clip in clips] == [0, 2, 0]
    assert clips[1]["dropped"][1].startswith("is damaged for 0.")
    assert [bool(video["problem"]) for video in videos] == [True, False]
    assert pq.read_table(saved / "manifest.parquet")["damaged"].to_pylist() == [0, 0]
    facts = json.loads((saved / "statistics.json").read_text())
    assert facts["damaged"] == {"left_out": 1, "kept": 0}
    assert facts["dropped_by"]["damaged"] == {"clips": 1, "alone": 0}
    for name in ("README.md", "report.html"):
        assert "1 clip was left out, since its video is damaged there." in (saved / name).read_text()


def test_damaged_clips_that_are_kept_are_told_of(raw: Path, tmp_path: Path) -> None:
    _, saved = run(raw, Cache(), tmp_path / "out", rules="", layout="none")
    assert "1 clip was kept though its video is damaged there" in (saved / "README.md").read_text()


def test_what_is_said_of_damage() -> None:
    assert about_damage({"damaged": {"left_out": 0, "kept": 0}}) == ""
    said = about_damage({"damaged": {"left_out": 1200, "kept": 2}})
    assert said.startswith("1,200 clips were left out, since their videos are damaged there. 2 clips were kept")


def test_damaged_clips_are_left_out_by_default() -> None:
    assert "no damage" in LVDCurate.spec.inputs["rules"].default.splitlines()
