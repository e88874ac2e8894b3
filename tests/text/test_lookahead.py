"""Lookahead decoding against transformers' own loop, and its mask against one forward pass for each prefix."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from transformers import DynamicCache, StaticCache, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from nodes.text.decoding.lookahead import Lookahead, Window, lookahead_decode
from nodes.text.decoding.loop import tree_decode
from nodes.text.decoding.reader import Reader
from nodes.text.decoding.support import unsupported
from nodes.text.decoding.tree import Tree
from tests.text.conftest import VOCABULARY, prompt, tiny

FAMILIES = ("llama", "qwen2", "gpt2", "opt")
LONG = {"max_position_embeddings": 1024}


def written(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    return model.generate(ids, pad_token_id=0, **{"do_sample": False, "max_new_tokens": 40} | options)


def runs(model: Any, ids: torch.Tensor, **options: Any) -> tuple[torch.Tensor, list[list[int]]]:
    """The ids that lookahead gives, and what each forward pass wrote."""
    passes: list[list[int]] = []
    return written(model, ids, custom_generate=lookahead_decode, on_tokens=passes.append, **options), passes


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_writes_what_greedy_writes(kind: str, seed: int) -> None:
    model, ids = tiny(kind), prompt(seed)
    ours, passes = runs(model, ids)
    assert torch.equal(ours, written(model, ids))
    assert [*itertools.chain(*passes)] == ours[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    ("window", "ngram", "candidates"), [(0, 3, 4), (1, 2, 0), (1, 4, 2), (3, 2, 3), (4, 3, 1), (7, 5, 7), (15, 5, 15)]
)
@pytest.mark.parametrize("pool_from_prompt", [True, False])
def test_no_setting_changes_the_text(window: int, ngram: int, candidates: int, pool_from_prompt: bool) -> None:
    model, ids = tiny("llama", seed=1), prompt(5)
    settings = {"window": window, "ngram": ngram, "candidates": candidates, "pool_from_prompt": pool_from_prompt}
    assert torch.equal(runs(model, ids, **settings)[0], written(model, ids))


@pytest.mark.parametrize(("window", "ngram", "candidates"), [(33, 32, 0), (0, 32, 33), (16, 32, 17), (200, 2, 200)])
@pytest.mark.parametrize("length", [1, 120])
def test_more_guesses_than_there_is_text_or_room_change_nothing(
    window: int, ngram: int, candidates: int, length: int
) -> None:
    model, ids = tiny("llama"), prompt(5, length)
    settings = {"window": window, "ngram": ngram, "candidates": candidates, "max_new_tokens": 8}
    assert torch.equal(runs(model, ids, **settings)[0], written(model, ids, max_new_tokens=8))


def test_repetitive_text_takes_fewer_passes_than_tokens() -> None:
    ids = prompt(3, 6).repeat(1, 4)
    ours, passes = runs(tiny("llama"), ids, max_new_tokens=60)
    assert torch.equal(ours, written(tiny("llama"), ids, max_new_tokens=60))
    assert len(passes) < 30


def test_lookahead_branch_alone_saves_passes() -> None:
    """Without n-grams of the text, what is verified can only come from the Jacobi iteration."""
    saved = 0
    for seed in range(4):
        _, passes = runs(tiny("llama"), prompt(seed), pool_from_prompt=False, window=7, candidates=7)
        saved += 40 - len(passes)
    assert saved > 20


@pytest.mark.parametrize("reads", [True, False])
def test_the_text_is_looked_up_over_the_seams_of_passes_too_or_not_at_all(reads: bool) -> None:
    model, ids = tiny("llama"), prompt(3, 6).repeat(1, 4)
    drafter = Lookahead(window=0, pool_from_prompt=reads)
    ours = written(model, ids, custom_generate=tree_decode, drafter=drafter)
    assert drafter.memory.text.end == ours[0, -6:].tolist()
    assert all(branch.source == (0 if reads else 1) for branch in islice(drafter.memory.branches(), 1))


@pytest.mark.parametrize("reads", [True, False])
def test_no_more_tokens_are_verified_than_asked_for(reads: bool) -> None:
    drafter = Lookahead(window=0, ngram=4, candidates=2, pool_from_prompt=reads)
    drafter.begin([1, 2, 3, 4, 1, 2, 5, 6, 1, 2, 7, 1, 2])
    for start in range(10, 40, 5):
        drafter.memory.predict([2, start, start + 1, start + 2])
    tree = Tree([2])
    drafter.plant(tree)
    assert len(tree.tokens) == 1 + 2 * 3


def test_what_the_lookahead_branch_completes_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    completed: list[list[int]] = []
    advance = Window.advance

    def seen(window: Window, tree: Tree, predictions: Sequence[int]) -> Iterator[list[int]]:
        for grams in advance(window, tree, predictions):
            completed.append(grams)
            yield grams

    monkeypatch.setattr(Window, "advance", seen)
    drafter = Lookahead(window=3, ngram=4, pool_from_prompt=False)
    passes: list[list[int]] = []
    model, ids = tiny("llama"), prompt(1)
    written(model, ids, custom_generate=tree_decode, drafter=drafter, on_tokens=passes.append)
    assert len(completed) == 3 * (len(passes) - 2), "the first two passes fill the window"
    for *before, last in completed[-3:]:
        assert last in [guess.token for guess in drafter.memory.predicted.after(before)]


def test_a_seed_fixes_the_number_of_passes() -> None:
    model, ids = tiny("qwen2"), prompt(2)
    first, again, other = (runs(model, ids, window_seed=seed) for seed in (1, 1, 2))
    assert first[1] == again[1]
    assert torch.equal(first[0], other[0])


def long_run(model: Any, ids: torch.Tensor) -> list[int]:
    """What the first pass that wrote at least three tokens wrote."""
    return next(run for run in runs(model, ids)[1] if len(run) >= 3)


@pytest.mark.parametrize("kind", FAMILIES)
def test_ends_at_any_of_the_eos_tokens_within_an_accepted_run(kind: str) -> None:
    model, ids = tiny(kind), prompt(3, 6).repeat(1, 4)
    _, inside, *_ = long_run(model, ids)
    ours, _ = runs(model, ids, eos_token_id=[0, inside])
    assert torch.equal(ours, written(model, ids, eos_token_id=[0, inside]))
    assert ours[0, -1] == inside


@pytest.mark.parametrize("count", range(1, 12))
def test_writes_no_token_too_many(count: int) -> None:
    ids = prompt(3, 6).repeat(1, 4)
    ours, _ = runs(tiny("llama"), ids, max_new_tokens=count)
    assert torch.equal(ours, written(tiny("llama"), ids, max_new_tokens=count))


@pytest.mark.parametrize("kind", FAMILIES)
def test_writes_to_the_last_position_of_the_model(kind: str) -> None:
    model, ids = tiny(kind), prompt(1)
    ours, _ = runs(model, ids, max_new_tokens=128 - 12, window=9, ngram=6)
    assert torch.equal(ours, written(model, ids, max_new_tokens=128 - 12))


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 20, "eos_token_id": 7},
        {"bad_words_ids": [[5], [6], [9]], "repetition_penalty": 1.1},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("seed", range(2))
def test_logits_processors_see_each_position_with_its_own_prefix(options: dict[str, Any], seed: int) -> None:
    model, ids = tiny("gpt2"), prompt(seed)
    assert torch.equal(runs(model, ids, **options)[0], written(model, ids, **options))


def test_scores_and_cache_are_those_of_greedy() -> None:
    model, ids = tiny("llama", torch.float64), prompt(4)
    options = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
    theirs = written(model, ids, **options)
    ours, _ = runs(model, ids, **options)
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(ours.scores, theirs.scores)
    torch.testing.assert_close(ours.logits, theirs.logits)
    for mine, other in zip(ours.past_key_values.layers, theirs.past_key_values.layers, strict=True):
        torch.testing.assert_close(mine.keys, other.keys)
        torch.testing.assert_close(mine.values, other.values)


def test_stopping_criteria_see_the_scores_so_far() -> None:
    class SeventhScores(StoppingCriteria):
        """Ends a text with the token whose scores are the seventh."""

        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            return torch.tensor([scores is not None and len(scores) == 7 and scores[-1].shape == (1, VOCABULARY)])

    options = {
        "return_dict_in_generate": True,
        "output_scores": True,
        "stopping_criteria": StoppingCriteriaList([SeventhScores()]),
    }
    ids = prompt(1)
    expected = written(tiny("llama"), ids, **options)
    found = written(tiny("llama"), ids, custom_generate=lookahead_decode, **options)
    assert found.sequences.shape == (1, ids.shape[1] + 7)
    assert torch.equal(found.sequences, expected.sequences)


def test_continues_from_a_cache() -> None:
    model, ids = tiny("llama"), prompt(4)
    cache = DynamicCache(config=model.config)
    half, _ = runs(model, ids, max_new_tokens=15, past_key_values=cache)
    assert cache.get_seq_length() == half.shape[1] - 1
    whole, _ = runs(model, half, max_new_tokens=25, past_key_values=cache)
    assert torch.equal(whole, written(model, ids))


@pytest.mark.parametrize("seed", range(4))
def test_draws_what_sampling_draws_from_the_same_generator(seed: int) -> None:
    model, ids = tiny("llama"), prompt(seed)
    options = {"do_sample": True, "temperature": 3.0, "top_p": 0.9, "top_k": 0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs = written(model, ids, **options)
    ours, _ = runs(model, ids, generator=torch.Generator().manual_seed(seed), **options)
    assert torch.equal(ours, theirs)


@pytest.mark.full
def test_sampling_follows_the_distribution_of_the_model() -> None:
    model = tiny("llama", vocab_size=6)
    ids = torch.tensor([[2, 3, 2, 3, 4, 2, 3, 2]])
    generator = torch.Generator().manual_seed(0)
    options = {"do_sample": True, "temperature": 9.0, "top_k": 0, "max_new_tokens": 2, "generator": generator}
    draws, accepted = 400, 0
    seen = dict.fromkeys(itertools.product(range(6), repeat=2), 0)
    for _ in range(draws):
        ours, passes = runs(model, ids, window=2, ngram=3, candidates=4, **options)
        seen[tuple(ours[0, -2:].tolist())] += 1
        accepted += len(passes) == 1
    with torch.no_grad():
        first = (model(ids).logits[0, -1].double() / 9).softmax(-1)
        rows = [torch.cat([ids, torch.tensor([[token]])], dim=1) for token in range(6)]
        second = (model(torch.cat(rows)).logits[:, -1].double() / 9).softmax(-1)
    expected = (first[:, None] * second).flatten() * draws
    observed = torch.tensor(list(seen.values()), dtype=torch.float64)
    assert expected.min() >= 3
    assert chisquare(observed, expected).pvalue > 0.01
    assert accepted > draws / 10  # drafts were really hit


def test_rows_see_their_own_prefix_and_nothing_else() -> None:
    """Each row of a full tree gives what a forward pass over its ancestors alone gives."""
    model, ids = tiny("llama", torch.float64), prompt(6)
    tokens = ids[0].tolist()
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :7], past_key_values=cache)
        tree = Tree(tokens[7:])
        window = Window(4, 4, tokens, seed=0)
        window.rows = [[3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]
        last_row = window.plant(tree)
        for candidate in ((3, 4, 9), (20, 21, 22), (20, 23, 24)):
            node = tree.root
            for token in candidate:
                node = tree.draft(node, token)
        nodes = list(range(len(tree.tokens)))
        logits = Reader(model, cache, 100).read(tree, nodes)
        for node in nodes:
            path = [node]
            while tree.parents[path[0]] >= 0:
                path.insert(0, tree.parents[path[0]])
            alone = torch.tensor([tokens[:7] + [tree.tokens[at] for at in path]])
            torch.testing.assert_close(logits[node], model(alone).logits[0, -1], rtol=1e-9, atol=1e-9)
    columns = [[tree.tokens[at] for at in ancestors(tree, node)] for node in last_row]
    assert columns == [[6, 10], [3, 7, 11], [3, 4, 8, 12], [3, 4, 5, 9, 13]]


def ancestors(tree: Tree, node: int) -> list[int]:
    """The path from below the root to the node."""
    path = []
    while node != tree.root:
        path.insert(0, node)
        node = tree.parents[node]
    return path


def test_rows_that_nothing_depends_on_get_no_logits() -> None:
    model, ids, rows, read = tiny("llama"), prompt(0), [], []
    hooks = [
        model.lm_head.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[1])),
        model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1])),
    ]
    runs(model, ids, pool_from_prompt=False, window=6, ngram=4, candidates=0)
    for hook in hooks:
        hook.remove()
    # With the prompt comes a first row of W + N − 3. Later, of three rows of W, the second is needed for its head only.
    assert (read[0], rows[0]) == (12 + 7, 1 + 7)
    assert max(read[1:]) == 6 * 3
    assert max(rows[3:]) <= 6 + 1 + 6


@pytest.fixture
def calls() -> Iterator[list[dict[str, Any]]]:
    """What `LONG` is called with, pass by pass."""
    seen: list[dict[str, Any]] = []
    hook = tiny("llama", **LONG).register_forward_pre_hook(lambda _, __, given: seen.append(given), with_kwargs=True)
    yield seen
    hook.remove()


@pytest.mark.parametrize(("chunk", "read"), [(None, [599]), (250, [250, 250, 99])])
def test_a_long_prompt_is_read_without_a_mask(calls: list[dict[str, Any]], chunk: int | None, read: list[int]) -> None:
    """A mask would have a number for each pair of its tokens."""
    model, ids = tiny("llama", **LONG), prompt(0, 600)
    ours, passes = runs(model, ids, prefill_chunk_size=chunk)
    alone = [given["input_ids"].shape[1] for given in calls if given.get("attention_mask") is None]
    assert alone == read
    assert len(calls) == len(alone) + len(passes)
    assert max(given["input_ids"].shape[1] for given in calls[len(alone) :]) < 40
    assert torch.equal(ours, written(model, ids))


@pytest.mark.parametrize("kind", FAMILIES)
def test_writes_what_greedy_writes_after_a_long_prompt(kind: str) -> None:
    model, ids = tiny(kind, **LONG), prompt(1, 700)
    assert torch.equal(runs(model, ids)[0], written(model, ids))


def test_a_long_addition_to_a_cache_is_read_as_a_prompt(calls: list[dict[str, Any]]) -> None:
    model, ids = tiny("llama", **LONG), prompt(2, 900)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids[:, :100], past_key_values=cache)
    ours, _ = runs(model, ids, past_key_values=cache)
    assert calls[1]["input_ids"].shape[1] == 799
    assert torch.equal(ours, written(model, ids))


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("length", [4, 15, 17, 600])
@pytest.mark.parametrize("whole", [False, True])
def test_sliding_windows_see_what_they_see_in_greedy(kind: str, length: int, whole: bool) -> None:
    """Windows of 16 tokens, with a cache that keeps no more of them, and with one that keeps the whole text."""
    model, ids = tiny(kind, **LONG), prompt(0, length)
    cache = DynamicCache() if whole else DynamicCache(config=model.config)
    half, passes = runs(model, ids, max_new_tokens=17, past_key_values=cache)
    ours, more = runs(model, half, max_new_tokens=23, past_key_values=cache)
    assert torch.equal(ours, written(model, ids))
    assert len(passes) + len(more) < 40


class Heard(BaseStreamer):
    """What a streamer is given."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended += 1


