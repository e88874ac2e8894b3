"""Passes over a few tokens whose products are computed the other way round, where that is quicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache

from nodes.text.decoding import turned
from nodes.text.decoding.loop import Greedy, tree_decode
from nodes.text.decoding.reader import Reader
from nodes.text.decoding.suffix import Suffix
from nodes.text.decoding.turned import Turned, quickened, quicker_sizes
from tests.text.conftest import prompt, tiny


@pytest.fixture
def quicker(monkeypatch: pytest.MonkeyPatch) -> frozenset[int]:
    """Even a tiny model is worth it, and turned products are quicker for these numbers of tokens."""
    sizes = frozenset({1, 2, 4})
    monkeypatch.setattr(turned, "MEASURED", 0)
    monkeypatch.setattr(turned, "quicker_sizes", lambda shapes, threads: sizes)
    return sizes


def layers(model: Any) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("rows", range(1, 6))
@pytest.mark.parametrize("bias", [True, False])
def test_a_turned_layer_gives_what_a_plain_one_gives(rows: int, bias: bool, quicker: frozenset[int]) -> None:
    plain = nn.Linear(7, 5, bias=bias)
    states = torch.rand(1, rows, 7, generator=torch.Generator().manual_seed(rows))
    found = quickened(plain)(states)
    torch.testing.assert_close(found, plain(states))
    assert found.is_contiguous()


def test_only_sizes_that_are_quicker_are_turned(quicker: frozenset[int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(turned, "turned", lambda states, weight: seen.append(len(states)) or states @ weight.T)
    layer = quickened(nn.Linear(7, 5))
    for rows in range(1, 6):
        layer(torch.ones(1, rows, 7))
    assert {*seen} == quicker


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "opt", "gemma3_text"])
@pytest.mark.parametrize("drafter", [Greedy, lambda: Suffix(3)])
def test_it_changes_no_text(kind: str, drafter: Any, quicker: frozenset[int]) -> None:
    model, ids = tiny(kind), prompt(3, 6).repeat(1, 4)
    options = {"do_sample": False, "max_new_tokens": 40, "pad_token_id": 0}
    ours = model.generate(ids, custom_generate=tree_decode, drafter=drafter(), **options)
    assert torch.equal(ours, model.generate(ids, **options))


def test_the_model_itself_stays_and_shares_weights_and_hooks(quicker: frozenset[int]) -> None:
    model, seen = tiny("llama"), []
    reader = Reader(quickened(model), DynamicCache(config=model.config), 128)
    assert all(type(layer) is nn.Linear for layer in layers(model))
    assert all(type(layer) is Turned for layer in layers(reader.model))
    assert all(ours is theirs for ours, theirs in zip(reader.model.parameters(), model.parameters(), strict=True))
    hooks = [part.register_forward_hook(lambda *_: seen.append(1)) for part in (model, model.model.layers[0].mlp)]
    reader.read_prompt([1, 2, 3], None)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 2


def test_a_layer_that_is_used_twice_is_one(quicker: frozenset[int]) -> None:
    layer = nn.Linear(4, 4)
    found = quickened(nn.Sequential(layer, nn.ReLU(), layer))
    assert found[0] is found[2]


def test_half_precision_and_small_models_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quickened(tiny("llama")) is tiny("llama")
    monkeypatch.setattr(turned, "MEASURED", 0)
    monkeypatch.setattr(turned, "quicker_sizes", lambda shapes, threads: frozenset({1}))
    half = quickened(tiny("llama", torch.bfloat16))
    assert not any(isinstance(layer, Turned) for layer in layers(half))


@pytest.mark.parametrize(("factor", "is_turned"), [(0.5, True), (0.97, False), (2.0, False)])
def test_the_clock_decides_what_is_quicker(factor: float, is_turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def taking(seconds: float, product: Any) -> Any:
        def timed(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            nonlocal now
            now += seconds
            return product(states, weight)

        return timed

    monkeypatch.setattr(turned, "MEASURED", 64)
    monkeypatch.setattr(turned, "thread_time", lambda: now)
    monkeypatch.setattr(turned.nn.functional, "linear", taking(1.0, turned.nn.functional.linear))
    monkeypatch.setattr(turned, "turned", taking(factor, turned.turned))
    state = torch.random.get_rng_state()
    sizes = turned.measured([(4, 8), (8, 4)])
    assert sizes == (frozenset(range(1, turned.MOST + 1)) if is_turned else frozenset())
    assert torch.equal(torch.random.get_rng_state(), state), "what is drawn afterwards doesn't change"


def test_a_machine_decides_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another process might measure other times, and results would differ in their last digits."""
    decisions = iter([{2, 3}, {1}, {4}, {5}])

    def in_another_process(*shapes: tuple[int, int]) -> set[int]:
        return {*quicker_sizes.__wrapped__(shapes, torch.get_num_threads())}

    monkeypatch.setattr("nodes.text.kept.home", lambda: tmp_path)
    monkeypatch.setattr(turned, "measured", lambda shapes: frozenset(next(decisions)))
    assert [in_another_process((4, 8)) for _ in range(2)] == [{2, 3}, {2, 3}]
    assert [in_another_process((8, 4)) for _ in range(2)] == [{1}, {1}]
    for kept in (tmp_path / "pass-costs").iterdir():
        kept.write_text("[[1]]")
    assert [in_another_process((4, 8)) for _ in range(2)] == [{4}, {4}], "a file that can't be read is written anew"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert in_another_process((4, 8)) == {5}
