"""`LoRATrain` and the nodes with its rarer settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from pydantic import ValidationError

import nodes.lora.training.loop as loop
import nodes.lora.training.room as room
import nodes.lora.training.run as run
import nodes.lora.training.watching as watching
from engine.errors import Cancelled, InputError, MissingError
from engine.figures import Report
from engine.models import Models, identity
from engine.node import Context, Figure, Outputs
from engine.values import Image, ImageModel, ModelReference, TrainingOptions
from nodes.diffusion.pipelines import pipeline_for
from nodes.lora.nodes import (
    LoRAApply,
    LoRATrain,
    LoRATrainLayers,
    LoRATrainPictures,
    LoRATrainSteps,
    TrainedLoRA,
)
from nodes.lora.training.loop import training
from nodes.lora.training.pictures import Example
from nodes.lora.training.settings import TrainingSettings
from tests.engine.test_encoding import same
from tests.lora.reference import Make, Names, state, untouched

PICTURES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
QUICK: dict[str, Any] = {"prompt": "a red snail", "rank": 2, "steps": 4, "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def _measured_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MEASURED", 2)
    monkeypatch.setattr(watching, "SAMPLE_STEPS", 2)


@pytest.fixture(scope="module")
def model(pipeline: StableDiffusionXLPipeline, tmp_path_factory: pytest.TempPathFactory) -> ImageModel:
    path = tmp_path_factory.mktemp("sdxl")
    pipeline.save_pretrained(path)
    return ImageModel(str(path), str(path), identity(str(path)), "float32", family="Stable Diffusion XL")


@pytest.fixture(scope="module")
def shared() -> Models:
    return Models()


class Kept:
    """A context's `recall` and `keep`, with which a run can be ended at some point."""

    def __init__(self) -> None:
        self.parts: dict[str, Outputs] = {}

    def recall(self, name: str, *, anywhere: bool = False) -> Outputs | None:
        return self.parts.get(name)

    def keep(
        self,
        name: str,
        outputs: Outputs,
        seconds: float,
        *,
        anywhere: bool = False,
        instead_of: Collection[str] = (),
    ) -> None:
        for other in instead_of:
            del self.parts[other]
        self.parts[name] = tuple(type(part).from_tensors(*part.to_tensors()) for part in outputs)

    def context(self, models: Models, listener: Callable[..., None] = lambda *_: None) -> Context:
        return Context(models=models, recall=self.recall, keep=self.keep, on_progress=listener)


def train(ctx: Context, base: ImageModel, said: dict[str, Any] | None = None, **inputs: Any) -> TrainedLoRA:
    """Train quickly, on two batches of three pictures."""
    images = (Image(PICTURES[:1]), Image(PICTURES[1:]))
    given = TrainingOptions({"resolution": 32} | (said or {}))
    return LoRATrain(**{"model": base, "images": images, "options": given} | QUICK | inputs).run(ctx)


def test_model_pictures_and_a_prompt_are_enough() -> None:
    required = LoRATrain.spec.required
    assert required == ("model", "images")


def test_a_lora_is_trained_and_lowers_the_loss(shared: Models, model: ImageModel, names: Names) -> None:
    words = {"subject": ("snail",)}
    trained = train(Context(models=shared), model, {"ema_decay": 0.5}, steps=15, words=words, name="s")
    assert trained.loss < trained.start_loss
    assert (trained.lora.name, trained.lora.words) == ("s", words)
    assert sorted(trained.lora.up) == sorted(names["attention"])
    assert LoRAApply(model=model, lora=trained.lora).run(Context()).vocabulary.required == words


