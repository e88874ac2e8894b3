"""LoRAs of a lower rank: the nearest there are, with what is lost told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import Cancelled, InputError
from engine.node import Context
from engine.values import LoRA
from nodes.diffusion.adapters import applied
from nodes.diffusion.layers import layers
from nodes.lora.nodes import LoRAResize
from nodes.lora.truncation import Limit, nearest, truncated
from tests.lora.reference import Make, Names, dense, output


@pytest.fixture
def wide(make: Make, names: Names) -> LoRA:
    """A LoRA of rank 6 for linear layers and convolutions."""
    return make([*names["attention"][:3], *names["convolutions"][:3]], ranks=(6,), words={"subject": ("snail",)})


def reported(node: LoRAResize) -> tuple[LoRA, dict[str, Any]]:
    told: list[Any] = []
    lora = node.run(Context(on_report=told.append))
    return lora, {name: figure.value for name, figure in told[-1].items()}


def best(update: Tensor, rank: int) -> Tensor:
    """The nearest matrix of a rank, by the definition."""
    u, s, v = torch.linalg.svd(update.flatten(1).double(), full_matrices=False)
    return (u[:, :rank] * s[:rank] @ v[:rank]).reshape(update.shape)


def lost(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def test_each_layer_gets_the_nearest_update_of_the_rank(wide: LoRA) -> None:
    lora, told = reported(LoRAResize(lora=wide, rank=2))
    whole, small = dense(wide), dense(lora)
    for name, update in whole.items():
        assert lora.down[name].shape == (2, *wide.down[name].shape[1:])
        assert lora.up[name].shape == (len(update), 2, *wide.up[name].shape[2:])
        assert lost(small[name], best(update, 2)) < 1e-5
    losses = {name: lost(small[name], update) for name, update in whole.items()}
    assert told["in the worst layer"] == pytest.approx(100 * max(losses.values()), rel=1e-5)
    assert told["worst layer"] == max(losses, key=lambda name: losses[name])
    both = torch.cat([update.flatten() for update in whole.values()])
    all_lost = torch.cat([(small[name] - update).flatten() for name, update in whole.items()])
    assert told["lost of the norm"] == pytest.approx(100 * (all_lost.norm() / both.norm()).item(), rel=1e-5)
    assert told["rank"] == "2"
    assert (lora.name, lora.words) == (wide.name, wide.words)


@pytest.mark.parametrize("rank", [0, 6, 7])
def test_a_rank_that_is_enough_changes_nothing(wide: LoRA, rank: int) -> None:
    lora, told = reported(LoRAResize(lora=wide, rank=rank))
    assert told["lost of the norm"] == 0
    assert all(torch.equal(lora.up[name], wide.up[name]) for name in wide.up)


@pytest.mark.parametrize("seed", range(3))
def test_ranks_that_say_nothing_are_dropped_without_a_loss(make: Make, names: Names, seed: int) -> None:
    """Of a layer that is given twice, as merging gives it, half of the rank is enough."""
    lora = make(names["convolutions"], seed, ranks=(3, 2))
    twice = replace(
        lora,
        up={name: torch.cat([up, 0.5 * up], dim=1) for name, up in lora.up.items()},
        down={name: torch.cat([down, down]) for name, down in lora.down.items()},
    )
    small = LoRAResize(lora=twice, rank=3).run(Context())
    assert {len(down) for down in small.down.values()} == {2, 3}
    for name, update in dense(twice).items():
        assert lost(dense(small)[name], update) < 1e-6


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
def test_the_smallest_rank_with_the_share_of_the_norm_is_taken(wide: LoRA, keep: float) -> None:
    small = LoRAResize(lora=wide, rank=0, keep=keep).run(Context())
    for name, update in dense(wide).items():
        count = len(small.down[name])
        assert best(update, count).norm() >= keep * update.norm()
        assert count == 1 or best(update, count - 1).norm() < keep * update.norm()


def test_a_rank_counts_more_than_a_share(wide: LoRA) -> None:
    small = LoRAResize(lora=wide, rank=1, keep=0.99).run(Context())
    assert {len(down) for down in small.down.values()} == {1}


def test_the_strength_stays_as_it_is(wide: LoRA) -> None:
    small = LoRAResize(lora=replace(wide, strength=-0.5), rank=2).run(Context())
    assert small.strength == -0.5
    assert all(lost(dense(small)[name], -0.5 * best(update, 2)) < 1e-5 for name, update in dense(wide).items())


def test_a_layer_that_changes_nothing_keeps_a_rank_of_one() -> None:
    up, down, loss = truncated(torch.zeros(4, 3), torch.ones(3, 5), Limit(2))
    assert (up.shape, down.shape, loss.share) == ((4, 1), (1, 5), 0.0)
    assert not (up @ down).any()


def test_ranks_above_those_of_the_layer_are_cut_without_a_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    up, down = torch.randn(4, 9, generator=draw), torch.randn(9, 5, generator=draw)
    small = truncated(up, down, Limit())
    assert small.loss.after == 4
    torch.testing.assert_close(small.up @ small.down, up @ down, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (8, 12, 3, 3), (64, 6, 1, 1), (8, 8, 3, 1, 1)])
def test_whole_matrices_get_the_nearest_update_too(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = nearest(matrix, Limit(3))
    product = (found.up.double().flatten(1) @ found.down.double().flatten(1)).view(shape)
    assert lost(product, best(matrix, 3)) < 1e-5
    assert found.loss.share == pytest.approx(lost(product, matrix.double()), rel=1e-5)
    assert (found.up.ndim, found.down.shape[1:]) == (len(shape), shape[1:])


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that is made within it."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_no_matrix_of_the_layers_size_is_made() -> None:
    with Largest() as largest:
        truncated(torch.ones(500, 4), torch.ones(4, 700), Limit(2))
    assert largest.elements <= 4 * 700


def test_it_can_be_stopped(wide: LoRA) -> None:
    with pytest.raises(Cancelled):
        LoRAResize(lora=wide).run(Context(cancelled=lambda: True))


def test_other_forms_and_empty_loras_are_refused(wide: LoRA) -> None:
    layer = next(iter(wide.up))
    with pytest.raises(InputError, match=f"changes {layer} by more than two matrices"):
        LoRAResize(lora=replace(wide, other={layer: {"rows": torch.ones(3)}})).run(Context())
    with pytest.raises(InputError, match="'nothing' has no layers"):
        LoRAResize(lora=LoRA({}, {}, "nothing")).run(Context())


def test_a_resized_lora_fits_its_model(wide: LoRA, pipeline: StableDiffusionXLPipeline) -> None:
    small = LoRAResize(lora=wide, rank=2).run(Context())
    modules = layers(pipeline)
    assert all(modules[name].weight.ndim == down.ndim for name, down in small.down.items())
    with applied(pipeline, [small]):
        changed = output(pipeline)
    assert not torch.allclose(changed, output(pipeline))
