"""All methods of decoding against transformers' own loop, and the drafters by themselves."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from engine.errors import Cancelled, InputError
from nodes.text import methods
from nodes.text.decoding.assisted import DraftModel, prompt_lookup, universal_draft
from nodes.text.decoding.auto import WINDOWS, Auto
from nodes.text.decoding.costs import NOMINAL, Costs, measure
from nodes.text.decoding.forced import WithForced
from nodes.text.decoding.jacobi import Jacobi
from nodes.text.decoding.lookahead import Lookahead, lookahead_decode
from nodes.text.decoding.loop import Drafter, Greedy, Tally, tree_decode
from nodes.text.decoding.suffix import Chance, Contexts, Guess, Memory, Suffix, branches
from nodes.text.decoding.tree import Tree
from nodes.text.models import LoadedModel
from nodes.text.writing import Settings
from tests.text.conftest import babbler, bytewise, prompt, tiny

FAMILIES = ("llama", "gpt2", "gemma3_text")
FLAT = Costs({1: 1.0, 64: 1.1})
STEEP = Costs({1: 1.0, 2: 2.0, 64: 64.0})
UNEVEN = Costs({1: 1.0, 2: 1.5, 3: 1.6, 4: 0.9, 8: 1.5, 16: 3.0, 64: 12.0})
NAMES = ("greedy", "jacobi", "lookahead", "suffix", "prompt lookup", "draft model", "auto")


def drafters(model: Any) -> dict[str, Drafter]:
    return {
        "greedy": Greedy(),
        "jacobi": Jacobi(6),
        "lookahead": Lookahead(),
        "suffix": Suffix(6),
        "prompt lookup": prompt_lookup(model, 5),
        "draft model": DraftModel(tiny("llama", seed=3), 4, confidence=0),
        "auto": Auto(FLAT),
    }


def written(model: Any, ids: torch.Tensor, **options: Any) -> list[int]:
    given = {"do_sample": False, "max_new_tokens": 40, "pad_token_id": 0} | options
    whole: list[int] = model.generate(ids, **given)[0].tolist()
    return whole[ids.shape[1] :]


def by(drafter: Drafter, model: Any, ids: torch.Tensor, **options: Any) -> tuple[list[int], Tally]:
    tally = Tally()
    return written(model, ids, custom_generate=tree_decode, drafter=drafter, tally=tally, **options), tally


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_method_writes_what_greedy_writes(kind: str, name: str) -> None:
    model = tiny(kind)
    for ids in (prompt(0), prompt(3, 6).repeat(1, 4)):
        text, tally = by(drafters(model)[name], model, ids)
        assert text == written(model, ids)
        assert tally.tokens == 40 == tally.passes + sum(tally.right.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_method_draws_what_sampling_draws_from_the_same_seed(name: str) -> None:
    model, ids = tiny("llama"), prompt(3, 6).repeat(1, 4)
    sampling: dict[str, Any] = {"do_sample": True, "temperature": 1.3, "top_k": 20, "repetition_penalty": 1.1}
    torch.manual_seed(5)
    plain = written(model, ids, **sampling)
    draws = torch.Generator().manual_seed(5)
    assert by(drafters(model)[name], model, ids, generator=draws, **sampling)[0] == plain


def test_stop_strings_of_generate_end_the_text(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(babbler(tmp_path))
    model, ids = tiny("llama", vocab_size=len(tokenizer)), (prompt(3, 6) % len(tokenizer)).repeat(1, 4)
    plain = written(model, ids)
    stops = {"stop_strings": [tokenizer.decode(plain[10:13])], "tokenizer": tokenizer}
    ended = written(model, ids, **stops)
    assert 3 <= len(ended) <= 13
    assert by(Suffix(6), model, ids, **stops)[0] == ended
    assert written(model, ids, custom_generate=lookahead_decode, **stops) == ended
    assert written(model, ids, custom_generate=lookahead_decode, tokenizer=tokenizer) == plain
    with pytest.raises(ValueError, match="you must pass the model's tokenizer"):
        by(Suffix(6), model, ids, stop_strings=["a"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "greedy"])
def test_a_repetitive_text_takes_fewer_passes_than_tokens(name: str) -> None:
    model, ids = tiny("llama"), prompt(3, 6).repeat(1, 4)
    found = drafters(model) | {"draft model": DraftModel(model, 4, confidence=0)}
    _, tally = by(found[name], model, ids, max_new_tokens=60)
    assert tally.passes < (55 if name == "jacobi" else 35)
    if name == "auto":
        assert {*tally.right} <= {"suffix", "prediction"}
    else:
        assert [*tally.right] == [name]


@pytest.mark.parametrize("costs", [FLAT, STEEP, UNEVEN, Costs({1: 1.0}), *NOMINAL.values()])
def test_auto_writes_the_same_whatever_passes_cost(costs: Costs) -> None:
    for seed in range(3):
        model, ids = tiny("llama", seed=seed), prompt(seed)
        assert by(Auto(costs), model, ids, max_new_tokens=80)[0] == written(model, ids, max_new_tokens=80)


def test_auto_is_greedy_where_guesses_cost_as_much_as_tokens() -> None:
    _, tally = by(Auto(STEEP), tiny("llama"), prompt(0))
    assert (tally.passes, tally.drafted) == (40, 0)


def test_auto_reads_trees_of_the_cheapest_size() -> None:
    sizes: list[int] = []
    model = tiny("llama", seed=1)
    embedding = model.model.embed_tokens
    hook = embedding.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[1]))
    by(Auto(UNEVEN), model, prompt(1))
    hook.remove()
    assert min(sizes[1:]) == 4


def test_auto_reads_a_window_only_where_it_can_pay() -> None:
    wide = 2 * min(columns for columns, *_ in WINDOWS)
    for costs, reads in ((Costs({1: 1.0, 256: 1.0}), True), (Costs({1: 1.0, 4: 1.0, 64: 16.0}), False)):
        tree = Tree([7])
        auto = Auto(costs)
        auto.begin([1, 2, 3, 4, 5, 6, 7])
        auto.plant(tree)
        assert (len(tree.tokens) > wide) == reads


def test_auto_stops_a_window_that_does_not_pay_and_tries_it_again() -> None:
    """A text in which nothing comes twice: the window's n-grams are all wrong."""
    auto = Auto(Costs({1: 1.0, 256: 1.0}))
    auto.begin(range(100))
    read: list[bool] = []
    columns = auto.window.columns
    for token in range(100, 400):
        tree = Tree([token - 1])
        wanted = auto.plant(tree)
        read.append(len(tree.tokens) > len(tree.drafts) + 1 or len(tree.tokens) > columns)
        picks = dict.fromkeys((tree.root, *wanted), 1000 + token)
        auto.learn(_step(tree, [token], picks))
    assert read[0]
    assert not all(read)
    assert any(read[read.index(False) :]), "it is tried again"