def test_a_streamer_gets_what_it_gets_without_lookahead() -> None:
    ours, theirs = Heard(), Heard()
    runs(tiny("llama"), prompt(1), streamer=ours)
    written(tiny("llama"), prompt(1), streamer=theirs)
    assert ours.pieces == theirs.pieces
    assert ours.ended == theirs.ended == 1


def test_what_the_listener_raises_ends_the_decoding() -> None:
    class Enough(Exception):
        pass

    def listen(tokens: list[int]) -> None:
        raise Enough

    with pytest.raises(Enough):
        written(tiny("llama"), prompt(), custom_generate=lookahead_decode, on_tokens=listen)


class TestWindow:
    def test_fills_a_row_with_each_pass_and_then_completes_ngrams(self) -> None:
        window = Window(columns=3, ngram=4, prompt=[9], seed=0)
        widths, grams = [], []
        for step in range(4):
            tree = Tree([1])
            last_row = window.plant(tree)
            widths.append([len(row) for row in window.rows])
            grams.append(list(window.advance(tree, [10 * step + column for column in range(len(last_row))])))
        assert widths == [[4], [3, 4], [2, 3, 3], [2, 3, 3]]
        assert grams[:2] == [[], []]
        assert grams[2] == [[1, 2, 11, 20], [9, 3, 12, 21], [9, 4, 13, 22]]
        assert grams[3] == [[1, 11, 20, 30], [3, 12, 21, 31], [4, 13, 22, 32]]

    def test_without_columns_there_is_no_branch(self) -> None:
        window, tree = Window(columns=0, ngram=4, prompt=[9], seed=0), Tree([1])
        assert window.plant(tree) == []
        assert list(window.advance(tree, [])) == []
        assert tree.tokens == [1]


