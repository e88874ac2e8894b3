"""Decoding with Medusa heads against transformers' own loop, by itself and as a method of `LookaheadDecode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import InputError
from engine.figures import Report
from engine.models import Models
from engine.node import Context
from engine.values import MedusaHeads
from nodes.text import methods
from nodes.text.decoding import loop
from nodes.text.decoding.loop import Step, Tally, tree_decode
from nodes.text.decoding.medusa import Medusa
from nodes.text.decoding.reader import Reader
from nodes.text.decoding.tree import Tree
from nodes.text.medusa.heads import Guesser
from nodes.text.medusa.heads import Path as Branch
from nodes.text.models import LoadedModel, language_model
from nodes.text.nodes import LLMLoad, LookaheadDecode, MedusaLoad, MedusaTrain
from nodes.text.writing import Settings
from tests.text.conftest import VOCABULARY, babbler, prompt, tiny
from tests.text.test_medusa_heads import draw, random_heads
from tests.text.test_methods import by, written

FAMILIES = ("llama", "gpt2", "gemma3_text")
LONG = {"max_position_embeddings": 1024}


def medusa(model: Any, size: int = 8, **more: Any) -> Medusa:
    return Medusa(Guesser(random_heads(**more), model), size)


@pytest.mark.parametrize("size", [1, 8, 40])
@pytest.mark.parametrize("kind", FAMILIES)
def test_untrained_heads_do_not_change_the_text(kind: str, size: int) -> None:
    model = tiny(kind)
    for ids in (prompt(0), prompt(3, 6).repeat(1, 4)):
        text, tally = by(medusa(model, size), model, ids)
        assert text == written(model, ids)
        assert tally.tokens == 40 == tally.passes + sum(tally.right.values())
        assert tally.drafted == (tally.passes - 1) * size


@pytest.mark.parametrize("kind", FAMILIES)
def test_it_draws_what_sampling_draws_from_the_same_seed(kind: str) -> None:
    model, ids = tiny(kind), prompt(3, 6).repeat(1, 4)
    sampling: dict[str, Any] = {"do_sample": True, "temperature": 1.3, "top_k": 20, "repetition_penalty": 1.1}
    torch.manual_seed(5)
    plain = written(model, ids, **sampling)
    draws = torch.Generator().manual_seed(5)
    assert by(medusa(model, 12), model, ids, generator=draws, **sampling)[0] == plain


class Knowing:
    """Heads that find the state that they are given among those of a text, and know what comes next in it.

    Args:
        model: the model.
        text: its tokens.
        heads: how many tokens after the next they know.
    """

    def __init__(self, model: Any, text: list[int], heads: int) -> None:
        states: list[torch.Tensor] = []
        hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, given: states.append(given[0][0]))
        with torch.no_grad():
            model(torch.tensor([text]))
        hook.remove()
        self.states, self.text, self.heads = states[0], text, heads
        self.accuracies = ((0.6, 0.1),) * heads

    def ranked(self, hidden: torch.Tensor, ranks: int, heads: int) -> torch.Tensor:
        away = (self.states - hidden).abs().amax(-1)
        predicted_next = int(away.argmin()) + 1
        assert away.min() < 1e-3
        coming = self.text[predicted_next + 1 :][: self.heads]
        coming += [0] * (self.heads - len(coming))
        return torch.tensor([[[token, (token + 1) % VOCABULARY] for token in coming]])[:, :heads, :ranks]


class EveryRow(Reader):
    """Reads as a model is read that makes logits of all it is given."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.picks_rows = False