def _step(tree: Tree, tokens: list[int], picks: dict[int, int], path: Sequence[int] = ()) -> Any:
    from nodes.text.decoding.loop import Step

    rows = [torch.eye(512)[token] for token in tokens]
    return Step(tree, list(path), tokens, picks, rows, None)


class TestDraftModels:
    def test_a_draft_model_reads_each_token_once_or_twice(self) -> None:
        """What it drafted and what was written stays in its cache, as far as they are equal."""
        model, draft, read = tiny("llama"), tiny("llama", seed=3), []
        hook = draft.model.embed_tokens.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
        _, tally = by(DraftModel(draft, 4, confidence=0), model, prompt(0))
        hook.remove()
        assert sum(read) <= 12 + 40 + tally.drafted
        assert max(read[1:]) <= 5

    def test_unsure_drafts_end_early(self) -> None:
        model = tiny("llama")
        _, sure = by(DraftModel(tiny("llama", seed=3), 4, confidence=0), model, prompt(0))
        _, unsure = by(DraftModel(tiny("llama", seed=3), 4, confidence=1.1), model, prompt(0))
        assert sure.drafted > unsure.drafted == 0

    def test_a_draft_model_stops_where_its_positions_end(self) -> None:
        model, draft = tiny("llama"), tiny("llama", seed=3, max_position_embeddings=20)
        text, tally = by(DraftModel(draft, 4, confidence=0), model, prompt(0))
        assert text == written(model, prompt(0))
        assert 0 < tally.drafted < 40

    @pytest.mark.parametrize(
        ("kind", "reason"), [("gemma3_text", "can't draft: it forgets"), ("lfm2", "recurrent"), ("t5", "decoder-only")]
    )
    def test_models_that_cannot_draft_are_named(self, kind: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            DraftModel(tiny(kind))

    def test_a_draft_model_with_other_tokens_writes_in_the_models(self, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = bytewise(tmp_path / "draft")
        draft, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        other = bytewise(tmp_path / "model")
        model, own = AutoModelForCausalLM.from_pretrained(other), AutoTokenizer.from_pretrained(other)
        ids = own("the red fish, the red fish", return_tensors="pt").input_ids
        text, tally = by(universal_draft(model, own, draft, tokenizer, 5), model, ids)
        assert text == written(model, ids)
        assert tally.drafted > 0

    def test_a_draft_model_with_other_tokens_drafts_while_the_text_fits_into_it(self, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = bytewise(tmp_path / "model")
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        small = tiny("gpt2", vocab_size=model.config.vocab_size, max_position_embeddings=60)
        ids = tokenizer("the red fish, the red fish", return_tensors="pt").input_ids
        text, tally = by(universal_draft(model, tokenizer, small, tokenizer, 5), model, ids, max_new_tokens=60)
        assert text == written(model, ids, max_new_tokens=60)
        assert 0 < tally.drafted < 250

    @pytest.mark.parametrize("own_tokens", [True, False])
    def test_a_draft_model_reads_a_long_prompt_with_progress_and_may_be_stopped(
        self, own_tokens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = bytewise(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = tiny("llama", vocab_size=len(tokenizer), max_position_embeddings=1024)
        draft = tiny("llama", seed=3, vocab_size=len(tokenizer), max_position_embeddings=1024)
        ids = tokenizer("the red fish, " * 12, return_tensors="pt").input_ids
        monkeypatch.setattr("nodes.text.decoding.assisted.PROMPT_ALONE", 100)
        heard: list[tuple[int, int]] = []
        passes: list[int] = []

        def made(hear: Callable[[int, int], object]) -> Drafter:
            if own_tokens:
                return DraftModel(draft, 4, confidence=0, heard=hear)
            return universal_draft(model, tokenizer, draft, tokenizer, 4, heard=hear)

        def stop(done: int, total: int) -> None:
            if done:
                raise Cancelled

        hook = draft.model.embed_tokens.register_forward_hook(lambda _, given, __: passes.append(given[0].shape[1]))
        text, tally = by(made(lambda *count: heard.append(count)), model, ids)
        assert heard == [(0, 167), (83, 167)], "the draft model has two layers"
        assert passes[0] == 167
        assert max(passes[1:]) <= 6, "nothing is read twice"
        assert (text, tally.drafted > 0) == (written(model, ids), True)
        passes.clear()
        with pytest.raises(Cancelled):
            by(made(stop), model, ids)
        hook.remove()
        assert passes == [167]

    def test_a_draft_model_with_other_tokens_must_be_able_to_draft(self) -> None:
        with pytest.raises(ValueError, match="can't draft: it forgets"):
            universal_draft(tiny("llama"), None, tiny("gemma3_text"), None, 5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "greedy"])
def test_guesses_begin_after_what_must_come(name: str) -> None:
    text = prompt(3, 6).repeat(1, 4)[0].tolist()
    drafter = WithForced(drafters(tiny("llama"))[name], lambda written: text[len(written) % 6 :][:2])
    drafter.begin(text)
    tree = Tree(text[-1:])
    drafter.plant(tree)
    first, second = tree.certain
    assert [tree.tokens[node] for node in tree.certain] == text[:2]
    assert [drafter.method_of(node) for node in tree.certain] == ["grammar", "grammar"]
    assert [tree.parents.count(node) for node in (tree.root, first)] == [1, 1]
    guesses = [token for parent, token in tree.drafts if parent == second]
    assert guesses
    if name in ("suffix", "lookahead", "prompt lookup", "auto"):
        assert text[2] in guesses


def test_jacobi_keeps_predictions_in_their_places_after_what_must_come() -> None:
    drafter, tree, after = Jacobi(4), Tree([2]), Tree([9])
    drafter.begin([1, 2])
    tree.must([7, 8])
    picks = {node: 100 + place for place, node in enumerate(drafter.plant(tree))}
    drafter.learn(_step(tree, [7, 8, 9], picks, tree.certain))
    drafter.plant(after)
    assert after.tokens[1:] == [100, 101, 102, 103]


def test_what_a_grammar_forces_is_read_in_parts() -> None:
    forced = WithForced(Greedy(), lambda text: [7] * 20_000)
    forced.begin([1, 2])
    tree = Tree([2])
    forced.plant(tree)
    assert len(tree.tokens) == 1 + WithForced.MOST


class TestSuffix:
    def test_the_longest_context_decides(self) -> None:
        contexts = Contexts()
        contexts.add([1, 2, 3, 9, 2, 3, 8, 1, 2, 3])
        assert [guess.token for guess in contexts.after([1, 2, 3])] == [9]
        assert [guess.token for guess in contexts.after([5, 2, 3])] == [8, 9]
        assert contexts.after([7]) == []

    def test_frequent_followers_come_first_and_recent_ones_before_equals(self) -> None:
        contexts = Contexts()
        contexts.add([1, 5, 1, 5, 1, 6, 1, 7, 1])
        assert [(guess.token, guess.share) for guess in contexts.after([1])] == [(5, 0.5), (7, 0.25), (6, 0.25)]

    def test_of_a_long_text_only_the_end_is_looked_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Contexts, "LEAST", 40)
        read, written = Contexts(), Contexts()
        read.add(range(1000))
        for token in range(1000):
            written.add([token])
            assert len(written) <= 6 * 60
        for contexts in (read, written):
            assert contexts.text == [*range(1000)]
            assert [guess.token for guess in contexts.after([969, 970])] == [971]
            assert contexts.after([938, 939]) == []

    def test_a_token_of_a_text_takes_few_bytes(self) -> None:
        draw = random.Random(0)
        text = [draw.randrange(300, 49_152) for _ in range(4096)]
        tracemalloc.start()
        contexts = Contexts()
        contexts.add(text)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken / len(text) < 1000

    def test_a_text_that_no_guess_comes_from_is_not_looked_up(self) -> None:
        memory, tree = Memory(reads_text=False), Tree([1])
        memory.begin([1, 2, 1])
        memory.learn(_step(tree, [2, 1], {tree.root: 2}))
        assert len(memory.text) == 0
        assert [*memory.branches()] == []
        memory.predict([1, 9])
        assert [branch.path for branch in islice(memory.branches(), 1)] == [(9,)]

    def test_branches_come_by_probability_each_after_its_beginning(self) -> None:
        contexts = Contexts()
        contexts.add([1, 2, 3, 1, 2, 4, 1])
        found = [*islice(branches(contexts.end, [(contexts, Chance())]), 8)]
        chances = [branch.probability for branch in found]
        assert chances == sorted(chances, reverse=True)
        assert found[0].path == (2,)
        paths = [branch.path for branch in found]
        assert all(path[:-1] in ((), *paths[:at]) for at, path in enumerate(paths))

    def test_chances_follow_what_turned_out_right(self) -> None:
        chance, guess = Chance(), Guess(token=1, matched=2, share=1.0, seen=1)
        before = chance(guess)
        for _ in range(20):
            chance.learn(guess, right=False)
        assert chance(guess) < before / 3
        for _ in range(100):
            chance.learn(guess, right=True)
        assert chance(guess) > before

    def test_a_later_source_counts_where_the_earlier_ones_may_be_wrong(self) -> None:
        first, second, chance = Contexts(), Contexts(), Chance()
        first.add([1, 2, 1])
        second.add_apart([1, 2])
        second.add_apart([1, 3])
        every = islice(branches(first.end, [(first, chance), (second, chance)]), 20)
        found = [branch for branch in every if len(branch.path) == 1]
        assert [(branch.path, branch.source) for branch in found] == [((2,), 0), ((3,), 1)]
        assert found[1].probability <= 1 - found[0].probability

    def test_what_the_model_would_have_written_after_a_wrong_guess_is_remembered(self) -> None:
        memory, tree = Memory(), Tree([1])
        memory.text.add([1])
        wrong = tree.draft_chain([5, 6])
        memory.learn(_step(tree, [2], {tree.root: 2, wrong[0]: 7, wrong[1]: 8}))
        assert [guess.token for guess in memory.predicted.after([1, 5])] == [7]
        assert [guess.token for guess in memory.predicted.after([5, 6])] == [8]

    def test_predictions_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Memory, "MOST", 10)
        memory = Memory()
        for token in range(0, 100, 2):
            memory.predict([token, token + 1])
        assert len(memory.predicted) <= 10 + 1

    @pytest.mark.parametrize("make", [Suffix, Jacobi, lambda size: DraftModel(tiny("llama"), size)])
    def test_drafts_have_a_token_at_least(self, make: Any) -> None:
        with pytest.raises(ValueError, match="at least 1 token, not 0"):
            make(0)


class TestCosts:
    def test_what_lies_between_is_interpolated_and_beyond_in_proportion(self) -> None:
        costs = Costs({1: 1.0, 2: 3.0, 6: 5.0})
        assert [costs(size) for size in (1, 2, 4, 6, 12)] == [1.0, 3.0, 4.0, 5.0, 10.0]
        assert costs.cheapest(2) == (2, 3.0)
        assert UNEVEN.cheapest(2) == (4, 0.9)

    @pytest.mark.parametrize("times", [{}, {2: 1.0}, {1: 0.0}, {1: 1.0, 0: 1.0}])
    def test_times_that_make_no_sense_are_refused(self, times: dict[int, float]) -> None:
        with pytest.raises(ValueError, match="costs of passes"):
            Costs(times)

    @pytest.mark.parametrize("kind", FAMILIES)
    def test_passes_of_a_model_are_measured(self, kind: str) -> None:
        heard: list[tuple[int, int]] = []
        costs = measure(tiny(kind), lambda done, total: heard.append((done, total)), seconds=0.3)
        assert {1, 4, 8} <= costs.times.keys()
        assert heard[0] == (0, heard[0][1])
        assert [done for done, _ in heard] == list(range(len(heard)))

    def test_they_are_measured_once_and_kept(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("nodes.text.kept.home", lambda: tmp_path)
        llm, heard = LoadedModel(tiny("llama"), None), []
        first = methods.costs(llm, lambda done, total: heard.append(done))
        count = len(heard)
        assert count > 0
        assert methods.costs(llm, lambda done, total: heard.append(done)) == first
        assert len(heard) == count
        (kept,) = (tmp_path / "pass-costs").iterdir()
        kept.write_text(json.dumps({"2": "soon"}))
        methods.costs(llm, lambda done, total: heard.append(done))
        assert len(heard) > count, "a file that can't be read is measured anew"

    def test_no_clock_decides_in_half_precision(self) -> None:
        heard: list[int] = []
        costs = methods.costs(LoadedModel(tiny("llama", torch.bfloat16), None), lambda done, total: heard.append(done))
        assert (costs, heard) == (NOMINAL["cpu"], [])


def test_a_missing_draft_model_is_named() -> None:
    with pytest.raises(InputError, match="needs a draft model"):
        methods.drafter(LoadedModel(tiny("llama"), None), Settings(method="assisted"), lambda done, total: None)
