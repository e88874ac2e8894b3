from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from diffusers import (
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionXLPipeline,
)
from diffusers.training_utils import compute_snr
from torch import Tensor

from engine.errors import Cancelled, InputError
from engine.values import LoRA
from nodes.diffusion.adapters import applied
from nodes.lora.prediction import noise_schedule
from nodes.lora.training.family import family_of
from nodes.lora.training.layers import PROJECTIONS
from nodes.lora.training.loop import snr_weights, train_lora
from nodes.lora.training.optimisers import rate_at
from nodes.lora.training.pictures import Example
from nodes.lora.training.settings import TrainingSettings
from tests.lora.reference import Names, output, state, untouched

SHAPES = ("constant", "linear", "cosine")
FEW = TrainingSettings(rank=2, steps=3, batch=2, learning_rate=1e-2)
PICTURES = [
    Example(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)), caption)
    for i, caption in enumerate(("a red snail", "a blue snail", "a snail on grass"))
]


@pytest.fixture(scope="module")
def velocity(pipeline: StableDiffusionXLPipeline) -> StableDiffusionXLPipeline:
    """The pipeline as one that predicts velocity."""
    scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, prediction_type="v_prediction")
    return StableDiffusionXLPipeline(**pipeline.components | {"scheduler": scheduler}, add_watermarker=False)


def train(pipeline: StableDiffusionXLPipeline, settings: TrainingSettings = FEW, **rest: object) -> LoRA:
    return train_lora(pipeline, PICTURES, settings, **{"name": "snail"} | rest)


def losses(pipeline: StableDiffusionXLPipeline, settings: TrainingSettings, **rest: object) -> list[float]:
    seen: list[float] = []
    train(pipeline, settings, progress=lambda step, steps, loss: seen.append(loss), **rest)
    return seen


def same(first: LoRA, second: LoRA) -> bool:
    return all(torch.equal(first.up[n], second.up[n]) and torch.equal(first.down[n], second.down[n]) for n in first.up)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_model_with_the_lora_predicts_the_pictures_better(
    pipeline: StableDiffusionXLPipeline, velocity: StableDiffusionXLPipeline, prediction: str
) -> None:
    model = velocity if prediction == "v_prediction" else pipeline
    settings = replace(FEW, rank=4, alpha=2.0, steps=15, layers="all")
    watching = replace(settings, learning_rate=0.0, steps=5)
    before = losses(model, watching)
    with applied(model, [train(model, settings)]):
        after = losses(model, watching)
    assert sum(after) < 0.97 * sum(before)


def test_the_pipeline_is_left_as_it_was(pipeline: StableDiffusionXLPipeline) -> None:
    before, drawn = state(pipeline), output(pipeline)
    train(pipeline, replace(FEW, text_encoders=True, gradient_checkpointing=True))
    assert untouched(pipeline, before)
    assert torch.equal(output(pipeline), drawn)
    assert not pipeline.unet.is_gradient_checkpointing


def test_stopping_leaves_the_pipeline_as_it_was(pipeline: StableDiffusionXLPipeline) -> None:
    before = state(pipeline)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(pipeline, progress=stop)
    assert untouched(pipeline, before)


def test_a_seed_repeats_a_training(pipeline: StableDiffusionXLPipeline) -> None:
    assert same(train(pipeline), train(pipeline))
    assert not same(train(pipeline), train(pipeline, replace(FEW, seed=1)))


def test_gradient_checkpointing_changes_memory_only(pipeline: StableDiffusionXLPipeline) -> None:
    settings = replace(FEW, layers="all")
    assert losses(pipeline, replace(settings, gradient_checkpointing=True)) == pytest.approx(losses(pipeline, settings))


