"""Training Medusa heads, for tiny models."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nodes.text.medusa.training as training
from engine.errors import Cancelled, InputError
from engine.models import Models
from engine.node import Context, Outputs
from nodes.text.medusa.examples import Examples, divided, from_texts, joined, own_answers
from nodes.text.medusa.topics import topics
from nodes.text.medusa.training import OUTSIDE, accuracies, commonest, targets, tokens_per_pass
from nodes.text.models import LoadedModel, language_model
from nodes.text.nodes import LLMLoad, MedusaTrain, TrainedHeads
from tests.engine.test_encoding import same
from tests.text.conftest import babbler

CYCLE = ("abcdefgh" * 40,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return babbler(tmp_path_factory.mktemp("babbler"))


class Kept:
    """A context's `recall` and `keep`, with which a run can be ended at some point."""

    def __init__(self) -> None:
        self.parts: dict[str, Outputs] = {}

    def recall(self, name: str, *, anywhere: bool = False) -> Outputs | None:
        return self.parts.get(name)

    def keep(
        self,
        name: str,
        outputs: Outputs,
        seconds: float,
        *,
        anywhere: bool = False,
        instead_of: Collection[str] = (),
    ) -> None:
        self.parts = {kept: part for kept, part in self.parts.items() if kept not in instead_of} | {name: outputs}

    def context(self, models: Models, listener: Callable[..., None] = lambda *_: None) -> Context:
        return Context(models=models, recall=self.recall, keep=self.keep, on_progress=listener)


def train(ctx: Context, folder: Path, **inputs: Any) -> TrainedHeads:
    settings = {"answers": 12, "answer_tokens": 24, "temperature": 0.0, "heads": 3, "steps": 60, "batch": 64}
    llm = LLMLoad(source=str(folder)).run(ctx)
    return MedusaTrain(llm=llm, **settings | {"learning_rate": 0.02} | inputs).run(ctx)


def loaded(ctx: Context, folder: Path) -> LoadedModel:
    return language_model(ctx, LLMLoad(source=str(folder)).run(ctx))


def test_heads_learn_a_text_that_repeats_itself(ctx: Context, folder: Path) -> None:
    trained = train(ctx, folder, texts=CYCLE)
    assert trained.tokens_per_pass > 3
    assert trained.loss < 0.5
    assert trained.heads.accuracies[0][0] > 0.9
    assert trained.heads.weights.shape == (3, 1, 32, 32)


def test_heads_learn_what_the_model_itself_writes(ctx: Context, folder: Path) -> None:
    prompts = tuple(f"{letter} {other}" for letter in "abcdef" for other in "ghij")
    trained = train(ctx, folder, prompts=prompts, steps=150)
    assert trained.tokens_per_pass > 1.5


def test_the_same_seed_gives_the_same_bits(ctx: Context, folder: Path) -> None:
    first, second, other = (train(ctx, folder, temperature=1.0, steps=6, seed=seed) for seed in (1, 1, 2))
    assert same(first.heads, second.heads)
    assert (first.loss, first.tokens_per_pass) == (second.loss, second.tokens_per_pass)
    assert not same(first.heads, other.heads)


def test_a_training_that_was_interrupted_goes_on_to_the_same_bits(
    shared: Models, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "KEEP_SECONDS", 0.0)
    kept, steps = Kept(), []

    def interrupt(done: int, total: int, unit: str, preview: object) -> None:
        if unit == "step":
            steps.append(done)
            if done == 45:
                raise Cancelled

    with pytest.raises(Cancelled):
        train(kept.context(shared, interrupt), folder)
    steps.clear()
    resumed = train(kept.context(shared, lambda done, total, unit, _: steps.append(done)), folder)
    assert steps == [0, *range(45, 60)]  # 0 tells that the answers are there, and none is written again
    assert same(resumed.heads, train(Context(models=shared), folder).heads)
    states = [name for name in kept.parts if name.startswith("training ")]
    assert len(states) == 1, "each state is kept in place of the one before"
    assert states[0].endswith(" 60")


