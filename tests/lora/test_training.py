from __future__ import annotations

import copy
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
from nodes.lora.training import (
    ATTENTION,
    CONVOLUTIONS,
    FEED_FORWARD,
    PROJECTIONS,
    TEXT_ATTENTION,
    Example,
    TrainingSettings,
    snr_weights,
    train_lora,
)
from tests.lora.reference import Names, output, state, untouched

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
    settings = replace(FEW, rank=4, alpha=2.0, steps=15, targets=(*ATTENTION, *CONVOLUTIONS, *PROJECTIONS))
    watching = replace(settings, learning_rate=0.0, steps=5)
    before = losses(model, watching)
    with applied(model, [train(model, settings)]):
        after = losses(model, watching)
    assert sum(after) < 0.97 * sum(before)


def test_the_pipeline_is_left_as_it_was(pipeline: StableDiffusionXLPipeline) -> None:
    before, drawn = state(pipeline), output(pipeline)
    train(pipeline, replace(FEW, text_targets=TEXT_ATTENTION, gradient_checkpointing=True))
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
    settings = replace(FEW, targets=(*ATTENTION, *CONVOLUTIONS))
    assert losses(pipeline, replace(settings, gradient_checkpointing=True)) == pytest.approx(losses(pipeline, settings))


def test_targets_choose_the_layers(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    attention = train(pipeline)
    assert sorted(attention.up) == sorted(names["attention"])
    everything = train(pipeline, replace(FEW, targets=(*CONVOLUTIONS, *PROJECTIONS, *FEED_FORWARD)))
    assert sorted(everything.up) == sorted(names["convolutions"])
    assert {len(down) for down in everything.down.values()} == {2}


def test_words_and_name_are_kept(pipeline: StableDiffusionXLPipeline) -> None:
    lora = train(pipeline, words={"subject": ("snail",)})
    assert (lora.name, lora.words, lora.strength) == ("snail", {"subject": ("snail",)}, 1)


def test_text_encoders_are_trained_if_asked(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    lora = train(pipeline, replace(FEW, text_targets=TEXT_ATTENTION, text_learning_rate=1e-2))
    assert sorted(lora.up) == sorted(names["attention"] + names["text"])
    # The last layer's output is not used by SDXL, which takes the one before: nothing is learnt there.
    used = [name for name in names["text"] if ".layers.0." in name]
    assert all(lora.up[name].abs().max() > 0 for name in used)


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_the_result_is_what_was_trained(pipeline: StableDiffusionXLPipeline, alpha: float | None) -> None:
    """The loss that the second step sees is that of a model with the LoRA of the first."""
    settings = replace(FEW, alpha=alpha, steps=2, targets=(*ATTENTION, *CONVOLUTIONS), text_targets=TEXT_ATTENTION)
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
    """With a rate of 0 in the first warm-up step, nothing has been learnt after it."""
    lora = train(pipeline, replace(FEW, steps=1, warmup=10))
    assert all(up.abs().max() == 0 for up in lora.up.values())
    assert not same(train(pipeline), train(pipeline, replace(FEW, schedule="cosine")))


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
        ([PICTURES[0], Example(torch.zeros(3, 64, 32), "a")], FEW, "different shapes"),
        ([Example(torch.zeros(1, 64, 64), "a")], FEW, r"shape \(1, 64, 64\)"),
        ([Example(torch.zeros(3, 60, 64), "a")], FEW, "multiples of 8"),
        (PICTURES, replace(FEW, rank=0), "at least 1"),
        (PICTURES, replace(FEW, targets=("to_x",)), "no layer of the model is called 'to_x'"),
        (PICTURES, replace(FEW, targets=()), "no layers to train"),
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
