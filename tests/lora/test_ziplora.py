from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from engine.errors import Cancelled, InputError
from engine.values import LoRA
from nodes.diffusion.adapters import Factors, applied, factors_of, patched
from nodes.lora import ziplora
from nodes.lora.formats import write_lora
from nodes.lora.prediction import encode_captions, predict
from nodes.lora.references import Draw, Side
from nodes.lora.ziplora import Mergers, ZipReport, ZipSettings, merged, merged_lora, overlap, reconstruction, zip_loras
from tests.lora.reference import Make, Names, dense, output, state, untouched, with_dense

PENALTY = 0.1
PROMPTS = {"subject_prompt": "a red snail", "style_prompt": "a robot in watercolour style"}
QUICK = ZipSettings(steps=3, pictures=1, sampling_steps=2)


def pair(make: Make, chosen: Sequence[str], **rest: object) -> tuple[LoRA, LoRA]:
    """A subject and a style LoRA of different ranks; each changes a layer that the other leaves alone."""
    subject = make(chosen[1:], 1, ranks=(2, 3), words={"subject": ("snail",)}, **rest)
    return subject, make(chosen[:-1], 2, ranks=(4,), words={"style": ("mosaic",)})


def random_mergers(*updates: Mapping[str, Factors]) -> Mergers:
    generator = torch.Generator().manual_seed(3)
    return [
        {name: 1 + 0.5 * torch.randn(layer.down.shape[1], generator=generator) for name, layer in update.items()}
        for update in updates
    ]


