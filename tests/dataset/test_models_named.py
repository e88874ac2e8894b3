"""Scores and captions come from models that people name, and what is saved lists them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.document.reading import read
from engine.document.settings import with_setting
from engine.document.workflow import Workflow
from engine.errors import MissingError, WorkflowError
from engine.events import NodeFailed, NodeSaved, RunStarted
from engine.graph.check import check
from engine.models import identity
from engine.models.sources import SHIPPED
from engine.node import Context
from engine.run.execute import Execution
from engine.run.saving import OutputFolder
from engine.store.cache import Cache
from nodes import registry
from nodes.dataset.nodes import LoadScores, LVDCurate, SaveDataset, VideoFrameFilter
from nodes.dataset.provenance import models_of, note
from nodes.dataset.scan.scanner import ScanSettings
from nodes.dataset.table import rows, to_arrow
from tests.cli.conftest import Command, kinograph
from tests.dataset.films import sprites, write

__all__ = ["kinograph"]

DEMO = {"clip": "sprite/clip", "aesthetics": "sprite/clip/aesthetic.safetensors", "image_captioner": "sprite/captioner"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw" / "shot.mp4", sprites(1, 1.2))
    return tmp_path / "raw"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))


def settings(raw: Path, **more: str) -> list[str]:
    return [f"{name}={value}" for name, value in ({"videos": str(raw), "curate.processes": "1"} | more).items()]


def run(name: str, out: Path, given: list[str]) -> tuple[list[Any], dict[str, Path]]:
    prepared = read(name, registry()).prepared
    for setting in given:
        prepared = with_setting(prepared, setting)
    events = list(Execution(check(prepared), cache=Cache(), out=out))
    assert not [event for event in events if isinstance(event, NodeFailed)]
    saved = [path for event in events if isinstance(event, NodeSaved) for path in event.files]
    return events, {path.name: path for path in saved}


def missing(**inputs: Any) -> dict[str, str]:
    """The hints on models that aren't named, by the input they are about."""
    with pytest.raises(MissingError) as caught:
        LVDCurate.check_inputs(LVDCurate.spec.given({"videos": "raw"} | inputs, ()))
    return {str(problem.input): str(problem.hint) for problem in caught.value.problems}


def test_without_models_clips_are_measured_but_not_captioned(raw: Path) -> None:
    found = LVDCurate(videos=str(raw), processes=1).run(Context())
    for clip in rows(found.clips):
        assert clip["motion"] is not None
        assert clip["text_area"] is not None
        assert clip["fingerprint"]
        for column in ("caption", "caption_similarity", "aesthetics", "embedding"):
            assert clip[column] is None
    assert [model.use for model in models_of(to_arrow(found.clips))] == ["find_text"]


def test_the_shipped_command_judges_motion_text_and_duplicates(raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "shot.mp4", raw / "shot again.mp4")
    write(raw / "still.mp4", sprites(8)[:1].repeat(30, 0))
    write(raw / "other.mp4", sprites(2, 1.2))
    events, saved = run("curate_lvd", tmp_path / "out", settings(raw))
    assert next(event.warnings for event in events if isinstance(event, RunStarted)) == ()
    facts = json.loads((saved["lvd_00001"] / "statistics.json").read_text())
    assert facts["note"] == ""
    assert facts["dropped_by"].keys() == {"motion", "duplicates"}
    assert "Made with demo models" not in (saved["lvd_00001"] / "report.html").read_text()
    assert pq.read_table(saved["lvd_00001"] / "manifest.parquet").column_names[0] == "file"


def test_rules_that_need_models_name_the_inputs_to_set() -> None:
    assert missing(rules="lvd-f") == {
        "clip": "set clip and image_captioner or video_captioner, or leave the rule out",
    } | missing(rules="caption_similarity >= 0.2")
    assert missing(rules="worst 25% aesthetics") == {"clip": "set clip and aesthetics, or leave the rule out"}
    assert missing(rules="worst 25% aesthetics", clip="a") == {"aesthetics": "set aesthetics, or leave the rule out"}
    assert missing(rules="summary_similarity >= 0.2", clip="a", image_captioner="b") == {
        "llm": "set llm, or leave the rule out"
    }
    assert missing(rules="video_caption_similarity >= 0.2", clip="a", image_captioner="b") == {
        "video_captioner": "set video_captioner, or leave the rule out"
    }
    assert missing(rules="caption_similarity >= 0.2", clip="a") == {
        "image_captioner": "set image_captioner or video_captioner, or leave the rule out"
    }
    assert missing(aesthetics="head.pth") == {"clip": "set clip, or leave aesthetics out"}
    for enough in (DEMO, {"clip": "a", "aesthetics": "b", "video_captioner": "c"}):
        LVDCurate.check_inputs(LVDCurate.spec.given({"videos": "raw", "rules": "lvd-f", **enough}, ()))
    linked = LVDCurate.spec.given({"videos": "raw"}, {"rules", "llm"})
    LVDCurate.check_inputs(linked)


