from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from engine.errors import InputError, MissingError
from engine.models import identity
from engine.node import Context
from engine.values import ImageModel, LoRA, VideoModel, Vocabulary
from nodes.diffusion.adapters import applied
from nodes.diffusion.pipelines import pipeline_for
from nodes.lora.formats import write_lora
from nodes.lora.nodes import LoRAApply, LoRAApplyToVideo, LoRALoad, LoRASave, ZipLoRAMerge
from tests.lora.reference import Make, Names, output

PROMPTS = {"subject_prompt": "a red snail", "style_prompt": "a robot in watercolour style"}
QUICK = {"steps": 2, "pictures": 1, "sampling_steps": 1}


@pytest.fixture
def snail(make: Make, names: Names) -> LoRA:
    return make(names["attention"], 1, name="snail", words={"subject": ("snail",)})


@pytest.fixture
def mosaic(make: Make, names: Names) -> LoRA:
    return make(names["attention"], 2, name="mosaic", words={"style": ("mosaic",)})


@pytest.fixture
def file(snail: LoRA, tmp_path: Path) -> Path:
    path = tmp_path / "snail.safetensors"
    path.write_bytes(write_lora(snail))
    return path


@pytest.fixture(scope="module")
def model(pipeline: StableDiffusionXLPipeline, tmp_path_factory: pytest.TempPathFactory) -> ImageModel:
    path = tmp_path_factory.mktemp("sdxl")
    pipeline.save_pretrained(path)
    words = Vocabulary({"subject": ("robot",), "colour": ("red", "blue")})
    return ImageModel(str(path), str(path), identity(str(path)), "float32", (), words, family="Stable Diffusion XL")


@pytest.fixture(scope="module")
def ctx() -> Context:
    return Context()


def test_a_lora_is_loaded_with_its_words(file: Path, snail: LoRA) -> None:
    lora = LoRALoad(file=str(file), strength=-0.5).run(Context())
    assert (lora.name, lora.words, lora.strength) == ("snail", {"subject": ("snail",)}, -0.5)
    assert lora.up.keys() == snail.up.keys()


def test_words_can_be_given_for_a_file_that_has_none(file: Path) -> None:
    words = {"subject": ("snail", "slug")}
    assert LoRALoad(file=str(file), words=words).run(Context()).words == words


def test_a_folder_with_a_single_lora_will_do(file: Path) -> None:
    assert LoRALoad(file=str(file.parent)).run(Context()).name == "snail"
    (file.parent / "other.safetensors").touch()
    with pytest.raises(InputError, match="holds 2 safetensors files"):
        LoRALoad(file=str(file.parent)).run(Context())


def test_what_a_file_has_besides_is_told(file: Path) -> None:
    save_file(load_file(file) | {"optimizer.step": torch.ones(1)}, file)
    said: list[str] = []
    LoRALoad(file=str(file)).run(Context(on_text=said.append))
    assert said == [
        "snail.safetensors has keys that belong to no layer of a LoRA and are passed over: optimizer.step\n"
    ]


def test_a_missing_lora_is_reported_with_a_near_name(file: Path) -> None:
    with pytest.raises(MissingError, match="snall") as refusal:
        LoRALoad(file=str(file.with_name("snall.safetensors"))).run(Context())
    assert "snail.safetensors" in (refusal.value.hint or "")


@pytest.mark.parametrize("strength", [-4.1, 5, float("nan")])
def test_strengths_have_bounds(file: Path, strength: float) -> None:
    with pytest.raises(ValidationError):
        LoRALoad(file=str(file), strength=strength)


def test_applying_records_the_adapter_and_its_words(model: ImageModel, snail: LoRA, mosaic: LoRA) -> None:
    once = LoRAApply(model=model, lora=replace(snail, strength=0.5), strength=2.0).run(Context())
    twice = LoRAApply(model=once, lora=mosaic).run(Context())
    assert [(adapter.name, adapter.strength) for adapter in twice.adapters] == [("snail", 1.0), ("mosaic", 1.0)]
    assert twice.vocabulary.slots == {"subject": ("robot", "snail"), "colour": ("red", "blue"), "style": ("mosaic",)}
    assert twice.vocabulary.required == {"subject": ("snail",), "style": ("mosaic",)}
    assert (model.adapters, model.vocabulary.required) == ((), {})
    assert twice.identity == model.identity


