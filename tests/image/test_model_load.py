from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from engine.errors import InputError, MissingError, NodeError
from engine.node import Context
from engine.values import ImageModel
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad, ModelVocabulary
from tests.checkpoint import save_checkpoint
from tests.tiny import tiny_sdxl


def load(source: Path) -> ImageModel:
    return ImageModelLoad(source=str(source)).run(Context())


def test_a_folder_becomes_a_light_reference(folder: Path) -> None:
    model = load(folder)
    assert (model.source, model.path, model.dtype, model.adapters) == (str(folder), str(folder), "auto", ())
    assert model.vocabulary.slots == {}


def test_a_model_that_was_replaced_before_it_is_loaded_is_not_taken_for_the_chosen_one(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    model, ctx = load(tmp_path / "model"), Context()
    settings = (tmp_path / "model" / "scheduler" / "scheduler_config.json").read_text()
    write(tmp_path / "model" / "scheduler" / "scheduler_config.json", json.loads(settings) | {"beta_end": 0.5})
    with pytest.raises(NodeError, match=r"model was replaced before it was loaded"):
        pipeline_for(ctx, model, "text to image")
    assert len(ctx.models) == 0
    (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text(settings)
    assert pipeline_for(ctx, model, "text to image").scheduler.config["beta_end"] != 0.5


def test_the_card_lists_the_vocabulary(tmp_path: Path) -> None:
    write(tmp_path / "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    words = {"subject": ["cat", "dog"], "colour": ["red"]}
    write(tmp_path / "card.json", {"size": 64, "vocabulary": words, "phrases": {"red": "in red"}})
    vocabulary = ModelVocabulary(model=load(tmp_path)).run(Context())
    assert vocabulary.slots == {"subject": ("cat", "dog"), "colour": ("red",)}
    assert vocabulary.required == {}
    assert vocabulary.phrases == {"red": "in red"}


def test_the_card_says_which_steps_and_guidance_the_model_is_meant_for(tmp_path: Path) -> None:
    write(tmp_path / "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    assert (load(tmp_path).steps, load(tmp_path).guidance) == (0, 0.0)
    write(tmp_path / "card.json", {"steps": 8, "guidance_scale": 1})
    assert (load(tmp_path).steps, load(tmp_path).guidance) == (8, 1.0)


def test_the_card_says_the_family_where_the_scheduler_misleads(tmp_path: Path) -> None:
    write(tmp_path / "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    (tmp_path / "scheduler").mkdir()
    trailing = {"timestep_spacing": "trailing", "prediction_type": "epsilon"}
    write(tmp_path / "scheduler/scheduler_config.json", trailing | {"_class_name": "EulerDiscreteScheduler"})
    assert load(tmp_path).family == "Stable Diffusion XL Lightning"
    write(tmp_path / "card.json", {"family": "Stable Diffusion XL"})
    assert load(tmp_path).family == "Stable Diffusion XL"
    write(tmp_path / "card.json", {"family": "Flux 1"})
    with pytest.raises(InputError, match=r"card\.json: 'family' can't be \"Flux 1\"") as caught:
        load(tmp_path)
    assert "Stable Diffusion XL Turbo" in str(caught.value)


@pytest.mark.parametrize(
    "card",
    [
        {"family": 3},
        {"steps": 0},
        {"steps": "8"},
        {"steps": True},
        {"guidance_scale": 0},
        {"guidance_scale": "none"},
        {"vocabulary": ["cat"]},
        {"vocabulary": {"subject": "cat"}},
        {"vocabulary": {"subject": []}},
        {"phrases": ["at night"]},
        {"phrases": {"night": 3}},
        ["cat"],
        "{",
    ],
)
def test_a_malformed_card_is_named(tmp_path: Path, card: object) -> None:
    write(tmp_path / "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    (tmp_path / "card.json").write_text(card if isinstance(card, str) else json.dumps(card))
    with pytest.raises(InputError, match=r"card\.json"):
        load(tmp_path)


def test_a_video_model_is_sent_to_its_own_node(tmp_path: Path) -> None:
    write(tmp_path / "model_index.json", {"_class_name": "StableVideoDiffusionPipeline"})
    with pytest.raises(InputError, match="holds a Stable Video Diffusion model") as caught:
        load(tmp_path)
    assert caught.value.input == "source"
    assert caught.value.hint == "VideoModelLoad loads it"


def test_another_pipeline_is_refused_by_class(tmp_path: Path) -> None:
    write(tmp_path / "model_index.json", {"_class_name": "ShapEPipeline"})
    with pytest.raises(InputError, match="holds a ShapEPipeline") as caught:
        load(tmp_path)
    assert "Stable Diffusion XL" in str(caught.value)


def test_a_folder_without_a_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model_index\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("tensor", "hint"),
    [
        ("unet.mid_block.attentions.0.lora_A.weight", "LoRALoad loads it"),
        ("model.diffusion_model.input_blocks.0.0.weight", "give a file with all parts of a model, or its folder"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "give the whole folder of one"),
        ("control_model.time_embed.0.weight", "give the model that it steers"),
        ("first_stage_model.decoder.conv_in.weight", "give a file with all parts of a model"),
        ("body.0.rdb1.conv1.weight", "give a model that draws"),
        ("emb_params", "give the model that it is for"),
        (
            "transformer.weight",
            "known are Stable Diffusion 1.x and 2.x, SDXL, their models for inpainting",
        ),
    ],
)
def test_a_file_of_another_kind_is_recognised(tmp_path: Path, tensor: str, hint: str) -> None:
    file = tmp_path / "some.safetensors"
    save_file({tensor: torch.zeros(1)}, file)
    with pytest.raises(InputError) as caught:
        load(file)
    assert caught.value.hint == hint


def test_pickles_are_never_read(tmp_path: Path) -> None:
    file = tmp_path / "old.ckpt"
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"is a \.ckpt file") as caught:
        load(file)
    assert "safetensors" in str(caught.value)


def test_a_damaged_file_is_called_damaged(tmp_path: Path) -> None:
    file = tmp_path / "cut.safetensors"
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match="damaged"):
        load(file)


def test_missing_components_are_named(tmp_path: Path, folder: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("unet", "vae"))
    with pytest.raises(MissingError, match="lacks unet, vae"):
        load(copy)


def says(folder: Path, entries: dict[str, object]) -> Path:
    """The folder, whose index says something else of some components."""
    index = folder / "model_index.json"
    write(index, json.loads(index.read_text()) | entries)
    return folder


@pytest.mark.parametrize(
    "entry",
    [
        {"unet": []},
        {"unet": ["diffusers"]},
        {"unet": ["diffusers", "UNet2DConditionModel", "more"]},
        {"unet": ["diffusers", None]},
        {"unet": [3, "UNet2DConditionModel"]},
        {"unet": ["..", "x"]},
        {"unet": ["diffusers.models", "UNet2DConditionModel"]},
        {"../x": ["diffusers", "UNet2DConditionModel"]},
    ],
    ids=json.dumps,
)
def test_what_is_no_component_in_an_index_is_refused(tmp_path: Path, folder: Path, entry: dict[str, object]) -> None:
    copy = says(shutil.copytree(folder, tmp_path / "copy"), entry)
    with pytest.raises(InputError, match=r"model_index\.json says .*, which is no component") as caught:
        load(copy)
    assert json.dumps(entry) in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["nowhere", "X"], "there is no X in nowhere"),
        (["diffusers", "NoSuchModel"], "there is no NoSuchModel in diffusers"),
        (["transformers", "pipeline"], "pipeline of transformers, .*, is no model"),
        (["diffusers", "DiffusionPipeline"], "DiffusionPipeline of diffusers, .*, is no model"),
        (["diffusers", "Absent"], "Absent, .*, needs torchsde"),
    ],
)
def test_a_class_that_can_be_no_component_is_one_clear_line(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, entry: list[str], message: str
) -> None:
    stands_in = type("Absent", (), {"_backends": ["torchsde"]})  # as diffusers has them for lack of a library
    monkeypatch.setattr(diffusers, "Absent", stands_in, raising=False)
    copy = says(shutil.copytree(folder, tmp_path / "copy"), {"tokenizer": entry})
    with pytest.raises(MissingError, match=f"copy can't be loaded: {message}"):
        pipeline_for(Context(), load(copy), "text to image")


