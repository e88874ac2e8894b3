from __future__ import annotations

from functools import partial

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from nodes.diffusion.adapters import Factors, applied, factors_of
from nodes.diffusion.layers import layers
from nodes.lora import closed_form
from nodes.lora.closed_form import closed_form_mergers, closed_form_passes, solve_layer
from nodes.lora.prediction import encode_captions, predict
from nodes.lora.references import Draw, Side
from tests.lora.reference import Make, Names, dense, with_dense

OUT, IN, SAMPLES = 5, 4, 60


def least_squares(deltas: list[Tensor], inputs: list[Tensor], present: tuple[bool, ...]) -> Tensor:
    """The columns' scales that best give each LoRA's own outputs on its own inputs, from the whole dense problem.

    A LoRA that leaves the layer alone has ΔW = 0 as its target. deltas (out, in, …), inputs (samples, in, …).
    """
    rows, targets = [], []
    for x, own, here in zip(inputs, deltas, present, strict=True):
        by_column = [
            torch.einsum("oj...,nj...->noj", delta, x).flatten(0, 1)
            for delta, shown in zip(deltas, present, strict=True)
            if shown
        ]
        rows.append(torch.cat(by_column, dim=1))
        targets.append(torch.einsum("oj...,nj...->no", own, x).flatten() * here)
    return torch.linalg.lstsq(torch.cat(rows), torch.cat(targets)).solution


@pytest.mark.parametrize("kernel", [(), (3, 3)])
@pytest.mark.parametrize("present", [(True, True), (True, False), (False, True)])
def test_it_minimises_the_layers_own_error(kernel: tuple[int, ...], present: tuple[bool, ...]) -> None:
    random = partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors = [Factors(random(OUT, rank, *(1 for _ in kernel)), random(rank, IN, *kernel)) for rank in (2, 3)]
    inputs = [random(SAMPLES, IN, *kernel) for _ in factors]
    moments = [x.flatten(1).T @ x.flatten(1) / SAMPLES for x in inputs]
    given = [layer if here else None for layer, here in zip(factors, present, strict=True)]
    solution = solve_layer(moments, given, ridge=1e-12)
    assert [columns is not None for columns in solution] == list(present)
    found = torch.cat([columns for columns in solution if columns is not None])
    deltas = list(dense(dict(enumerate(factors))).values())
    torch.testing.assert_close(found, least_squares(deltas, inputs, present), rtol=1e-5, atol=1e-6)


def test_columns_that_no_input_reaches_take_the_best_scalars() -> None:
    up, down = torch.ones(2, 1), torch.ones(1, 3)
    seen = torch.diag(torch.tensor([1.0, 0.0, 0.0]))
    mergers = solve_layer([seen, seen], [Factors(up, down), Factors(2 * up, down)])
    # Targets are 1 and 2 on equal inputs, reached as one output a + 2 b = 1.5 of the scalars.
    assert all(columns is not None for columns in mergers)
    (a, *rest_a), (b, *rest_b) = (columns.tolist() for columns in mergers if columns is not None)
    assert a + 2 * b == pytest.approx(1.5, abs=1e-3)
    assert rest_a == pytest.approx([0.3, 0.3], abs=1e-3)
    assert rest_b == pytest.approx([0.6, 0.6], abs=1e-3)


def test_a_lora_without_effect_gives_finite_mergers() -> None:
    nothing = Factors(torch.zeros(2, 1), torch.ones(1, 3))
    mergers = solve_layer([torch.eye(3), torch.eye(3)], [nothing, nothing])
    assert all(columns is not None and torch.isfinite(columns).all() for columns in mergers)


@pytest.fixture
def sides(pipeline: StableDiffusionXLPipeline, make: Make, names: Names) -> list[Side]:
    chosen = [*names["attention"], *names["convolutions"], *names["text"]]
    return [_side(pipeline, make, chosen[1:], 1), _side(pipeline, make, chosen[:-1], 2)]


def _side(pipeline: StableDiffusionXLPipeline, make: Make, names: list[str], seed: int) -> Side:
    lora = make(names, seed)
    with torch.no_grad(), applied(pipeline, [lora]):
        conditioning = encode_captions(pipeline, ["a red snail"])
    return Side(factors_of(lora), "a red snail", torch.zeros(1, 4, 16, 16), conditioning)


def _draws(count: int) -> list[Draw]:
    noise = torch.randn(2, count, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return [Draw(noisy, torch.arange(count) * 300 + 200, noisy) for noisy in noise]


def test_every_layer_of_each_lora_gets_the_mergers_of_its_inputs_in_that_loras_model(
    pipeline: StableDiffusionXLPipeline, sides: list[Side]
) -> None:
    """Against inputs that a model with dense weights sees, in float64; kernels by the definition of a convolution."""
    draws = _draws(2)
    mergers = closed_form_mergers(pipeline, sides, draws, lambda: None)
    assert [columns.keys() for columns in mergers] == [side.factors.keys() for side in sides]
    chosen = list(dict.fromkeys(name for side in sides for name in side.factors))
    chosen = [*chosen[:2], *chosen[len(chosen) // 2 :: 7], *chosen[-2:]]
    inputs = [_inputs(pipeline, side, draw, chosen) for side, draw in zip(sides, draws, strict=True)]
    for name in chosen:
        moments = [(rows.T @ rows / len(rows)).float() for rows in (of[name] for of in inputs)]
        expected = solve_layer(moments, [side.factors.get(name) for side in sides])
        for columns, found in zip(expected, mergers, strict=True):
            if columns is None:
                assert name not in found
            else:
                torch.testing.assert_close(found[name], columns, rtol=0.02, atol=0.02)
                assert columns.std() > 0.02 or len(columns) == 1, "a constant would do"


def _inputs(pipeline: StableDiffusionXLPipeline, side: Side, draw: Draw, names: list[str]) -> dict[str, Tensor]:
    """The vectors (n, in·k·k) that weights are multiplied with, in a copy of the model in float64 with this LoRA."""
    own = with_dense(StableDiffusionXLPipeline(**pipeline.components, add_watermarker=False), dense(side.factors))
    own.to(torch.float64)
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    modules = layers(own)
    for name in names:
        modules[name].register_forward_pre_hook(lambda module, inputs, name=name: seen[name].append(inputs[0]))
    with torch.no_grad():
        conditioning = encode_captions(own, [side.prompt])
        for noisy, timestep, _ in zip(*draw, strict=True):
            predict(own, noisy[None].double(), timestep[None], conditioning)
    return {name: torch.cat([_rows(modules[name], x) for x in seen[name]]) for name in names}


def _rows(module: torch.nn.Module, x: Tensor) -> Tensor:
    if not isinstance(module, torch.nn.Conv2d):
        return x.flatten(0, -2)
    (height, width), (step, _) = module.kernel_size, module.stride
    edge = int(module.padding[0])
    padded = torch.nn.functional.pad(x, (edge, edge, edge, edge))
    patches = padded.unfold(2, height, step).unfold(3, width, step)  # (n, in, H, W, k, k)
    return patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)


def test_little_memory_takes_more_passes_to_the_same_mergers(
    pipeline: StableDiffusionXLPipeline, sides: list[Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = closed_form_mergers(pipeline, sides, _draws(1), lambda: None)
    monkeypatch.setattr(closed_form, "MEMORY", 1_000_000)
    ticks: list[None] = []
    in_groups = closed_form_mergers(pipeline, sides, _draws(1), lambda: ticks.append(None))
    assert len(ticks) == closed_form_passes(pipeline, [side.factors for side in sides], 1) > 2
    for one, other in zip(at_once, in_groups, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