def test_a_video_model_records_its_adapters_too(snail: LoRA, mosaic: LoRA) -> None:
    model = VideoModel("svd", "/svd", "abc", "float32", family="Stable Video Diffusion")
    once = LoRAApplyToVideo(model=model, lora=replace(snail, strength=0.5), strength=2.0).run(Context())
    twice = LoRAApplyToVideo(model=once, lora=mosaic).run(Context())
    assert [(adapter.name, adapter.strength) for adapter in twice.adapters] == [("snail", 1.0), ("mosaic", 1.0)]
    assert (model.adapters, twice.identity) == ((), model.identity)
    assert twice.nbytes > snail.nbytes + mosaic.nbytes


def test_a_model_without_a_vocabulary_keeps_knowing_all_words(model: ImageModel, snail: LoRA) -> None:
    adapted = LoRAApply(model=replace(model, vocabulary=Vocabulary()), lora=snail).run(Context())
    assert (adapted.vocabulary.slots, adapted.vocabulary.required) == ({}, {"subject": ("snail",)})


def test_a_merge_says_which_layer_two_matrices_do_not_hold(ctx: Context, model: ImageModel, snail: LoRA) -> None:
    layer = next(iter(snail.up))
    other = replace(snail, other={layer: {"rows": torch.ones(len(snail.up[layer]))}})
    with pytest.raises(InputError, match=f"changes {layer} by more than two matrices"):
        ZipLoRAMerge(model=model, subject=snail, style=other, **PROMPTS, **QUICK).run(ctx)


def test_a_merge_is_applied_like_any_lora(ctx: Context, model: ImageModel, snail: LoRA, mosaic: LoRA) -> None:
    steps: list[tuple[int, int]] = []
    watched = replace(ctx, on_progress=lambda done, total, unit, preview: steps.append((done, total)))
    zipped = ZipLoRAMerge(model=model, subject=snail, style=mosaic, **PROMPTS, **QUICK).run(watched)
    assert steps[-1] == (len(steps), len(steps))
    assert 0 < zipped.scaled_loss < zipped.direct_loss
    adapted = LoRAApply(model=model, lora=zipped.lora).run(ctx)
    assert adapted.vocabulary.required == {"subject": ("snail",), "style": ("mosaic",)}
    pipeline = pipeline_for(ctx, model, "text to image")
    with applied(pipeline, adapted.adapters):
        merged = output(pipeline)
    with applied(pipeline, [snail, mosaic]):
        summed = output(pipeline)
    # After two steps of 0.01 the mergers are still near one.
    assert 0 < (merged - summed).abs().max() < (summed - output(pipeline)).abs().max()


def test_adapters_of_the_model_are_active_while_merging(
    ctx: Context, model: ImageModel, snail: LoRA, mosaic: LoRA, make: Make, names: Names
) -> None:
    base = LoRAApply(model=model, lora=make(names["convolutions"], 3)).run(ctx)
    plain = ZipLoRAMerge(model=model, subject=snail, style=mosaic, **PROMPTS, **QUICK).run(ctx)
    on_base = ZipLoRAMerge(model=base, subject=snail, style=mosaic, **PROMPTS, **QUICK).run(ctx)
    assert plain.direct_loss != on_base.direct_loss


@pytest.mark.parametrize("format", ["kohya", "peft"])
def test_a_saved_lora_is_the_lora(snail: LoRA, tmp_path: Path, format: str) -> None:
    (media,) = LoRASave(lora=snail, filename_prefix="loras/snail", format=format).run(Context()).items
    assert (media.extension, media.prefix) == ("safetensors", "loras/snail")
    (tmp_path / "saved.safetensors").write_bytes(media.data)
    back = LoRALoad(file=str(tmp_path / "saved.safetensors")).run(Context())
    assert (back.name, back.words) == ("snail", {"subject": ("snail",)})
    assert all(torch.equal(back.up[name], snail.up[name]) for name in snail.up)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_merge_takes_deterministic_algorithms_if_that_is_asked_for(
    ctx: Context, model: ImageModel, snail: LoRA, mosaic: LoRA, deterministic: bool
) -> None:
    seen: set[bool] = set()
    watched = replace(ctx, on_progress=lambda *report: seen.add(torch.are_deterministic_algorithms_enabled()))
    options = QUICK | {"steps": 0, "deterministic": deterministic}
    ZipLoRAMerge(model=model, subject=snail, style=mosaic, **PROMPTS, **options).run(watched)
    assert seen == {deterministic}
    assert not torch.are_deterministic_algorithms_enabled()


def test_loras_of_other_families_arent_zipped(ctx: Context, model: ImageModel, snail: LoRA, mosaic: LoRA) -> None:
    flux = replace(model, family="Flux 1")
    with pytest.raises(InputError, match="LoRAs of Flux 1 can't be merged so") as caught:
        ZipLoRAMerge(model=flux, subject=snail, style=mosaic, **PROMPTS, **QUICK).run(ctx)
    assert "Stable Diffusion XL" in str(caught.value)
