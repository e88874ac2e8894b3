from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from engine.node import Context
from nodes.diffusion.dtypes import chosen_dtype
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad
from nodes.video.nodes import VideoModelLoad
from tests.checkpoint import save_checkpoint
from tests.tiny import tiny_sdxl, tiny_svd

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", "float32"), ("cuda", "float16"), ("cuda:1", "float16"), ("mps", "float16")]
)
def test_by_itself_a_model_runs_in_what_suits_the_device(tmp_path: Path, device: str, dtype: str) -> None:
    tiny_sdxl().save_pretrained(tmp_path)
    assert chosen_dtype(ImageModelLoad(source=str(tmp_path)).run(Context()), device) == dtype


@pytest.mark.parametrize("kept", HALF)
def test_the_half_precision_of_the_files_is_kept(tmp_path: Path, kept: str) -> None:
    pipeline = tiny_svd()
    pipeline.save_pretrained(tmp_path)
    deepcopy(pipeline.unet).to(HALF[kept]).save_pretrained(tmp_path / "unet")
    model = VideoModelLoad(source=str(tmp_path)).run(Context())
    assert [chosen_dtype(model, device) for device in ("cuda", "cpu")] == [kept, "float32"]


def test_a_single_files_own_precision_is_kept(tmp_path: Path) -> None:
    pipeline = deepcopy(tiny_sdxl()).to(torch.bfloat16)
    pipeline.save_pretrained(tmp_path)
    save_checkpoint(pipeline, tmp_path / "model.safetensors")
    assert chosen_dtype(ImageModelLoad(source=str(tmp_path / "model.safetensors")).run(Context()), "cuda") == "bfloat16"


def test_what_is_asked_for_counts(tmp_path: Path) -> None:
    tiny_sdxl().save_pretrained(tmp_path)
    model = ImageModelLoad(source=str(tmp_path), dtype="bfloat16").run(Context())
    assert chosen_dtype(model, "cpu") == "bfloat16"
    assert pipeline_for(Context(), model, "text to image").unet.dtype == torch.bfloat16