@pytest.mark.parametrize("killed", [1, 3])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(
    shared: Models, model: ImageModel, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    monkeypatch.setattr(run, "KEEP_SECONDS", 0.0)
    kept, steps = Kept(), []
    options = {"class_prompt": "a robot", "class_pictures": 2, "dora": True, "dropout": 0.2, "ema_decay": 0.9}

    def interrupt(done: int, total: int, unit: str, preview: object) -> None:
        if unit == "step" and done == killed:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(kept.context(shared, interrupt), model, options)
    resumed = train(kept.context(shared, lambda done, *_: steps.append((done, _[1]))), model, options)
    assert [done for done, unit in steps if unit == "step"] == [*range(killed, 4)]
    whole = train(Context(models=shared), model, options)
    assert len([name for name in kept.parts if name.startswith("training")]) == 1
    assert same(resumed.lora, whole.lora)
    assert (resumed.loss, resumed.start_loss) == (whole.loss, whole.start_loss)


def test_a_training_in_bfloat16_goes_on_to_the_same_bits_with_captions_encoded_anew(
    shared: Models, model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(loop, "REMEMBERED", 1)
    kept = Kept()

    def interrupt(done: int, total: int, unit: str, preview: object) -> None:
        if unit == "step" and done == 3:
            raise Cancelled

    said: dict[str, Any] = {"said": {"precision": "bfloat16"}, "captions": ("on grass", "on a wall", "in the rain")}
    with pytest.raises(Cancelled):
        train(kept.context(shared, interrupt), model, **said)
    resumed = train(kept.context(shared), model, **said)
    assert same(resumed.lora, train(Context(models=shared), model, **said).lora)


def test_other_pictures_captions_or_settings_do_not_take_up_a_training(
    shared: Models, model: ImageModel, make: Make, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "KEEP_SECONDS", 0.0)
    kept = Kept()
    train(kept.context(shared), model, steps=2)
    file = f"{model.path}/unet/diffusion_pytorch_model.safetensors"
    unet = ModelReference(file, file, identity(file), "float32")
    adapted = LoRAApply(model=model, lora=make(names["attention"][:1])).run(Context())
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"learning_rate": 2e-2},
        {"prompt": "a blue snail"},
        {"images": (Image(PICTURES * 0.9),)},
        {"said": {"flip": True}},
        {"base": adapted},
        {"base": replace(model, schedule={"prediction_type": "v_prediction"})},
        {"base": replace(model, parts={"unet": unet})},
    ]
    for change in [*changes, {}]:
        steps: list[int] = []
        train(
            kept.context(shared, lambda done, *_, steps=steps: steps.append(done)),
            **{"base": model, "steps": 2} | change,
        )
        assert steps[0] == (0 if change else 1)


