"""What Medusa heads guess, which guesses enter the tree, and which models they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import InputError
from engine.values import MedusaHeads
from nodes.text.medusa.heads import RANKS, Guesser, Path, described, expected, likeliest, misfit
from tests.text.conftest import VOCABULARY, tiny


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 4


def random_heads(heads: int = 3, layers: int = 2, **more: Any) -> MedusaHeads:
    """Heads for the tiny models, which are 32 wide."""
    return MedusaHeads(draw(heads, layers, 32, 32), draw(heads, layers, 32), **more)


def by_hand(heads: MedusaHeads, head: int, state: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """The logits of one head for one state, (n,)."""
    for weight, offset in zip(heads.weights[head], heads.biases[head], strict=True):
        state = state + F.silu(F.linear(state, weight, offset))
    return F.linear(state, matrix, bias)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "gemma2"])
def test_heads_choose_by_the_model_s_output_embedding(kind: str) -> None:
    model, heads, states = tiny(kind), random_heads(), draw(5, 32, seed=1)
    ranked = Guesser(heads, model).ranked(states, 4)
    embedding = model.get_output_embeddings()
    for row, head in product(range(5), range(3)):
        logits = by_hand(heads, head, states[row], embedding.weight)
        assert ranked[row, head].tolist() == logits.argsort(descending=True)[:4].tolist()


def test_heads_may_have_output_matrices_of_their_own() -> None:
    heads, states = random_heads(outputs=draw(3, VOCABULARY, 32)), draw(2, 32, seed=1)
    ranked = Guesser(heads, tiny("llama")).ranked(states, 3)
    assert heads.outputs is not None
    for row, head in product(range(2), range(3)):
        logits = by_hand(heads, head, states[row], heads.outputs[head])
        assert ranked[row, head].tolist() == logits.argsort(descending=True)[:3].tolist()


def test_heads_choose_only_from_the_tokens_that_they_know() -> None:
    tokens, model, states = torch.tensor([3, 8, 40]), tiny("llama"), draw(2, 32, seed=1)
    heads = random_heads(tokens=tokens)
    ranked = Guesser(heads, model).ranked(states, RANKS)
    assert ranked.shape == (2, 3, 3)
    logits = by_hand(heads, 1, states[0], model.get_output_embeddings().weight[tokens])
    assert ranked[0, 1].tolist() == tokens[logits.argsort(descending=True)].tolist()


def test_the_first_heads_can_be_asked_alone() -> None:
    states = draw(2, 32, seed=1)
    for heads in (random_heads(), random_heads(outputs=draw(3, VOCABULARY, 32))):
        guesser = Guesser(heads, tiny("llama"))
        assert torch.equal(guesser.ranked(states, 4, 2), guesser.ranked(states, 4)[:, :2])


def test_accuracies_are_of_guesses_that_there_are() -> None:
    tokens, by_rank = torch.tensor([3, 8]), (0.5, 0.25, 0.125)
    for accuracies, known in (((by_rank,) * 4, ((0.5, 0.25),) * 3), ((), tuple(row[:2] for row in expected(3)))):
        assert Guesser(random_heads(tokens=tokens, accuracies=accuracies), tiny("llama")).accuracies == known


def test_biases_of_the_output_embedding_count() -> None:
    model = tiny("llama", seed=5)
    embedding = model.get_output_embeddings()
    embedding.bias = torch.nn.Parameter(torch.zeros(VOCABULARY).index_fill(0, torch.tensor([7]), 1e6))
    try:
        assert set(Guesser(random_heads(), model).ranked(draw(2, 32), 1).flatten().tolist()) == {7}
        limited = Guesser(random_heads(tokens=torch.tensor([2, 7, 9])), model)
        assert set(limited.ranked(draw(2, 32), 1).flatten().tolist()) == {7}
    finally:
        embedding.bias = None


def test_in_bfloat16_heads_guess_in_the_model_s_precision() -> None:
    guesser = Guesser(random_heads(), tiny("llama", torch.bfloat16))
    assert guesser.weights.dtype == guesser.rows.dtype == torch.bfloat16
    assert guesser.ranked(draw(1, 32), 2).shape == (1, 3, 2)


def wide(heads: MedusaHeads) -> MedusaHeads:
    return replace(heads, weights=draw(3, 2, 16, 16), biases=draw(3, 2, 16))


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        (wide(random_heads()), "the Medusa heads are 16 wide, and the states of LlamaForCausalLM 32"),
        (random_heads(outputs=draw(3, 9, 32)), "choose from 9 tokens, and LlamaForCausalLM from 48"),
        (random_heads(tokens=torch.tensor([3, 48])), "know the token 48, and LlamaForCausalLM 48 tokens"),
        (
            random_heads(model=described(tiny("gpt2"))),
            "are for a GPT2LMHeadModel of 2 layers, 32 wide, with 48 tokens, not for a LlamaForCausalLM of 2 layers",
        ),
    ],
)
def test_heads_of_another_model_are_refused(heads: MedusaHeads, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        Guesser(heads, tiny("llama"))
    assert (error.value.input, error.value.hint) == ("heads", "give heads that were trained for this model")


def test_heads_of_this_model_are_not() -> None:
    assert misfit(random_heads(model=described(tiny("llama"))), tiny("llama")) is None


def best_by_search(accuracies: Sequence[Sequence[float]], size: int) -> float:
    """The most tokens that a tree of so many guesses can be expected to have right, by trying all trees."""
    paths = [path for depth in range(1, 3) for path in product(range(2), repeat=depth)]
    most = 0.0
    for chosen in range(1 << len(paths)):
        tree = {path for at, path in enumerate(paths) if chosen >> at & 1}
        if len(tree) == size and all(path[:-1] in tree for path in tree if len(path) > 1):
            most = max(most, sum(chance(accuracies, path) for path in tree))
    return most


def chance(accuracies: Sequence[Sequence[float]], path: Path) -> float:
    return prod(accuracies[head][rank] for head, rank in enumerate(path))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("accuracies", [((0.5, 0.4), (0.9, 0.05)), ((0.6, 0.1), (0.3, 0.2)), ((0.2, 0.5), (0.1, 0.4))])
def test_the_tree_is_the_one_that_is_right_most_often(accuracies: tuple[tuple[float, ...], ...], size: int) -> None:
    tree = likeliest(accuracies, size)
    assert len(tree) == len(set(tree)) == size
    assert sum(chance(accuracies, path) for path in tree) == pytest.approx(best_by_search(accuracies, size))


def test_each_guess_comes_after_the_one_that_it_continues() -> None:
    tree = likeliest(expected(4), 60)
    assert len(tree) == 60
    assert max(map(len, tree)) > 2
    assert all(path[:-1] in tree[:at] for at, path in enumerate(tree) if len(path) > 1)


def test_what_is_never_right_is_left_out() -> None:
    assert likeliest(((0.5, 0.0), (0.0,)), 10) == [(0,)]
