"""Merging LoRAs by published methods: each by its definition, and as PEFT does it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model
from peft.utils import merge_utils
from pydantic import ValidationError
from torch import Tensor

from engine.errors import InputError
from engine.node import Context
from engine.values import LoRA
from nodes.diffusion.adapters import applied
from nodes.lora.merging import dropped, elected, trimmed, weighted
from nodes.lora.nodes import LoRAMerge
from tests.lora.reference import Make, Names, dense, output

WEIGHTS = (0.8, -0.5, 1.3)


@pytest.fixture
def three(make: Make, names: Names) -> tuple[LoRA, ...]:
    """LoRAs of several ranks for linear layers and convolutions; the third lacks the last layer."""
    chosen = [*names["attention"][:2], *names["convolutions"][:3]]
    layers = (chosen, chosen, chosen[:-1])
    return tuple(
        make(of, seed, ranks=(4 - seed,), name=name, words={"subject": (name,)}, strength=1 - seed / 4)
        for seed, (of, name) in enumerate(zip(layers, ("snail", "neon", "fox"), strict=True))
    )


def merged(loras: tuple[LoRA, ...], **inputs: Any) -> tuple[dict[str, Tensor], LoRA, dict[str, Any]]:
    """ΔW of each layer in the result, the result, and what is reported."""
    told: list[Any] = []
    lora = LoRAMerge(first=loras, **inputs).run(Context(on_report=told.append))
    return dense(lora), lora, {name: figure.value for name, figure in told[-1].items()}


def total(loras: tuple[LoRA, ...], weights: tuple[float, ...]) -> dict[str, Tensor]:
    """Σ wᵢ ΔWᵢ"""
    sums: dict[str, Tensor] = {}
    for lora, weight in zip(loras, weights, strict=True):
        for name, update in dense(lora).items():
            sums[name] = sums.get(name, torch.zeros_like(update)) + weight * update
    return sums


def best(update: Tensor, rank: int) -> Tensor:
    u, s, v = torch.linalg.svd(update.flatten(1), full_matrices=False)
    return (u[:, :rank] * s[:rank] @ v[:rank]).reshape(update.shape)


def close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5) for name in wanted
    )


def test_a_sum_is_exact_at_the_sum_of_the_ranks(three: tuple[LoRA, ...]) -> None:
    found, lora, told = merged(three, weights=WEIGHTS)
    assert close(found, total(three, WEIGHTS))
    assert told["lost of the norm"] == 0
    assert max(len(down) for down in lora.down.values()) == 4 + 3 + 2
    assert (lora.name, lora.words, lora.strength) == (
        "snail+neon+fox",
        {"subject": ("snail", "neon", "fox")},
        1.0,
    )


def test_without_weights_each_has_one(three: tuple[LoRA, ...]) -> None:
    assert close(merged(three)[0], total(three, (1, 1, 1)))


def test_an_average_divides_by_the_sum_of_the_weights(three: tuple[LoRA, ...]) -> None:
    found, _, _ = merged(three, weights=(1.0, 2.0, 3.0), method="average")
    assert close(found, total(three, (1 / 6, 2 / 6, 3 / 6)))


@pytest.mark.parametrize("method", ["svd", "sum"])
def test_a_sum_is_cut_to_the_rank_with_the_least_loss(three: tuple[LoRA, ...], method: str) -> None:
    found, lora, told = merged(three, weights=WEIGHTS, method=method, rank=2)
    sums = total(three, WEIGHTS)
    assert close(found, {name: best(update, 2) for name, update in sums.items()})
    assert {len(down) for down in lora.down.values()} == {2}
    gap = sum((found[name] - update).square().sum() for name, update in sums.items())
    share = (gap / sum(update.square().sum() for update in sums.values())) ** 0.5
    assert told["lost of the norm"] == pytest.approx(100 * float(share), rel=1e-4)


def test_svd_takes_the_largest_rank_of_the_loras_unless_it_is_told(three: tuple[LoRA, ...]) -> None:
    _, lora, _ = merged(three, method="svd")
    assert {len(down) for down in lora.down.values()} == {4}


@pytest.mark.parametrize("density", [1.0, 0.6, 0.25, 1e-9])
def test_elements_are_kept_and_elected_as_in_peft(density: float) -> None:
    draw = torch.Generator().manual_seed(0)
    deltas, weights = [torch.randn(20, 30, generator=draw) for _ in range(3)], torch.tensor(WEIGHTS)
    kept = [trimmed(delta, density) for delta in deltas]
    if density < 1:  # PEFT warns of one that keeps all
        for delta, ours in zip(deltas, kept, strict=True):
            assert torch.equal(ours, merge_utils.magnitude_based_pruning(delta, density))
        torch.testing.assert_close(weighted(kept, weights), merge_utils.magnitude_prune(deltas, weights, density))
        torch.testing.assert_close(elected(kept, weights), merge_utils.ties(deltas, weights, density))
    else:
        assert all(torch.equal(ours, delta) for ours, delta in zip(kept, deltas, strict=True))
    torch.testing.assert_close(weighted(deltas, weights), merge_utils.task_arithmetic(deltas, weights))


def test_ties_follows_its_paper() -> None:
    """Two of three agree on plus in the first element, and on minus in the second; none has kept the third."""
    deltas = [torch.tensor([[3.0, -1.0, 0.0]]), torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[-1.0, 2.5, 0.0]])]
    assert elected(deltas, torch.ones(3)).tolist() == [[2.0, -1.5, 0.0]]


@pytest.mark.parametrize("method", ["svd", "magnitude_prune", "ties", "sum"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -0.4)])
def test_whole_models_are_merged_as_by_peft(
    method: str, weights: tuple[float, float], pipeline: StableDiffusionXLPipeline, make: Make, names: Names
) -> None:
    """PEFT's adapters with these numbers, merged by its add_weighted_adapter."""
    chosen = [*names["attention"][:2], *names["convolutions"][:2]]
    loras = tuple(make(chosen, seed, ranks=(4,)) for seed in (1, 2))
    ends = [name.removeprefix("unet.") for name in chosen]
    theirs = get_peft_model(copy.deepcopy(pipeline.unet), LoraConfig(r=4, lora_alpha=4, target_modules=ends), "0")
    theirs.add_adapter("1", LoraConfig(r=4, lora_alpha=4, target_modules=ends))
    with torch.no_grad():
        for number, lora in enumerate(loras):
            for name, end in zip(chosen, ends, strict=True):
                layer = theirs.get_base_model().get_submodule(end)
                layer.lora_A[str(number)].weight.copy_(lora.down[name])
                layer.lora_B[str(number)].weight.copy_(lora.up[name])
    kind = {"sum": "cat", "svd": "svd"}.get(method, f"{method}_svd")
    theirs.add_weighted_adapter(["0", "1"], list(weights), "both", kind, density=0.4)
    found, _, _ = merged(loras, weights=weights, method=method, density=0.4)
    wanted = {
        name: theirs.get_base_model().get_submodule(end).get_delta_weight("both").double()
        for name, end in zip(chosen, ends, strict=True)
    }
    assert close(found, wanted)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_a_share_by_chance_and_the_mean_as_it_is(density: float) -> None:
    delta = torch.ones(300, 400)
    kept = dropped(delta, density, "0")
    assert {round(value, 4) for value in kept.unique().tolist()} == {0.0, round(1 / density, 4)}
    assert (kept > 0).float().mean().item() == pytest.approx(density, abs=0.01)
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(kept, dropped(delta, density, "0"))
    assert not torch.equal(kept, dropped(delta, density, "1"))