@pytest.mark.parametrize("where", ["encoding", "step", "class pictures"])
def test_cancelling_takes_effect_within_a_step(
    shared: Models, model: ImageModel, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipeline_for(Context(models=shared), model, "text to image")
    before = state(pipeline)
    calls = {"n": 0}
    after = {"encoding": 2, "step": 60, "class pictures": 4}[where]

    def cancelled() -> bool:
        calls["n"] += 1
        return calls["n"] > after

    done: list[int] = []
    options = {"class_prompt": "a robot", "class_pictures": 2} if where == "class pictures" else None
    ctx = Context(
        models=shared, cancelled=cancelled, on_progress=lambda at, total, unit, _: done.append(at * (unit == "step"))
    )
    with pytest.raises(Cancelled):
        train(ctx, model, options, steps=1000)
    assert calls["n"] == after + 1
    assert max(done, default=0) <= 1
    assert untouched(pipeline, before)


def test_figures_and_losses_are_told_as_it_goes_on(
    shared: Models, model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "REPORT_SECONDS", 0.0)
    told: list[str] = []
    reports: list[Report] = []
    ctx = Context(models=shared, on_text=told.append, on_report=reports.append)
    trained = train(ctx, model, held_out=1)
    assert len(reports) == 5
    assert {"loss", "held out", "a step", "memory foreseen", "trained parameters"} <= set(reports[-1])
    assert "time left" in reports[0]
    assert "time left" not in reports[-1]
    assert reports[-1]["held out"] == Figure(trained.loss)
    assert told[0].startswith("about ")
    assert [line.partition(":")[0] for line in told[1:]] == [f"step {step} of 4" for step in (1, 2, 3)]
    assert all("held out 0." in line or "held out 1." in line for line in told[1:])


def test_little_memory_is_told_with_what_to_do(
    shared: Models, model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "free", lambda device: 1000)
    told: list[str] = []
    train(Context(models=shared, on_text=told.append), model)
    assert "are more than the 1e-06 GB that are free: try a smaller batch or resolution, or gradient" in told[1]


def test_the_memory_that_is_foreseen_is_what_a_step_keeps(pipeline: StableDiffusionXLPipeline) -> None:
    """Counted on small pictures, it is near what a pass over the real ones keeps."""
    pictures = [Example(torch.rand(3, 128, 128), "a red snail")]
    settings = TrainingSettings(rank=2, batch=3, resolution=128)
    with training(pipeline, pictures, settings) as course:
        found = room.foreseen(course)
        real = room._kept(course, 128) * 3
    assert found.kept == pytest.approx(real, rel=0.15)
    with training(pipeline, pictures, replace(settings, gradient_checkpointing=True)) as course:
        assert room.foreseen(course).kept < found.kept / 2
    parameters = sum(parameter.numel() for _, parameter in course.network.named())
    assert found.trained == 16 * parameters


def test_sample_pictures_are_previews_and_change_nothing(shared: Models, model: ImageModel) -> None:
    shown: list[Any] = []
    ctx = Context(
        models=shared, wants_preview=lambda: True, on_progress=lambda done, total, unit, preview: shown.append(preview)
    )
    watched = train(ctx, model, sample_every=2, steps=5)
    assert [type(preview) for preview in shown] == [Image] * 5
    first, second, third = (preview.pixels for preview in shown[::2])
    assert first.shape == (1, 3, 32, 32)
    assert torch.equal(first, shown[1].pixels)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert same(watched.lora, train(Context(models=shared), model, steps=5).lora)
    shown.clear()
    train(ctx, model)
    assert shown == [None] * 4


def test_a_sample_shows_its_own_prompt(shared: Models, model: ImageModel) -> None:
    shown: list[Image] = []
    ctx = Context(
        models=shared, wants_preview=lambda: True, on_progress=lambda done, total, unit, preview: shown.append(preview)
    )
    for prompt in ("", "a robot"):
        train(ctx, model, sample_every=1, sample_prompt=prompt, steps=1)
    assert not torch.equal(shown[0].pixels, shown[1].pixels)


def test_class_pictures_are_drawn_once_and_learnt(shared: Models, model: ImageModel) -> None:
    kept, counts = Kept(), []
    options = {"class_prompt": "a robot", "class_pictures": 2}
    plain = train(Context(models=shared), model, steps=2)
    first = train(kept.context(shared), model, options, steps=2)
    assert not same(plain.lora, first.lora)
    assert len([name for name in kept.parts if name.startswith("class picture")]) == 2
    pipeline = pipeline_for(Context(models=shared), model, "text to image")
    handle = pipeline.vae.decoder.register_forward_hook(lambda *_: counts.append(1))
    again = train(kept.context(shared), model, options | {"prior_weight": 0.5}, steps=2)
    handle.remove()
    assert counts == []
    assert not same(first.lora, again.lora)
    assert not same(first.lora, train(kept.context(shared), model, options | {"class_pictures": 1}, steps=2).lora)
    assert not same(first.lora, train(kept.context(shared), model, options | {"class_prompt": "a snail"}, steps=2).lora)


def test_adapters_of_the_model_stay_active(shared: Models, model: ImageModel, make: Make, names: Names) -> None:
    adapted = LoRAApply(model=model, lora=make(names["convolutions"], 3)).run(Context())
    plain, on_it = train(Context(models=shared), model), train(Context(models=shared), adapted)
    assert plain.start_loss != on_it.start_loss


def test_class_pictures_are_drawn_by_deterministic_algorithms(shared: Models, model: ImageModel) -> None:
    seen: list[bool] = []
    vae = pipeline_for(Context(models=shared), model, "text to image").vae
    handle = vae.decoder.register_forward_hook(lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()))
    options = {"class_prompt": "a robot", "class_pictures": 1, "deterministic": True}
    train(Context(models=shared), model, options, steps=1)
    handle.remove()
    assert seen == [True]


def test_a_dora_is_not_trained_over_adapters(shared: Models, model: ImageModel, make: Make, names: Names) -> None:
    adapted = LoRAApply(model=model, lora=make(names["attention"][:1])).run(Context())
    with pytest.raises(InputError, match="a DoRA scales the model's own weights, and this one has LoRAs") as error:
        train(Context(models=shared), adapted, {"dora": True})
    assert error.value.input == "model"


def test_results_depend_on_the_libraries_of_optimisers() -> None:
    assert {"prodigyopt", "bitsandbytes"} <= {*LoRATrain.spec.libraries}