def test_answers_that_are_done_are_kept(shared: Models, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodes.text.medusa.examples.BATCH", 4)
    kept, counts = Kept(), []

    def interrupt(done: int, total: int, unit: str, preview: object) -> None:
        counts.append((done, total, unit))
        if done == 2 * 24 + 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(kept.context(shared, interrupt), folder)
    assert counts[:3] == [(0, 72, "token"), (1, 72, "token"), (2, 72, "token")]
    assert len(kept.parts) == 2
    counts.clear()
    resumed = train(kept.context(shared, lambda *given: counts.append(given[:3])), folder)
    assert counts[:4] == [(0, 72, "token"), (24, 72, "token"), (48, 72, "token"), (49, 72, "token")]
    assert same(resumed.heads, train(Context(models=shared), folder).heads)


def test_other_settings_do_not_take_up_a_training(
    shared: Models, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "KEEP_SECONDS", 0.0)
    kept = Kept()
    train(kept.context(shared), folder, texts=CYCLE)
    for change in ({"seed": 1}, {"learning_rate": 0.03}, {"texts": ("badc" * 90,)}, {"layers": 2}):
        units: list[str] = []
        listening = kept.context(shared, lambda done, total, unit, _, units=units: units.append(unit))
        train(listening, folder, **{"texts": CYCLE} | change)
        assert units.count("step") == 60


def test_losses_are_told_as_it_goes_on(shared: Models, folder: Path) -> None:
    told: list[str] = []
    train(Context(models=shared, on_text=told.append), folder, texts=CYCLE)
    assert len(told) == 20
    assert told[-1].startswith("step 60 of 60: loss ")
    losses = [float(line.partition("held out ")[2]) for line in told]
    assert losses[-1] < losses[0] / 4


def test_a_cancel_takes_effect_between_two_tokens_and_between_two_steps(shared: Models, folder: Path) -> None:
    for unit in ("token", "step", "text"):
        seen: list[str] = []
        inputs = {"texts": CYCLE} if unit == "text" else {}
        ctx = Context(
            models=shared,
            on_progress=lambda done, total, unit, _, seen=seen: seen.append(unit),
            cancelled=lambda seen=seen, unit=unit: seen.count(unit) == 2,
        )
        with pytest.raises(Cancelled):
            train(ctx, folder, **inputs)
        assert seen.count(unit) == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"texts": ("a",)}, "no text has two tokens"),
        ({"texts": ("ab",)}, "need two texts at least"),
        ({"texts": ("ab", "cd")}, "no token follows the next in any text"),
        ({"texts": ("abcdef", "ab")}, "in the texts that heads are tried on, no token follows the next"),
        ({"prompts": ("a",)}, "need two texts at least"),
        ({"heads": 16, "batch": 4096, "tokens": 262144}, "17,179,869,184, but 268,435,456 at most"),
        ({"prompts": ("a " * 600, "b")}, "don't fit into the model's context of 1024"),
    ],
)
def test_too_little_or_too_much_is_refused(ctx: Context, folder: Path, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        train(ctx, folder, **inputs)
    assert error.value.hint
    if "two texts" in message:
        assert error.value.input == next(iter(inputs))


def test_what_would_fill_the_memory_is_refused_before_a_run() -> None:
    largest = {"heads": 4, "batch": 256, "tokens": 262144}
    MedusaTrain.check_inputs(largest)
    for change in ({"heads": 5}, {"batch": 257}):
        with pytest.raises(InputError, match="heads · batch · tokens logits") as error:
            MedusaTrain.check_inputs(largest | change)
        assert error.value.hint == "lower batch, tokens or heads"
    MedusaTrain.check_inputs({"heads": 16, "batch": 4096})  # tokens are linked, and not known yet


def test_a_single_prompt_is_refused_before_anything_is_written(shared: Models, folder: Path) -> None:
    units: list[str] = []
    with pytest.raises(InputError, match="need two texts at least") as error:
        train(Context(models=shared, on_progress=lambda *given: units.append(given[2])), folder, prompts=("a",))
    assert (units, error.value.input) == ([], "prompts")
    MedusaTrain.check_inputs({"texts": ("a long text",), "prompts": ("a",)})  # it may be read in several pieces
    MedusaTrain.check_inputs({"prompts": ("a",)})  # texts are linked
    MedusaTrain.check_inputs({"texts": (), "prompts": ()})  # the model is asked about topics


def test_a_head_with_nothing_to_guess_does_not_count_in_the_loss(ctx: Context, folder: Path) -> None:
    texts = ("abc", "bcd") * 10  # two predicted tokens each, so that only the first head has one to guess
    one, three = (train(ctx, folder, texts=texts, heads=heads, steps=3) for heads in (1, 3))
    assert three.loss == pytest.approx(one.loss, rel=1e-4)
    assert one.loss > 0.1


@pytest.mark.parametrize("limit", [{"CHUNK": 7}, {"MOST_LOGITS": 200}])
def test_the_loss_does_not_depend_on_how_many_states_are_measured_at_a_time(
    ctx: Context, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int]
) -> None:
    texts = (*CYCLE, "a red fish on the beach, aaaaaaaaaaaa")
    at_once = train(ctx, folder, texts=texts, steps=5)
    for name, value in limit.items():
        monkeypatch.setattr(training, name, value)
    sizes = measured_sizes(monkeypatch)
    in_parts = train(ctx, folder, texts=texts, steps=5)
    assert in_parts.loss == pytest.approx(at_once.loss, rel=1e-5)
    assert in_parts.tokens_per_pass == at_once.tokens_per_pass
    assert max(sizes) <= 8