@pytest.mark.parametrize(("method", "merge"), [("dare", weighted), ("dare_ties", elected)])
def test_dare_merges_what_it_kept(method: str, merge: Any, three: tuple[LoRA, ...]) -> None:
    rank = 32
    found, _, _ = merged(three, weights=WEIGHTS, method=method, density=0.5, rank=rank, seed=7)
    updates = [dense(lora) for lora in three]
    for name in found:
        there = [i for i in range(3) if name in updates[i]]
        kept = [dropped(updates[i][name].float(), 0.5, f"7 {i} {name}") for i in there]
        wanted = merge(kept, torch.tensor([WEIGHTS[i] for i in there]))
        assert torch.allclose(found[name].float(), best(wanted.double(), rank).float(), rtol=1e-4, atol=1e-4)


def test_seeds_matter_and_repeat(three: tuple[LoRA, ...]) -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        return merged(three, method="dare", density=0.5, seed=seed)[0]

    assert close(drawn(1), drawn(1))
    assert not close(drawn(1), drawn(2))


def test_layers_of_different_loras_are_independent_in_dare(three: tuple[LoRA, ...]) -> None:
    """Two equal LoRAs lose different elements, and so do equal layers."""
    delta = torch.ones(40, 40)
    assert not torch.equal(dropped(delta, 0.5, "0 0 unet.a"), dropped(delta, 0.5, "0 1 unet.a"))
    assert not torch.equal(dropped(delta, 0.5, "0 0 unet.a"), dropped(delta, 0.5, "0 0 unet.b"))