def test_captions_follow_the_prompt(shared: Models, model: ImageModel) -> None:
    ctx = Context(models=shared)
    captions = ("on grass", "on sand", "")
    together = train(ctx, model, prompt="a snail", captions=captions)
    spelled = train(ctx, model, prompt="", captions=("a snail, on grass", "a snail, on sand", "a snail"))
    assert same(together.lora, spelled.lora)
    assert not same(together.lora, train(ctx, model, prompt="a snail").lora)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"images": ()}, "there are no pictures to train on"),
        ({"prompt": ""}, "nothing says what the pictures show"),
        ({"captions": ("a", "b")}, "there are 2 captions for 3 pictures"),
        ({"prompt": "", "captions": ("a", " ", "b")}, "picture 2 has no caption"),
        ({"images": (Image(torch.zeros(1, 3, 64, 7)),)}, "picture 1 has 7 × 64 pixels, fewer than 8 on a side"),
        ({"held_out": 3}, "3 of 3 pictures are held out"),
        ({"options": TrainingOptions({"warmup": 4})}, "the warm-up takes 4 steps, and the training only 4"),
        ({"options": TrainingOptions({"blocks": ("middle",)})}, "in a block called 'middle'"),
    ],
)
def test_bad_input_is_told_in_one_line(shared: Models, model: ImageModel, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        train(Context(models=shared), model, **inputs)
    assert "\n" not in str(error.value)
    assert error.value.hint


def test_a_model_that_has_no_noise_schedule_is_refused(shared: Models, model: ImageModel, tmp_path: Path) -> None:
    folder = tmp_path / "flow"
    shutil.copytree(model.path, folder)
    about = json.loads((folder / "model_index.json").read_text())
    about["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(about))
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    flow = ImageModel(str(folder), str(folder), identity(str(folder)), "float32", family="Stable Diffusion XL")
    with pytest.raises(InputError, match="the model's scheduler is FlowMatchEulerDiscreteScheduler"):
        train(Context(models=shared), flow)


def test_options_are_added_to_each_other() -> None:
    ctx = Context()
    first = LoRATrainLayers(dora=True, blocks=("mid_block",), alpha=2.0).run(ctx)
    second = LoRATrainSteps(options=first, batch=2, schedule="cosine").run(ctx)
    third = LoRATrainPictures(options=second, flip=False, class_prompt="a robot").run(ctx)
    assert third.given == {
        "dora": True,
        "blocks": ("mid_block",),
        "alpha": 2.0,
        "batch": 2,
        "schedule": "cosine",
        "flip": False,
        "class_prompt": "a robot",
    }
    assert LoRATrainLayers(options=third, dora=False).run(ctx).given["dora"] is False


def test_every_option_is_a_setting_and_every_setting_an_input() -> None:
    kinds = (LoRATrain, LoRATrainLayers, LoRATrainSteps, LoRATrainPictures)
    inputs = {name for kind in kinds for name in kind.spec.inputs}
    settings = set(TrainingSettings.__dataclass_fields__)
    assert settings <= inputs
    of_options = {name for kind in kinds[1:] for name in kind.spec.inputs}
    assert of_options - settings == {"options", "class_prompt", "class_pictures"}


def test_a_missing_optimiser_is_told_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.lora.training.settings.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="the optimiser prodigy needs prodigyopt"):
        LoRATrainSteps.check_inputs({"optimiser": "prodigy"})
    LoRATrainSteps.check_inputs({"optimiser": "adafactor"})


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (LoRATrainLayers, {"dropout": 1.0}),
        (LoRATrainLayers, {"layers": "some"}),
        (LoRATrainSteps, {"batch": 0}),
        (LoRATrainSteps, {"ema_decay": 1.0}),
        (LoRATrainPictures, {"resolution": 60}),
        (LoRATrainPictures, {"snr_gamma": -1.0}),
    ],
)
def test_values_out_of_range_are_refused(kind: Any, inputs: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**inputs)


def test_a_model_of_another_family_is_refused(model: ImageModel) -> None:
    node = LoRATrain(model=replace(model, family="Flux 1"), images=(Image(torch.rand(1, 3, 64, 64)),), prompt="a snail")
    with pytest.raises(InputError, match="LoRAs of Flux 1 can't be trained") as caught:
        node.run(Context())
    assert (caught.value.input, caught.value.hint) == ("model", "take a model of Stable Diffusion XL")
