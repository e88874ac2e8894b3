from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import InputError, MissingError, NodeError
from engine.node import Context
from engine.values import ImageModel
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad
from tests.tiny import tiny_sdxl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sdxl")
    tiny_sdxl().save_pretrained(path)
    return path


def load(source: Path) -> ImageModel:
    return ImageModelLoad(source=str(source)).run(Context())


def test_weights_are_loaded_once_for_all_calls(folder: Path) -> None:
    ctx, model = Context(), load(folder)
    one, other = (pipeline_for(ctx, model, "text to image") for _ in range(2))
    for name in ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer"):
        assert one.components[name] is other.components[name]


def test_what_a_call_changes_of_a_scheduler_no_other_call_sees(folder: Path) -> None:
    ctx, model = Context(), load(folder)
    one, other = (pipeline_for(ctx, model, "text to image") for _ in range(2))
    one.scheduler.set_timesteps(3)
    assert other.scheduler.num_inference_steps is None


def test_models_share_the_components_that_are_equal(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "tuned")
    unet = tiny_sdxl().unet
    tuned = type(unet).from_config(unet.config)
    tuned.save_pretrained(tmp_path / "tuned" / "unet")

    ctx = Context()
    one, other = (pipeline_for(ctx, load(path), "text to image") for path in (folder, tmp_path / "tuned"))

    assert one.unet is not other.unet
    assert one.vae is other.vae
    assert one.text_encoder_2 is other.text_encoder_2


def test_tasks_share_all_components(folder: Path) -> None:
    ctx, model = Context(), load(folder)
    one, other = (pipeline_for(ctx, model, task) for task in ("text to image", "inpainting"))
    assert type(other).__name__ == "StableDiffusionXLInpaintPipeline"
    assert one.unet is other.unet


def test_each_precision_is_held_by_itself(folder: Path) -> None:
    ctx, model = Context(), load(folder)
    half = pipeline_for(ctx, dataclasses.replace(model, dtype="bfloat16"), "text to image")
    assert half.unet.dtype == torch.bfloat16
    assert pipeline_for(ctx, model, "text to image").unet.dtype == torch.float32


def test_a_task_that_the_family_cant_do_is_refused_with_those_that_can(folder: Path) -> None:
    with pytest.raises(InputError, match="Stable Diffusion XL can't do image to video") as caught:
        pipeline_for(Context(), load(folder), "image to video")
    assert "Stable Video Diffusion" in str(caught.value)


def test_components_that_are_there_dont_stand_in_for_a_model_that_was_replaced(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    ctx, model = Context(), load(tmp_path / "model")
    tuned = type(tiny_sdxl().unet).from_config(tiny_sdxl().unet.config)
    tuned.save_pretrained(tmp_path / "model" / "unet")
    pipeline_for(ctx, load(tmp_path / "model"), "text to image")
    with pytest.raises(NodeError, match="was replaced"):
        pipeline_for(ctx, model, "text to image")


@pytest.mark.parametrize(
    "options", [{"variant": "fp16"}, {"max_shard_size": "100KB"}, {"variant": "fp16", "max_shard_size": "100KB"}]
)
def test_weights_in_other_forms_and_in_parts_are_read(folder: Path, tmp_path: Path, options: dict[str, str]) -> None:
    tiny_sdxl().save_pretrained(tmp_path, **options)
    assert not (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    read, whole = (pipeline_for(Context(), load(path), "text to image").unet for path in (tmp_path, folder))
    assert all(torch.equal(weight, whole.state_dict()[name]) for name, weight in read.state_dict().items())


def test_weights_that_are_missing_are_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name, file in (("text_encoder", "model.safetensors"), ("unet", "diffusion_pytorch_model.safetensors")):
        whole = load_file(folder / name / file)
        lost = sorted(whole)[3]
        save_file({key: t for key, t in whole.items() if key != lost}, copy / name / file, {"format": "pt"})
        with pytest.raises(MissingError, match=f"{name} lacks .*{lost.rpartition('text_model.')[2]}"):
            pipeline_for(Context(), load(copy), "text to image")
        shutil.copy(folder / name / file, copy / name / file)


def test_weights_as_pickles_are_refused_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").rename(copy / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(MissingError, match=r"vae has no weights in safetensors, but .*\.bin, which can run code"):
        pipeline_for(Context(), load(copy), "text to image")