def test_a_merge_acts_like_its_loras_together(three: tuple[LoRA, ...], pipeline: StableDiffusionXLPipeline) -> None:
    _, lora, _ = merged(three)
    with applied(pipeline, three):
        wanted = output(pipeline)
    with applied(pipeline, [lora]):
        torch.testing.assert_close(output(pipeline), wanted, rtol=1e-4, atol=1e-4)


def test_matrices_and_kernels_of_one_pixel_are_merged(make: Make, names: Names) -> None:
    """Files give a kernel of one pixel as matrices too."""
    point = next(name for name in names["convolutions"] if name.endswith("conv_shortcut"))
    lora = make([point])
    flat = LoRA({point: lora.up[point].flatten(1)}, {point: lora.down[point].flatten(1)}, "flat")
    found, _, _ = merged((lora, flat))
    assert torch.allclose(found[point].flatten(), 2 * dense(lora)[point].flatten(), atol=1e-5)


def test_what_does_not_go_together_is_refused_by_name(three: tuple[LoRA, ...]) -> None:
    layer = next(iter(three[0].up))
    dora = replace(three[1], other={layer: {"row_norms": torch.ones(3)}})
    with pytest.raises(InputError, match=f"'neon' changes {layer} by more than two matrices"):
        merged((three[0], dora))
    narrow = LoRA({layer: torch.ones(4, 1)}, {layer: torch.ones(1, 4)}, "narrow")
    with pytest.raises(InputError, match=rf"'snail' and 'narrow' change {layer} by \(32, 32\) and \(4, 4\)"):
        merged((three[0], narrow))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"weights": (1.0,)}, "1 weights for 3 LoRAs"),
        ({"weights": (1.0, -1.0, 0.0), "method": "average"}, "sum to 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(three: tuple[LoRA, ...], inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        merged(three, **inputs)
    assert refusal.value.input == "weights"


def test_no_loras_are_no_merge() -> None:
    with pytest.raises(InputError, match="no LoRAs to merge"):
        merged(())


@pytest.mark.parametrize("wrong", [{"density": 0.0}, {"density": 1.1}, {"weights": (float("nan"),)}, {"rank": -1}])
def test_settings_have_bounds(three: tuple[LoRA, ...], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoRAMerge(first=three, **wrong)


def test_loras_of_all_inputs_are_merged_in_order(three: tuple[LoRA, ...]) -> None:
    snail, neon, fox = three
    by_input, lora, _ = merged((snail,), second=(neon,), fourth=(fox,), weights=WEIGHTS)
    assert lora.name == "snail+neon+fox"
    assert close(by_input, merged(three, weights=WEIGHTS)[0])


def test_of_a_sum_of_nothing_plus_is_elected_as_in_peft() -> None:
    deltas = [torch.tensor([[2.0, 4.0]]), torch.tensor([[-2.0, -4.0]])]
    assert elected(deltas, torch.ones(2)).tolist() == [[2.0, 4.0]]
    assert torch.equal(
        merge_utils.ties(deltas, torch.ones(2), 0.999), elected([trimmed(d, 0.999) for d in deltas], torch.ones(2))
    )