@pytest.mark.parametrize("reader", [Reader, EveryRow])
@pytest.mark.parametrize("length", [12, 600])
@pytest.mark.parametrize("heads", [1, 3])
def test_heads_guess_from_the_state_that_gave_the_last_token(
    monkeypatch: pytest.MonkeyPatch, heads: int, length: int, reader: type[Reader]
) -> None:
    """As in training: the first head's guess is the token after the last one that was written."""
    monkeypatch.setattr(loop, "Reader", reader)
    model, ids = tiny("llama", **LONG), prompt(1, length)
    plain = written(model, ids)
    knowing: Any = Knowing(model, [*ids[0].tolist(), *plain], heads)
    runs: list[list[int]] = []
    text, _ = by(Medusa(knowing, 7), model, ids, on_tokens=runs.append)
    assert text == plain
    assert [len(run) for run in runs] == [
        1,
        *[heads + 1] * (39 // (heads + 1)),
        *[39 % (heads + 1)][: 39 % (heads + 1)],
    ]


def test_heads_guess_what_follows_what_must_come() -> None:
    model, ids = tiny("llama"), prompt(1)
    text = [*ids[0].tolist(), *written(model, ids)]
    knowing: Any = Knowing(model, text, heads=4)
    drafter = Medusa(knowing, 4)
    for certain in range(6):
        tree = Tree([text[20]])
        tree.must(text[21 : 21 + certain])
        drafter.learn(Step(tree, [], [text[20]], {}, [], knowing.states[19]))
        drafter.plant(tree)
        likeliest = tree.tokens[: 1 + max(certain, 4)]
        assert likeliest == text[20 : 21 + max(certain, 4)]
        assert all(parent not in tree.certain[:-1] for parent in tree.parents[1 + certain :])


def test_the_tree_has_the_branches_that_are_most_often_right() -> None:
    model = tiny("llama")
    drafter = medusa(model, 4, accuracies=((0.5, 0.4, 0.0), (0.9, 0.0, 0.0)))
    expected: list[Branch] = [(0,), (0, 0), (1,), (1, 0)]
    assert drafter.branches() == expected
    assert by(drafter, model, prompt(0))[0] == written(model, prompt(0))


def test_heads_that_are_never_right_draft_nothing() -> None:
    model = tiny("llama")
    text, tally = by(medusa(model, accuracies=((0.0, 0.0),)), model, prompt(0))
    assert (text, tally.drafted, tally.passes) == (written(model, prompt(0)), 0, 40)


def test_heads_of_few_tokens_draft_what_they_can() -> None:
    model = tiny("llama")
    text, tally = by(medusa(model, 64, tokens=torch.tensor([3, 8])), model, prompt(0))
    assert text == written(model, prompt(0))
    assert tally.drafted == (tally.passes - 1) * (2 + 4 + 8)


def test_in_bfloat16_it_decodes_with_heads_of_float32() -> None:
    model = tiny("llama", torch.bfloat16)
    _, tally = by(medusa(model), model, prompt(0))
    assert tally.tokens == 40


def test_one_drafter_may_serve_several_texts() -> None:
    model, tallies = tiny("llama"), [Tally(), Tally()]
    drafter = medusa(model)
    texts = [written(model, prompt(0), custom_generate=tree_decode, drafter=drafter, tally=tally) for tally in tallies]
    assert texts[0] == texts[1]
    assert (tallies[0].passes, tallies[0].drafted) == (tallies[1].passes, tallies[1].drafted)


def test_drafts_have_a_token_at_least() -> None:
    with pytest.raises(ValueError, match="at least 1 token, not 0"):
        medusa(tiny("llama"), 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return babbler(tmp_path_factory.mktemp("babbler"))


@pytest.fixture(scope="module")
def trained(folder: Path, shared: Models) -> MedusaHeads:
    """Heads that have learnt from what the model writes, which goes round in circles."""
    ctx = Context(models=shared)
    prompts = tuple(f"{letter} {other}" for letter in "abcdef" for other in "ghij")
    settings = {"answer_tokens": 48, "temperature": 0.0, "heads": 3, "steps": 100, "batch": 64, "learning_rate": 0.02}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as for a test
    try:
        return MedusaTrain(llm=LLMLoad(source=str(folder)).run(ctx), prompts=prompts, **settings).run(ctx).heads
    finally:
        torch.set_num_threads(threads)


def decode(folder: Path, models: Models, **inputs: Any) -> tuple[str, Report]:
    """What the node writes and reports."""
    reports: list[Report] = []
    ctx = Context(models=models, on_report=reports.append)
    given = {"prompt": "b k", "max_new_tokens": 64, "method": "medusa"} | inputs
    text = LookaheadDecode(llm=LLMLoad(source=str(folder)).run(ctx), **given).run(ctx).text
    return text, reports[-1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_trained_heads_save_passes_and_do_not_change_the_text(
    folder: Path, shared: Models, trained: MedusaHeads, temperature: float
) -> None:
    texts, reports = zip(
        *(
            decode(folder, shared, method=method, heads=trained, temperature=temperature)
            for method in ("medusa", "greedy")
        ),
        strict=True,
    )
    assert texts[0] == texts[1]
    assert float(reports[0]["tokens a pass"].value) > (1.5 if temperature == 0 else 1.0)
    assert float(reports[0]["guessed by medusa"].value) > 0
    assert "guessed by medusa" not in reports[1]


def test_published_heads_serve_as_well(folder: Path, shared: Models, tmp_path: Path) -> None:
    size = language_model(Context(models=shared), LLMLoad(source=str(folder)).run(Context())).model.config.vocab_size
    tensors = {"0.0.linear.weight": draw(32, 32), "0.0.linear.bias": draw(32), "0.1.weight": draw(size, 32)}
    save_file(tensors, tmp_path / "medusa_lm_head.safetensors")
    heads = MedusaLoad(file=str(tmp_path)).run(Context())
    assert decode(folder, shared, heads=heads)[0] == decode(folder, shared, method="greedy")[0]


def test_heads_of_another_model_are_named(folder: Path, shared: Models) -> None:
    odd = MedusaHeads(draw(2, 1, 16, 16), draw(2, 1, 16))
    with pytest.raises(InputError, match="the Medusa heads are 16 wide") as error:
        decode(folder, shared, heads=odd)
    assert error.value.input == "heads"
    decode(folder, shared, heads=odd, method="suffix")  # which doesn't ask them


@pytest.mark.parametrize(("method", "name"), [("medusa", "heads"), ("assisted", "draft")])
def test_what_a_method_lacks_is_named_before_a_run(method: str, name: str) -> None:
    with pytest.raises(InputError, match=f"the method {method} needs ") as error:
        LookaheadDecode.check_inputs({"prompt": "a", "method": method, name: None})
    assert error.value.input == name
    assert str(error.value.hint).startswith("link ")
    LookaheadDecode.check_inputs({"prompt": "a", "method": method})  # it may be linked
    LookaheadDecode.check_inputs({"prompt": "a", "method": "auto", name: None})


def test_missing_heads_are_named() -> None:
    with pytest.raises(InputError, match="needs Medusa heads"):
        methods.drafter(LoadedModel(tiny("llama"), None), Settings(method="medusa"), lambda done, total: None)