class TestUnsupported:
    @pytest.mark.parametrize(
        ("kind", "reason"),
        [("lfm2", "a recurrent state"), ("bloom", "positions"), ("falcon", "alibi"), ("t5", "decoder-only")],
    )
    def test_models_are_named_with_the_reason(self, kind: str, reason: str) -> None:
        assert reason in str(unsupported(tiny(kind)))

    @pytest.mark.parametrize(
        ("setting", "value", "reason"),
        [
            ("_attn_implementation", "flex_attention", "no 4-D mask"),
            ("rope_parameters", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, "length of the text"),
            ("rope_parameters", {"full_attention": {"rope_type": "longrope"}}, "length of the text"),
        ],
    )
    def test_settings_are_named_with_the_reason(self, setting: str, value: Any, reason: str) -> None:
        model = copy.copy(tiny("llama"))
        model.config = copy.copy(model.config)
        setattr(model.config, setting, value)
        assert reason in str(unsupported(model))

    @pytest.mark.parametrize("kind", FAMILIES)
    def test_no_model_that_is_supported(self, kind: str) -> None:
        assert unsupported(tiny(kind)) is None

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"input_ids": prompt().repeat(2, 1)}, "one sequence at a time, not 2"),
            ({"num_return_sequences": 3, "do_sample": True}, "one sequence at a time, not 3"),
            ({"attention_mask": torch.tensor([[0] + [1] * 11])}, "no padding"),
            ({"position_ids": torch.arange(12)[None] + 3}, "position_ids"),
            ({"use_cache": False}, "dynamic KV cache"),
            ({"output_attentions": True, "return_dict_in_generate": True}, "attentions"),
            ({"ngram": 1}, "ngram >= 2"),
            ({"window": -1}, "window >= 0"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_calls_are_refused_with_the_reason(self, options: dict[str, Any], reason: str) -> None:
        ids = options.pop("input_ids", prompt())
        with pytest.raises(ValueError, match=reason):
            runs(tiny("llama", attn_implementation="eager"), ids, **options)

    def test_a_cache_that_cannot_be_cut(self) -> None:
        model = tiny("llama")
        with pytest.raises(ValueError, match="dynamic KV cache"):
            runs(model, prompt(), past_key_values=StaticCache(config=model.config, max_cache_len=64))
