from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from engine.errors import MissingError
from engine.node import Context
from nodes.diffusion.dtypes import chosen_dtype, trainable
from nodes.diffusion.parts import load_part
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad
from nodes.video.nodes import VideoModelLoad
from tests.checkpoint import save_checkpoint
from tests.diffusion.tiny_flows import flux
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


def test_of_weights_in_two_forms_those_that_are_loaded_count(tmp_path: Path) -> None:
    pipeline = tiny_svd()
    pipeline.save_pretrained(tmp_path)
    for dtype, form in ((torch.bfloat16, None), (torch.float16, "fp16")):
        deepcopy(pipeline.unet).to(dtype).save_pretrained(tmp_path / "unet", variant=form)
    model = VideoModelLoad(source=str(tmp_path)).run(Context())
    assert chosen_dtype(model, "cuda") == "bfloat16"


@pytest.fixture
def transformer_apart(tmp_path: Path) -> Path:
    """A folder with Flux without its transformer's weights, and beside it those in float16, in that form alone."""
    flux().save_pretrained(tmp_path / "rest")
    (tmp_path / "rest" / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    deepcopy(flux().transformer).to(torch.float16).save_pretrained(tmp_path / "part", variant="fp16")
    return tmp_path


def test_a_transformer_in_a_folder_of_its_own_says_its_precision_and_is_loaded(transformer_apart: Path) -> None:
    part, rest = (str(transformer_apart / name) for name in ("part", "rest"))
    model = ImageModelLoad(source=part, rest=rest).run(Context())
    assert chosen_dtype(model, "cuda") == "float16"
    settings = dict(flux().transformer.config)
    loaded = load_part(
        "transformer", FluxTransformer2DModel, replace(model.parts["transformer"], dtype="float16"), settings
    )
    assert loaded.state_dict().keys() == flux().transformer.state_dict().keys()


def test_a_damaged_part_is_named(transformer_apart: Path) -> None:
    part, rest = (str(transformer_apart / name) for name in ("part", "rest"))
    (transformer_apart / "part" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"\xff" * 64)
    model = ImageModelLoad(source=part, rest=rest).run(Context())
    with pytest.raises(MissingError, match="part can't be loaded: "):
        chosen_dtype(model, "cuda")


def test_what_would_run_in_float16_is_trained_in_bfloat16(tmp_path: Path) -> None:
    deepcopy(tiny_sdxl()).to(torch.float16).save_pretrained(tmp_path)
    model = ImageModelLoad(source=str(tmp_path)).run(Context())
    assert [trainable(model, device).dtype for device in ("cuda", "cpu")] == ["bfloat16", "auto"]
    chosen = ImageModelLoad(source=str(tmp_path), dtype="float16").run(Context())
    assert trainable(chosen, "cuda").dtype == "float16"


def test_what_is_asked_for_counts(tmp_path: Path) -> None:
    tiny_sdxl().save_pretrained(tmp_path)
    model = ImageModelLoad(source=str(tmp_path), dtype="bfloat16").run(Context())
    assert chosen_dtype(model, "cpu") == "bfloat16"
    assert pipeline_for(Context(), model, "text to image").unet.dtype == torch.bfloat16