def scaled(deltas: dict[str, Tensor], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """m ⊗ ΔW by the definition: column j of each matrix, or input channel j of each kernel, times m_j."""
    return {name: torch.einsum("oj...,j->oj...", delta, columns[name].double()) for name, delta in deltas.items()}


# What a merge is.


@pytest.fixture
def merge(make: Make, names: Names) -> LoRA:
    subject, style = pair(make, names["all"])
    return merged_lora(subject, style, random_mergers(factors_of(subject), factors_of(style)))


def test_merging_scales_the_columns_of_the_dense_updates(
    exact: StableDiffusionXLPipeline, make: Make, names: Names
) -> None:
    loras = pair(make, names["all"], strength=0.5)
    mergers = random_mergers(*map(factors_of, loras))
    deltas = [scaled(dense(lora), columns) for lora, columns in zip(loras, mergers, strict=True)]
    expected = output(with_dense(exact, *deltas))
    with applied(exact, [merged_lora(*loras, mergers)]):
        torch.testing.assert_close(output(exact), expected, rtol=0, atol=1e-5)


def test_the_low_rank_is_kept_exactly(merge: LoRA, names: Names) -> None:
    first, *shared, last = names["all"]
    assert len(merge.down[first]) == 4
    assert {len(merge.down[name]) for name in shared} == {2 + 4, 3 + 4}
    assert len(merge.down[last]) in (2, 3)


def test_a_merge_bears_the_name_and_words_of_both(merge: LoRA) -> None:
    assert merge.name == "lora 1+lora 2"
    assert merge.words == {"subject": ("snail",), "style": ("mosaic",)}
    assert merge.strength == 1


def test_mergers_of_ones_are_the_direct_sum(pipeline: StableDiffusionXLPipeline, make: Make, names: Names) -> None:
    loras = pair(make, names["all"])
    ones = [{name: torch.ones(down.shape[1]) for name, down in lora.down.items()} for lora in loras]
    with applied(pipeline, loras):
        expected = output(pipeline)
    with applied(pipeline, [merged_lora(*loras, ones)]):
        torch.testing.assert_close(output(pipeline), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("which", ["attention", "convolutions", "text"])
def test_diffusers_loads_a_merge_with_the_same_effect(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names, which: str, tmp_path: Path
) -> None:
    loras = pair(make, names[which])
    updates = [factors_of(lora) for lora in loras]
    mergers = random_mergers(*updates)
    with patched(pipeline, merged(updates, mergers)):
        expected = output(pipeline)
    (tmp_path / "lora.safetensors").write_bytes(write_lora(merged_lora(*loras, mergers)))
    theirs = with_dense(pipeline)
    theirs.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    torch.testing.assert_close(output(theirs), expected, rtol=0, atol=1e-5)


# What is minimised, in float64.


@pytest.fixture(scope="module")
def sides(exact: StableDiffusionXLPipeline, make: Make, names: Names) -> list[Side]:
    """Two LoRAs of a few layers of every kind."""
    loras = pair(make, [*names["attention"][:6], *names["convolutions"][:6], *names["text"][:4]])
    return [_side(exact, lora, prompt) for lora, prompt in zip(loras, PROMPTS.values(), strict=True)]


def _side(pipeline: StableDiffusionXLPipeline, lora: LoRA, prompt: str) -> Side:
    with torch.no_grad(), applied(pipeline, [lora]):
        conditioning = encode_captions(pipeline, [prompt])
    double = torch.zeros(1, 4, 16, 16, dtype=torch.float64)
    return Side({name: layer.to(double) for name, layer in factors_of(lora).items()}, prompt, double, conditioning)


@pytest.fixture(scope="module")
def draws(exact: StableDiffusionXLPipeline, sides: list[Side]) -> list[Draw]:
    """Two noisy latents of each side, with what a model with its dense update predicts from them."""
    return [_draw(exact, side) for side in sides]


def _draw(pipeline: StableDiffusionXLPipeline, side: Side) -> Draw:
    generator = torch.Generator().manual_seed(len(side.prompt))
    noisy, timesteps = torch.randn(2, 4, 16, 16, dtype=torch.float64, generator=generator), torch.tensor([200, 700])
    own = with_dense(pipeline, dense(side.factors))
    with torch.no_grad():
        target = predict(own, noisy, timesteps, encode_captions(own, [side.prompt]).repeated(2))
    return Draw(noisy, timesteps, target)


@pytest.fixture
def mergers(sides: list[Side]) -> Mergers:
    single = random_mergers(*(side.factors for side in sides))
    return [{name: columns.double() for name, columns in side.items()} for side in single]


def loss(pipeline: StableDiffusionXLPipeline, sides: list[Side], draws: list[Draw], mergers: Mergers) -> Tensor:
    with patched(pipeline, merged([side.factors for side in sides], mergers)):
        return reconstruction(pipeline, sides, draws) + PENALTY * overlap(mergers)


def test_the_loss_is_that_of_the_paper(
    exact: StableDiffusionXLPipeline, sides: list[Side], draws: list[Draw], mergers: Mergers
) -> None:
    """Against a model with dense weights, a sample at a time, and the overlap written out."""
    deltas = [scaled(dense(side.factors), columns) for side, columns in zip(sides, mergers, strict=True)]
    model = with_dense(exact, *deltas)
    errors = []
    with torch.no_grad():
        for side, draw in zip(sides, draws, strict=True):
            for noisy, time, target in zip(*draw, strict=True):
                prediction = predict(model, noisy[None], time[None], encode_captions(model, [side.prompt]))
                errors.append((prediction[0] - target).square().mean().item())
        found = loss(exact, sides, draws, mergers).item()
    subject, style = mergers
    shared = sorted(subject.keys() & style.keys())
    overlaps = [
        sum(abs(a * b).item() for a, b in zip(subject[n], style[n], strict=True)) / len(style[n]) for n in shared
    ]
    expected = sum(errors) / 2 + PENALTY * sum(overlaps) / len(overlaps)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_that_of_finite_differences(
    exact: StableDiffusionXLPipeline, sides: list[Side], draws: list[Draw], mergers: Mergers
) -> None:
    columns = [vector.requires_grad_() for side in mergers for vector in side.values()]
    torch.autograd.backward([loss(exact, sides, draws, mergers)])
    step = 1e-5
    for vector in columns[::3]:
        values = []
        for move in (step, -2 * step, step):
            with torch.no_grad():
                vector[1] += move
                values.append(loss(exact, sides, draws, mergers).item())
        above, below, _ = values
        assert vector.grad is not None
        assert vector.grad[1].item() == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9)


def test_each_lora_alone_reconstructs_its_own_side_only(
    exact: StableDiffusionXLPipeline, sides: list[Side], draws: list[Draw]
) -> None:
    for i, side in enumerate(sides):
        with torch.no_grad(), patched(exact, side.factors):
            assert reconstruction(exact, [side], [draws[i]]).item() < 1e-20
            assert reconstruction(exact, sides, draws).item() > 1e-6


def test_layers_that_one_lora_changes_do_not_overlap() -> None:
    subject = {"a": torch.tensor([1.0, -2.0]), "b": torch.ones(4)}
    assert overlap([subject, {"a": torch.tensor([3.0, 1.0]), "c": torch.ones(4)}]).item() == (3 + 2) / 2
    assert overlap([subject, {"c": torch.ones(4)}]).item() == 0


# What the search finds.


class Zipped(NamedTuple):
    lora: LoRA
    report: ZipReport
    steps: list[tuple[int, int]]


@pytest.fixture(scope="module")
def loras(make: Make, names: Names) -> tuple[LoRA, LoRA]:
    return pair(make, names["attention"])


def zipped(pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], **settings: object) -> Zipped:
    steps: list[tuple[int, int]] = []
    lora, report = zip_loras(
        pipeline, *loras, replace(QUICK, **settings), **PROMPTS, progress=lambda *step: steps.append(step)
    )
    return Zipped(lora, report, steps)