def test_the_paper_s_workflow_is_refused_before_it_runs_until_its_models_are_named(
    raw: Path, kinograph: Command
) -> None:
    given = [word for setting in settings(raw) for word in ("--set", setting)]
    refused = kinograph("run", "lvd_f", *given)
    assert refused.exit_code == 4
    assert "node curate, input clip: a rule judges aesthetics, for which no model is named" in refused.stderr
    assert "set clip and image_captioner or video_captioner" in refused.stderr
    graph = read("curate_lvd", registry()).prepared.with_input("curate", "videos", str(raw))
    with pytest.raises(WorkflowError, match="'worst 101% motion' is not a rule"):
        check(graph.with_input("curate", "rules", "worst 101% motion"))


def test_demo_models_are_told_at_the_top_of_command_report_card_and_manifest(
    raw: Path, tmp_path: Path, kinograph: Command
) -> None:
    given = [word for setting in settings(raw, **DEMO, **{"rules": "motion >= 0"}) for word in ("--set", setting)]
    first = kinograph("run", "lvd_f", *given, "--out", str(tmp_path / "out"))
    assert first.exit_code == 0, first.stderr
    again = kinograph("run", "lvd_f", *given, "--out", str(tmp_path / "out"))
    for result in (first, again):  # from the cache too
        warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
        assert result.stderr.splitlines()[: len(warnings)] == warnings
        assert len(warnings) == 3
        assert "sprite/captioner is a demo model: it knows only drawn sprites" in result.stderr
    saved = tmp_path / "out" / "lvd_f_00001"
    said = "Made with demo models, which know only drawn sprites: clip (sprite/clip), aesthetics (sprite/clip/aesthetic"
    card = (saved / "README.md").read_text()
    assert card.partition("# lvd_f\n\n")[2].startswith(f"> **{said}")
    page = (saved / "report.html").read_text()
    assert page.partition("</h1>")[2].strip().startswith('<p class="note" role="alert">Made with demo models')
    manifest = pq.read_table(saved / "manifest.parquet")
    assert manifest.column_names[:2] == ["note", "file"]
    assert all(text.startswith(said) for text in manifest["note"].to_pylist())
    assert manifest.num_rows == 1
    for text in (card, page, manifest.schema.metadata[b"kinograph"].decode()):
        for part in ("sprite/captioner", identity("sprite/captioner"), "max_new_tokens", "PP-OCR"):
            assert part in text or part.replace("_", " ") in text


def test_models_of_ones_own_are_listed_by_name_and_digest_without_their_folder(tmp_path: Path, raw: Path) -> None:
    shutil.copytree(SHIPPED / "sprite" / "captioner", tmp_path / "mine" / "captioner")
    source = str(tmp_path / "mine" / "captioner")
    found = LVDCurate(videos=str(raw), processes=1, find_text=False, image_captioner=source).run(Context())
    (model,) = models_of(to_arrow(found.clips))
    assert (model.use, model.name, model.revision, model.demo) == (
        "image_captioner",
        "captioner",
        identity(source),
        False,
    )
    assert model.settings == {"dtype": "float32", "max_new_tokens": 40, "decoding": "greedy"}
    assert note([model]) == ""
    assert not [*LVDCurate.remarks_on({"image_captioner": source})]
    assert [problem.input for problem in LVDCurate.remarks_on({"clip": str(SHIPPED / "sprite" / "clip")})] == ["clip"]


def test_a_table_of_scores_that_is_read_and_filtered_again_still_knows_its_models(raw: Path, tmp_path: Path) -> None:
    found = LVDCurate(videos=str(raw), processes=1, find_text=False, image_captioner="sprite/captioner").run(Context())
    (first,) = OutputFolder(tmp_path, Workflow.read({"graph": {}})).write(
        SaveDataset(clips=found.clips, layout="none").run(Context())
    )
    table = LoadScores(file=str(first / "scores.parquet")).run(Context())
    kept = VideoFrameFilter(source=table, rules="seconds >= 0").run(Context()).kept
    (second,) = OutputFolder(tmp_path, Workflow.read({"graph": {}})).write(
        SaveDataset(clips=kept, layout="none").run(Context())
    )
    assert [model.name for model in models_of(to_arrow(kept))] == ["sprite/captioner"]
    assert json.loads((second / "statistics.json").read_text())["models"][0]["revision"] == identity("sprite/captioner")
    assert "Made with demo models" in (second / "README.md").read_text()


def test_another_text_detector_finds_text_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nodes.dataset.scan import texts
    from nodes.dataset.scan.models import models

    (today,) = models(ScanSettings())
    (tmp_path / "other.onnx").write_bytes(b"other weights")
    monkeypatch.setattr(texts, "weights", lambda: tmp_path / "other.onnx")
    assert models(ScanSettings())[0].revision != today.revision
    assert models(ScanSettings(text=False)) == []
    assert [model.use for model in models(ScanSettings(cuts="both"))] == ["cuts", "find_text"]
