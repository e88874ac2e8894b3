"""Captions by captioners in transformers' own classes, and their summaries by a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPImageProcessorPil,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
)

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import MissingError
from engine.graph.check import check
from engine.node import Context
from engine.run.execute import Execution
from engine.store.cache import Cache
from models.sprite.training.captioner import build_tokenizer
from nodes import registry
from nodes.dataset.describe.captions import load_captioner
from nodes.dataset.table import rows
from nodes.files.footage import Footage
from tests.dataset.films import REAL, three_shots
from tests.text.conftest import babbler

VIEWS = [frame.small for frame in Footage(REAL / "bikes.mp4")][::40]


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GIT for clips of six frames, with random weights."""
    folder, tokenizer = tmp_path_factory.mktemp("git"), build_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    eyes = sizes | {"image_size": 32, "patch_size": 16}
    config = GitConfig(
        vision_config=eyes,
        vocab_size=len(tokenizer),
        num_image_with_embedding=6,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    torch.manual_seed(0)
    GitForCausalLM(config).save_pretrained(folder)
    GitProcessor(_pictures(32), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP for pictures, with random weights."""
    folder, tokenizer = tmp_path_factory.mktemp("blip"), build_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = sizes | {
        "encoder_hidden_size": 32,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    config = BlipConfig(text_config=words, vision_config=sizes | {"image_size": 32, "patch_size": 16})
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(_pictures(32), tokenizer).save_pretrained(folder)
    return folder


def _pictures(side: int) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)


def test_a_captioner_of_clips_sees_its_frames_in_order(git: Path) -> None:
    captioner = load_captioner(Context(), str(git))
    assert captioner.frames == 6
    chosen = [VIEWS[i] for i in (0, 1, 2, 4, 5, 6)]
    assert len(VIEWS) == 7
    pixels = captioner.processor.image_processor([view[..., ::-1].copy() for view in chosen], return_tensors="pt")
    ids = captioner.model.generate(pixel_values=pixels["pixel_values"][None], max_new_tokens=40, do_sample=False)
    (reference,) = captioner.processor.batch_decode(ids, skip_special_tokens=True)
    assert captioner.of_clips([VIEWS, VIEWS[::-1]])[0] == reference.strip()
    assert len(captioner.of_pictures(VIEWS)) == 7


def test_a_captioner_of_pictures_sees_the_middle_of_a_clip(blip: Path) -> None:
    captioner = load_captioner(Context(), str(blip))
    assert captioner.frames == 1
    assert captioner.of_clips([VIEWS]) == captioner.of_pictures([VIEWS[3]])


def test_a_model_that_is_not_a_captioner_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="can't be loaded"):
        load_captioner(Context(), str(tmp_path))


def test_clips_are_captioned_summarised_and_compared(blip: Path, git: Path, tmp_path: Path) -> None:
    three_shots(tmp_path / "a.mp4")
    babbler(tmp_path / "llm")
    inputs: dict[str, Any] = {
        "videos": str(tmp_path),
        "clip": "sprite/clip",
        "aesthetics": "sprite/clip/aesthetic.safetensors",
        "image_captioner": str(blip),
        "video_captioner": str(git),
        "llm": ["llm", 0],
        "rules": "lvd-f",
        "find_text": True,
        "processes": 1,
    }
    graph = {
        "llm": {"class_type": "LLMLoad", "inputs": {"source": str(tmp_path / "llm")}},
        "curate": {"class_type": "LVDCurate", "inputs": inputs},
    }
    execution = Execution(
        check(prepare(Workflow.read({"graph": graph}), registry()), targets=["curate"]), cache=Cache(), out=tmp_path
    )
    assert [type(event).__name__ for event in execution if type(event).__name__ == "NodeFailed"] == []
    clips = rows(execution.results["curate"][0])
    assert len(clips) == 3
    for clip in clips:
        kinds = [kind for kind in ("image_caption", "video_caption", "summary") if clip[kind]]
        assert clip["caption"] in [clip[kind] for kind in kinds]
        assert all(-1 <= clip[f"{kind}_similarity"] <= 1 for kind in kinds)
        assert np.linalg.norm(clip["embedding"]) == pytest.approx(1, abs=1e-2)
        assert clip["summary"]
    assert any(clip["dropped"] for clip in clips)