@pytest.fixture(scope="module")
def quick(pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA]) -> Zipped:
    return zipped(pipeline, loras)


def test_zipping_gives_less_loss_than_the_sum(pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA]) -> None:
    report = zipped(pipeline, loras, steps=30, learning_rate=0.02).report
    assert report.start == report.direct > 1
    assert report.merged < 0.7 * report.direct
    assert report.scaled < report.direct
    assert max(report.scalars) <= 1.125


def test_the_closed_form_starts_below_the_best_scalars(
    pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], quick: Zipped
) -> None:
    report = zipped(pipeline, loras, start="closed-form", steps=0).report
    assert (report.direct, report.scaled) == (quick.report.direct, quick.report.scaled)
    assert report.merged == report.start < report.scaled


def test_merges_are_compared_by_four_latents_of_each_side_that_are_never_trained_on(
    pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, trained = list[Sequence[Draw]](), list[Sequence[Draw]]()

    def seen(pipeline: StableDiffusionXLPipeline, sides: Sequence[Side], draws: Sequence[Draw]) -> Tensor:
        (trained if torch.is_grad_enabled() else compared).append(draws)
        return reconstruction(pipeline, sides, draws)

    monkeypatch.setattr(ziplora, "reconstruction", seen)
    zipped(pipeline, loras, steps=3, batch=2)
    assert all(draws is compared[0] for draws in compared)
    assert [draw.timesteps.tolist() for draw in compared[0]] == [[125, 375, 625, 875]] * 2
    assert [draw.noisy.shape[0] for draw in compared[0]] == [4, 4]
    assert [[draw.noisy.shape[0] for draw in draws] for draws in trained] == [[2, 2]] * 3
    noise = [latents for draws in (*trained, compared[0]) for draw in draws for latents in draw.noisy]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(noise, 2))


def test_a_heavy_penalty_keeps_the_mergers_apart(
    pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], quick: Zipped
) -> None:
    assert zipped(pipeline, loras, penalty=10.0).report.overlap < quick.report.overlap < 1


def test_text_encoders_are_merged_too(pipeline: StableDiffusionXLPipeline, make: Make, names: Names) -> None:
    report = zipped(pipeline, pair(make, names["text"]), steps=12, learning_rate=0.03, penalty=0.0).report
    assert report.merged < report.direct


def test_a_seed_repeats_a_merge(pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], quick: Zipped) -> None:
    again = zipped(pipeline, loras)
    assert again.report == quick.report
    assert all(torch.equal(again.lora.down[name], quick.lora.down[name]) for name in quick.lora.down)
    assert zipped(pipeline, loras, seed=1).report != quick.report


def test_gradient_checkpointing_changes_memory_only(
    pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], quick: Zipped
) -> None:
    checkpointed = zipped(pipeline, loras, gradient_checkpointing=True)
    assert checkpointed.report.merged == pytest.approx(quick.report.merged, rel=1e-5)


def test_progress_is_reported_to_the_end(quick: Zipped) -> None:
    total = quick.steps[-1][1]
    assert quick.steps == [(step, total) for step in range(1, total + 1)]


@pytest.mark.parametrize("moment", [1, 6, 20], ids=["drawing", "descending", "comparing"])
def test_stopping_leaves_the_pipeline_as_it_was(
    pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA], moment: int
) -> None:
    def stop(step: int, total: int) -> None:
        if step == moment:
            raise Cancelled

    before, drawn = state(pipeline), output(pipeline)
    with pytest.raises(Cancelled):
        zip_loras(pipeline, *loras, replace(QUICK, gradient_checkpointing=True), **PROMPTS, progress=stop)
    assert untouched(pipeline, before)
    assert torch.equal(output(pipeline), drawn)
    assert not pipeline.unet.is_gradient_checkpointing


def test_loras_that_do_nothing_are_refused(pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA]) -> None:
    subject, style = (replace(lora, strength=0.0) for lora in loras)
    with pytest.raises(InputError, match="neither LoRA changes"):
        zipped(pipeline, (subject, style))


def test_a_lora_of_another_model_is_refused(pipeline: StableDiffusionXLPipeline, loras: tuple[LoRA, LoRA]) -> None:
    subject, style = loras
    stray = replace(
        style, up={f"{n}x": t for n, t in style.up.items()}, down={f"{n}x": t for n, t in style.down.items()}
    )
    with pytest.raises(InputError, match="'lora 2' has the layer"):
        zipped(pipeline, (subject, stray))