def test_the_loss_is_measured_on_so_many_states_at_most(
    ctx: Context, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MEASURED", 20)
    sizes = measured_sizes(monkeypatch)
    train(ctx, folder, texts=("abcdefgh" * 20, "abcdefg" * 5), steps=1)  # the second has 33 to measure
    assert sizes == [17, 17]  # every other one, as the step ends and at the end


def measured_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many states the loss is measured on at a time, from now on."""
    sizes: list[int] = []
    whole = training.transformed

    def transformed(hidden: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            sizes.append(len(hidden))
        return whole(hidden, weights, biases)

    monkeypatch.setattr(training, "transformed", transformed)
    return sizes


@pytest.mark.parametrize("names_end", ["model", "tokenizer"])
def test_answers_are_what_transformers_writes(ctx: Context, folder: Path, names_end: str) -> None:
    """Batched with others of different lengths, each answer is the model's own, up to its end."""
    model, tokenizer = llm = loaded(ctx, folder)
    reference, prompts = LLMLoad(source=str(folder)).run(ctx), ["ab", "the red fish", "x"]
    end = tokenizer.convert_tokens_to_ids("e")
    before = model.generation_config.eos_token_id, tokenizer.eos_token
    if names_end == "model":
        model.generation_config.eos_token_id = end
    else:
        model.generation_config.eos_token_id, tokenizer.eos_token = None, "e"
    try:
        examples = own_answers(ctx, reference, llm, prompts, length=20, temperature=0, seed=0)
        start = 0
        for prompt, stop in zip(prompts, examples.ends.tolist(), strict=True):
            ids = tokenizer(f"user {prompt} ", return_tensors="pt").input_ids
            plain = model.generate(ids, do_sample=False, max_new_tokens=20, pad_token_id=0, eos_token_id=end)[
                0, ids.shape[1] :
            ].tolist()
            if end in plain:
                plain = plain[: plain.index(end) + 1]
            assert examples.tokens[start:stop].tolist() == plain
            start = stop
    finally:
        model.generation_config.eos_token_id, tokenizer.eos_token = before
    assert start == len(examples.tokens) == len(examples.states)
    assert (model.get_output_embeddings()(examples.states.float()).argmax(-1) == examples.tokens).double().mean() > 0.9


def test_answers_are_drawn_as_the_temperature_says(ctx: Context, folder: Path) -> None:
    llm, reference = loaded(ctx, folder), LLMLoad(source=str(folder)).run(ctx)
    before = torch.random.get_rng_state()
    drawn = own_answers(ctx, reference, llm, ["a"] * 400, length=1, temperature=1.0, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    ids = llm.tokenizer("user a ", return_tensors="pt").input_ids
    chances = llm.model(ids).logits[0, -1].softmax(-1)
    found = drawn.tokens.bincount(minlength=len(chances)) / 400
    assert (found - chances).abs().max() < 0.08


def test_states_of_texts_are_those_that_their_tokens_are_predicted_from(ctx: Context, folder: Path) -> None:
    model, tokenizer = llm = loaded(ctx, folder)
    examples = from_texts(ctx, llm, ["abc", "d", "ba"])
    assert examples.ends.tolist() == [2, 3]
    ids = tokenizer("abc", return_tensors="pt").input_ids
    assert examples.tokens.tolist() == [*ids[0, 1:].tolist(), *tokenizer("a")["input_ids"]]
    logits = model.get_output_embeddings()(examples.states.float())[:2]
    torch.testing.assert_close(logits, model(ids).logits[0, :-1], atol=0.1, rtol=0.05)


def some(*lengths: int) -> Examples:
    total = sum(lengths)
    return Examples(torch.arange(total) * 10, torch.arange(total)[:, None].bfloat16(), torch.tensor(lengths).cumsum(0))


def test_no_head_learns_what_is_in_the_next_text() -> None:
    outside = OUTSIDE
    wanted = targets(some(3, 2), torch.tensor([10, 20, 40]), 2)
    assert wanted.tolist() == [[0, 1], [1, outside], [outside] * 2, [2, outside], [outside] * 2]


def test_every_tenth_text_is_held_out() -> None:
    learnt, held_out = divided(joined([some(*range(1, 12)), some(5)]))
    assert held_out.ends.tolist() == [10]
    assert held_out.tokens.tolist() == [10 * at for at in range(45, 55)]
    assert learnt.ends.diff().tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 11, 5]
    assert [len(part.ends) for part in divided(some(2, 2, 2))] == [2, 1]


def test_the_heads_choose_from_the_commonest_tokens() -> None:
    tokens = torch.tensor([5, 5, 9, 2, 2, 7, 2])
    assert commonest(tokens, 2).tolist() == [2, 5]
    assert commonest(tokens, 3).tolist() == [2, 5, 7]
    assert commonest(tokens, 100).tolist() == [2, 5, 7, 9]


def test_a_head_s_accuracy_counts_where_those_before_it_are_right() -> None:
    ranks = torch.tensor([[0, 0], [0, 1], [1, 0], [-1, 0]])
    first, second = accuracies(ranks)
    assert first[:3] == (0.5, 0.25, 0.0)
    assert second[:2] == pytest.approx((2 / 3, 1 / 3))


def test_passes_are_counted_as_if_the_text_had_been_written() -> None:
    by_rank = ((0.9, 0.1), (0.5, 0.2), (0.4, 0.1))

    def per_pass(ranks: list[list[int]], size: int) -> float:
        return tokens_per_pass(by_rank, torch.tensor(ranks), torch.tensor([len(ranks)]), size)

    ranks = [[0, 0, -1], [0, 0, 0], [0, 0, 0], [-1, 0, 0], [1, 0, -1], [0, -1, -1], [-1, -1, -1]]
    assert per_pass(ranks, 2) == 7 / 5  # 1 of the prompt's pass, then 3, 1, 1, 2
    assert per_pass(ranks, 100) == 7 / 4  # 1, 3, 1, 3


def test_topics_are_different_and_drawn_with_a_seed() -> None:
    assert len(set(topics(1500, 0))) == 1500
    assert topics(20, 1) == topics(40, 1)[:20] != topics(20, 2)
    assert not any("{" in prompt for prompt in topics(1500, 0))
    with pytest.raises(ValueError, match="topics, not 100000"):
        topics(100_000, 0)