def test_layers_are_chosen(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    one = replace(FEW, steps=1)
    assert sorted(train(pipeline, one).up) == sorted(names["attention"])
    everything = train(pipeline, replace(one, layers="all"))
    assert sorted(everything.up) == sorted(names["attention"] + names["convolutions"])
    assert {len(down) for down in everything.down.values()} == {2}
    matrices = train(pipeline, replace(one, layers="linear"))
    assert set(names["attention"]) < set(matrices.up) < set(everything.up)
    assert all(down.ndim == 2 for down in matrices.down.values())
    assert any(name.endswith(PROJECTIONS) for name in matrices.up)


def test_blocks_are_chosen(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    some = train(pipeline, replace(FEW, steps=1, blocks=("mid_block", "up_blocks.0")))
    assert sorted(some.up) == sorted(
        name for name in names["attention"] if "mid_block" in name or "up_blocks.0" in name
    )
    assert len(some.up) < len(names["attention"])


def test_words_and_name_are_kept(pipeline: StableDiffusionXLPipeline) -> None:
    lora = train(pipeline, words={"subject": ("snail",)})
    assert (lora.name, lora.words, lora.strength) == ("snail", {"subject": ("snail",)}, 1)


def test_text_encoders_are_trained_if_asked(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    lora = train(pipeline, replace(FEW, text_encoders=True, text_learning_rate=1e-2))
    assert sorted(lora.up) == sorted(names["attention"] + names["text"])
    # The last layer's output is not used by SDXL, which takes the one before: nothing is learnt there.
    used = [name for name in names["text"] if ".layers.0." in name]
    assert all(lora.up[name].abs().max() > 0 for name in used)


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_the_result_is_what_was_trained(pipeline: StableDiffusionXLPipeline, alpha: float | None) -> None:
    """The loss that the second step sees is that of a model with the LoRA of the first."""
    settings = replace(FEW, alpha=alpha, steps=2, layers="all", text_encoders=True)
    _, expected = losses(pipeline, settings)
    with applied(pipeline, [train(pipeline, replace(settings, steps=1))]):
        _, found = losses(pipeline, replace(settings, learning_rate=0.0, text_learning_rate=0.0))
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_average_lags_behind_the_weights(pipeline: StableDiffusionXLPipeline) -> None:
    def size(lora: LoRA) -> float:
        return sum(up.abs().sum().item() for up in lora.up.values())

    assert 0 < size(train(pipeline, replace(FEW, ema_decay=0.99))) < size(train(pipeline))


def test_prior_pictures_are_learnt_with_the_given_weight(pipeline: StableDiffusionXLPipeline) -> None:
    prior = [Example(torch.zeros(3, 64, 64), "a robot")]
    one = replace(FEW, steps=1)
    (own,), (both,) = losses(pipeline, one), losses(pipeline, one, prior=prior)
    (twice,) = losses(pipeline, replace(one, prior_weight=2.0), prior=prior)
    assert both > own
    assert twice - own == pytest.approx(2 * (both - own), rel=1e-4)


def test_dropped_captions_do_not_matter(pipeline: StableDiffusionXLPipeline) -> None:
    dropped = replace(FEW, caption_dropout=1.0)
    renamed = [replace(example, caption="a robot on sand") for example in PICTURES]
    assert same(train(pipeline, dropped), train_lora(pipeline, renamed, dropped, name="x"))
    assert not same(train(pipeline), train_lora(pipeline, renamed, FEW, name="x"))


def test_schedules_change_the_learning_rate(pipeline: StableDiffusionXLPipeline) -> None:
    assert not same(train(pipeline, replace(FEW, schedule="cosine")), train(pipeline))
    shares = {
        name: [rate_at(step, replace(FEW, steps=8, warmup=2, schedule=name)) for step in range(8)] for name in SHAPES
    }
    assert shares["constant"] == [0, 0.5, 1, 1, 1, 1, 1, 1]
    assert shares["linear"] == pytest.approx([0, 0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert shares["cosine"] == pytest.approx([0, 0.5, *((1 + math.cos(math.pi * k / 6)) / 2 for k in range(6))])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_is_weighted_by_min_snr(
    pipeline: StableDiffusionXLPipeline, velocity: StableDiffusionXLPipeline, prediction: str
) -> None:
    schedule = noise_schedule(velocity if prediction == "v_prediction" else pipeline)
    timesteps = torch.arange(1000)
    snr: Tensor = compute_snr(schedule, timesteps)
    expected = snr.clamp(max=5) / (snr + 1 if prediction == "v_prediction" else snr)
    torch.testing.assert_close(snr_weights(schedule, timesteps, 5.0), expected)
    assert torch.equal(snr_weights(schedule, timesteps, None), torch.ones(1000))


def test_zero_terminal_snr_gets_a_finite_weight(velocity: StableDiffusionXLPipeline) -> None:
    scheduler = EulerDiscreteScheduler.from_config(velocity.scheduler.config, rescale_betas_zero_snr=True)
    model = StableDiffusionXLPipeline(**velocity.components | {"scheduler": scheduler}, add_watermarker=False)
    assert snr_weights(noise_schedule(model), torch.tensor([999]), 5.0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("pictures", "settings", "message"),
    [
        ([], FEW, "no pictures"),
        ([Example(torch.zeros(1, 64, 64), "a")], FEW, r"picture 1 has shape \(1, 64, 64\)"),
        ([PICTURES[0], Example(torch.zeros(3, 64, 7), "a")], FEW, "picture 2 has 7 × 64 pixels, fewer than 8"),
        ([Example(torch.full((3, 64, 64), float("nan")), "a")], FEW, "picture 1 has values that are not finite"),
        (PICTURES, replace(FEW, rank=0), "at least 1"),
        (PICTURES, replace(FEW, blocks=("up_blocks.7",)), "in a block called 'up_blocks.7'"),
        (PICTURES, replace(FEW, warmup=3), "the warm-up takes 3 steps, and the training only 3"),
        (PICTURES, replace(FEW, resolution=4), "resolution 4 is below 8"),
        (PICTURES, replace(FEW, held_out=3), "3 of 3 pictures are held out"),
    ],
)
def test_bad_input_is_refused(
    pipeline: StableDiffusionXLPipeline, pictures: list[Example], settings: TrainingSettings, message: str
) -> None:
    before = state(pipeline)
    with pytest.raises(InputError, match=message):
        train_lora(pipeline, pictures, settings, name="x")
    assert untouched(pipeline, before)


def test_models_without_usable_gradients_are_refused(pipeline: StableDiffusionXLPipeline) -> None:
    components = pipeline.components
    half = components | {"unet": copy.deepcopy(pipeline.unet).half()}
    with pytest.raises(InputError, match="float16"):
        train(StableDiffusionXLPipeline(**half, add_watermarker=False))
    for scheduler in (FlowMatchEulerDiscreteScheduler(), EDMEulerScheduler(prediction_type="v_prediction")):
        with pytest.raises(InputError, match=f"scheduler is {type(scheduler).__name__}"):
            train(StableDiffusionXLPipeline(**components | {"scheduler": scheduler}, add_watermarker=False))


def test_models_of_other_families_are_refused() -> None:
    class StableDiffusionPipeline:
        pass

    with pytest.raises(InputError, match="LoRAs can't be trained for a StableDiffusionPipeline"):
        family_of(StableDiffusionPipeline())
