"""Lists and tables name further files: where a workflow is confined, those files are checked too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import InputError, MissingError, WorkflowError
from engine.events import NodeFailed
from engine.graph.check import check
from engine.graph.graph import Graph
from engine.run.execute import Execution
from engine.store.cache import Cache
from nodes import registry
from nodes.dataset.table import CLIPS, rows
from nodes.files.footage import Footage
from tests.dataset.films import sprites, write

FFCONCAT = "ffconcat version 1.0\nfile ours.mp4\n"
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nours.mp4\n#EXT-X-ENDLIST\n"
QUICK = {"processes": 1, "clip": None, "aesthetics": None, "find_text": False}


@pytest.fixture
def roots(tmp_path: Path) -> Mapping[str, Path]:
    """A folder of inputs with a video, next to another video outside of it."""
    for name in ("input", "output", "secret"):
        (tmp_path / name).mkdir()
    write(tmp_path / "input" / "ours.mp4", sprites(1, 1.0))
    write(tmp_path / "secret" / "theirs.mp4", sprites(2, 1.0))
    return {"input": tmp_path / "input", "output": tmp_path / "output"}


def curated(videos: str, roots: Mapping[str, Path]) -> Graph:
    graph = {"1": {"class_type": "LVDCurate", "inputs": {"videos": videos, **QUICK}}}
    return check(prepare(Workflow.read(graph), registry()), targets=["1"], roots=roots)


def run(graph: Graph) -> tuple[list[Any], Execution]:
    assert graph.confinement
    execution = Execution(graph, cache=Cache(), out=graph.confinement.locate(".", "output"))
    return [event for event in execution if isinstance(event, NodeFailed)], execution


def videos_of(graph: Graph) -> list[str]:
    failures, execution = run(graph)
    assert not failures
    return [row["video"] for row in rows(execution.results["1"][1])]


OUTSIDE = ["{}/secret/theirs.mp4", "../secret/theirs.mp4", "../secret/gone.mp4", "/etc/passwd", "link.mp4"]


@pytest.mark.parametrize("outside", OUTSIDE)
def test_a_list_or_a_table_may_not_name_files_outside(outside: str, roots: Mapping[str, Path], tmp_path: Path) -> None:
    (roots["input"] / "link.mp4").symlink_to(tmp_path / "secret" / "theirs.mp4")
    names = ["ours.mp4", outside.format(tmp_path)]
    (roots["input"] / "list.txt").write_text("\n".join(names))
    pq.write_table(pa.table({"video": names}), roots["input"] / "table.parquet")
    for listed in ("list.txt", "table.parquet"):
        with pytest.raises(WorkflowError, match="leads out of the folders") as caught:
            curated(listed, roots)
        assert (caught.value.problems[0].node, caught.value.problems[0].input) == ("1", "videos")


def test_a_list_that_is_changed_after_the_check_is_checked_again(roots: Mapping[str, Path]) -> None:
    listed = roots["input"] / "list.txt"
    listed.write_text("ours.mp4")
    graph = curated("list.txt", roots)
    listed.write_text("../secret/theirs.mp4")
    (failure,), _ = run(graph)
    assert "leads out of the folders" in failure.problem.message


def test_folders_and_patterns_skip_links_that_lead_out(roots: Mapping[str, Path], tmp_path: Path) -> None:
    (roots["input"] / "link.mp4").symlink_to(tmp_path / "secret" / "theirs.mp4")
    (roots["input"] / "linked").symlink_to(tmp_path / "secret")
    for named in (".", "*.mp4", "**/*.mp4", "*/../*.mp4"):
        assert videos_of(curated(named, roots)) == ["ours.mp4"]
    with pytest.raises(MissingError, match="no files match"):
        curated("link*/*.mp4", roots)
    for named in ("linked/*.mp4", "../*/*.mp4", "*/../../secret/*.mp4"):
        with pytest.raises(WorkflowError, match="is outside"):
            curated(named, roots)


@pytest.mark.parametrize("layout", ["files", "webdataset", "none"])
def test_a_table_of_scores_may_not_have_clips_cut_from_videos_outside(
    layout: str, roots: Mapping[str, Path], tmp_path: Path
) -> None:
    row = {"video": "a", "clip": 0, "first_frame": 0, "end_frame": 9, "start": 0.0, "seconds": 0.4, "dropped": []}
    source = str(tmp_path / "secret" / "theirs.mp4")
    pq.write_table(pa.Table.from_pylist([row | {"source": source}], CLIPS), roots["input"] / "scores.parquet")
    graph = {
        "1": {"class_type": "LoadScores", "inputs": {"file": "scores.parquet"}},
        "2": {"class_type": "SaveDataset", "inputs": {"clips": ["1", 0], "layout": layout}},
    }
    failures, _ = run(check(prepare(Workflow.read(graph), registry()), roots=roots))
    if layout == "none":
        assert not failures, "nothing is read from the video"
    else:
        assert "outside of the folders that may be read" in failures[0].problem.message


@pytest.mark.parametrize(
    ("end", "message"),
    [("", r"text\.mp4 is a text, not a video \("), ("#\x01", r"text\.mp4 can't be opened as a video: ")],
)
@pytest.mark.parametrize("text", [FFCONCAT, PLAYLIST])
def test_a_list_of_videos_is_not_a_video(text: str, end: str, message: str, roots: Mapping[str, Path]) -> None:
    (roots["input"] / "text.mp4").write_text(text + end)
    with pytest.raises(InputError, match=message):
        Footage(roots["input"] / "text.mp4")
