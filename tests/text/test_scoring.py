"""A tree scores what texts would score one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from engine.errors import InputError
from nodes.text import scoring
from nodes.text.models import LoadedModel
from nodes.text.scoring import Scorer
from tests.text.conftest import babbler, tiny

OPENING = "say hello to the old fish"
ENDINGS = [" in red", " in red and teal", " in a boat", "", " of a king", "y smell"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return babbler(tmp_path_factory.mktemp("babbler"))


def loaded(folder: Path, kind: str = "llama") -> LoadedModel:
    return LoadedModel(tiny(kind), AutoTokenizer.from_pretrained(folder))


@torch.inference_mode()
def one_by_one(llm: LoadedModel, opening: str, ending: str) -> float:
    """The log-likelihood of an ending, by plain passes over the whole text."""
    before, ids = (llm.tokenizer(text, return_tensors="pt").input_ids for text in (opening, opening + ending))
    found = llm.model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[before.shape[1] - 1 :]
    return float(found.sum())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "gemma3_text"])
@pytest.mark.parametrize("tree_tokens", [512, 12])
def test_endings_score_as_they_would_alone(
    folder: Path, kind: str, tree_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TREE_TOKENS", tree_tokens)
    llm = loaded(folder, kind)
    expected = [one_by_one(llm, OPENING, ending) for ending in ENDINGS]
    scorer = Scorer(llm, OPENING)
    assert scorer.log_likelihoods(ENDINGS) == pytest.approx(expected, abs=1e-3)
    assert scorer.log_likelihoods(ENDINGS[::-1]) == pytest.approx(expected[::-1], abs=1e-3)


def test_the_opening_is_read_once_and_all_endings_in_one_pass(folder: Path) -> None:
    scorer = Scorer(loaded(folder), OPENING)
    scorer.log_likelihoods(ENDINGS)
    assert scorer.passes == 2
    scorer.log_likelihoods(ENDINGS[:2])
    assert scorer.passes == 3


def test_an_opening_of_one_token_needs_no_pass_of_its_own(folder: Path) -> None:
    llm = loaded(folder)
    scorer = Scorer(llm, "a")
    assert scorer.log_likelihoods(["b", " c"]) == pytest.approx([one_by_one(llm, "a", end) for end in ("b", " c")])
    assert scorer.passes == 1


def test_each_pass_is_announced_and_may_be_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TREE_TOKENS", 12)
    before: list[int] = []

    def announced() -> None:
        before.append(scorer.passes)
        if len(before) == 3:
            raise InterruptedError

    scorer = Scorer(loaded(folder), OPENING, announced)
    with pytest.raises(InterruptedError):
        scorer.log_likelihoods(ENDINGS)
    assert before == [0, 1, 2]
    assert scorer.log_likelihoods(ENDINGS) == Scorer(loaded(folder), OPENING).log_likelihoods(ENDINGS)


def test_words_without_tokens_are_unknown(folder: Path) -> None:
    scorer = Scorer(loaded(folder), OPENING)
    assert scorer.knows("of ", "fish")
    assert not scorer.knows("of ", "")
    assert not scorer.knows("of ", "§§")


def test_a_text_longer_than_the_context_is_refused_before_a_pass(folder: Path) -> None:
    scorer = Scorer(loaded(folder), "fish " * 25)
    with pytest.raises(InputError, match="129 tokens don't fit into the model's context of 128"):
        scorer.log_likelihoods(["a", "abcd"])
    assert scorer.passes == 0


def test_a_model_that_reads_no_trees_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="forgets tokens as it reads on"):
        Scorer(loaded(folder, "lfm2"), OPENING)