def test_missing_weights_are_named(tmp_path: Path, folder: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MissingError, match="unet has no weights in safetensors"):
        pipeline_for(Context(), load(copy), "text to image")


def test_damaged_weights_are_a_clear_error(tmp_path: Path, folder: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(MissingError, match="can't be loaded"):
        pipeline_for(Context(), load(copy), "text to image")


def test_a_checkpoint_beside_its_settings_is_the_same_model(tmp_path: Path, folder: Path) -> None:
    weights = shutil.ignore_patterns("*.safetensors")
    file = Path(shutil.copytree(folder, tmp_path / "settings", ignore=weights)) / "all.safetensors"
    save_checkpoint(tiny_sdxl(), file)

    pipeline = pipeline_for(Context(), load(file), "text to image")

    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        read, written = (p.components[name].state_dict() for p in (pipeline, tiny_sdxl()))
        assert read.keys() == written.keys()
        assert all(torch.equal(read[key], written[key]) for key in read)


def test_loading_writes_nothing_to_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline_for(Context(), load(folder), "text to image")
    assert capfd.readouterr() == ("", "")


def test_precision_is_part_of_what_is_resident(folder: Path) -> None:
    ctx, model = Context(), load(folder)
    half = pipeline_for(ctx, dataclasses.replace(model, dtype="bfloat16"), "text to image")
    assert half.vae.dtype == torch.bfloat16
    assert pipeline_for(ctx, model, "text to image").vae.dtype == torch.float32


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))
