"""An answer's text as its tokens come: shown in pieces, and ended by stop texts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import copy
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.values import LanguageModel
from nodes.text.answer import Answer
from tests.text.conftest import bytewise

STORY = "  a snail 🐌👩‍👩‍👧 at « la mer », 海\n\n  the end.\n "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One with a token for each byte."""
    return AutoTokenizer.from_pretrained(bytewise(tmp_path_factory.mktemp("bytes")))


def spaced() -> Any:
    """A tokenizer that marks spaces and leaves out that of the first token, as those of SentencePiece do."""
    from tokenizers import Tokenizer, decoders, models

    tokens = ["<s>", "</s>", "▁so", "▁a", "▁fish", "y", "a"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def written(
    tokenizer: Any, tokens: Sequence[int], stops: Sequence[str] = (), *, asked: str = "q"
) -> tuple[str, list[str], int]:
    """The text, the pieces that it is shown in, and how many tokens it took until it was over."""
    ids = torch.tensor([tokens_of(tokenizer, asked)], dtype=torch.long)
    answer, pieces = Answer(tokenizer, ids, stops), []
    for token in tokens:
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        is_over = bool(answer(ids))
        pieces.append(answer.news())
        if is_over:
            break
    return answer.text(), [*pieces, answer.rest()], len(answer.tokens)


def test_characters_are_shown_whole_and_the_pieces_are_the_text(tokenizer: Any) -> None:
    text, pieces, _ = written(tokenizer, tokens_of(tokenizer, STORY))
    assert text == STORY.strip()
    assert "".join(pieces) == text
    assert " 🐌" in pieces


@pytest.mark.parametrize("seed", range(20))
def test_whatever_bytes_are_written_the_pieces_are_the_text(tokenizer: Any, seed: int) -> None:
    draw = random.Random(seed)
    tokens = [draw.choice([*range(4, len(tokenizer)), *tokens_of(tokenizer, "🐌 \n")]) for _ in range(60)]
    text, pieces, _ = written(tokenizer, tokens)
    assert text == tokenizer.decode(tokens, skip_special_tokens=True).strip()
    assert "".join(pieces) == text


def test_a_space_between_words_is_shown_with_the_word_after_it() -> None:
    tokenizer = spaced()
    tokens = [2, 3, 0, 4, 5, 1]
    text, pieces, _ = written(tokenizer, tokens, asked="")
    assert (text, pieces) == ("so a fishy", ["so", " a", "", " fish", "y", "", ""])


def test_what_continues_a_text_keeps_the_space_between_them() -> None:
    answer = Answer(spaced(), torch.tensor([[0, 2]]), (), continues=True)
    answer(torch.tensor([[0, 2, 3, 4]]))
    assert (answer.news(), answer.text()) == (" a fish", " a fish")


def test_an_exact_answer_keeps_the_space_at_its_ends(tokenizer: Any) -> None:
    answer = Answer(tokenizer, torch.tensor([[5]]), (), exact=True)
    answer(torch.tensor([[5, *tokens_of(tokenizer, STORY)]]))
    assert (answer.news(), answer.text()) == (STORY, STORY)


def test_an_exact_answer_begins_with_its_space_after_a_special_token_too() -> None:
    answer = Answer(spaced(), torch.tensor([[0]]), (), exact=True)
    answer(torch.tensor([[0, 3, 4, 1]]))
    assert (answer.news(), answer.text()) == (" a fish", " a fish")


def test_an_exact_answer_is_not_tidied_up(tokenizer: Any) -> None:
    tidy = copy(tokenizer)
    tidy.clean_up_tokenization_spaces = True
    answer = Answer(tidy, torch.tensor([[5]]), (), exact=True)
    answer(torch.tensor([[5, *tokens_of(tokenizer, "a , b .")]]))
    assert answer.text() == "a , b ."


@pytest.mark.parametrize(
    ("stops", "text", "count"),
    [
        (["snail"], "a", 9),
        (["mer ", "🐌"], "a snail", 14),
        (["\n\n"], "a snail 🐌👩‍👩‍👧 at « la mer », 海", None),
        (["s", "snail"], "a", 5),
        (["la mers", "at a"], STORY.strip(), None),
        (["海", "mer », 海"], "a snail 🐌👩‍👩‍👧 at « la", None),
    ],
)
def test_a_stop_ends_the_text_and_no_part_of_it_is_shown(
    tokenizer: Any, stops: list[str], text: str, count: int | None
) -> None:
    found, pieces, took = written(tokenizer, tokens_of(tokenizer, STORY), stops)
    assert found == text
    assert "".join(pieces) == text
    assert count is None or took == count


def test_a_stop_that_the_prompt_has_or_begins_ends_nothing(tokenizer: Any) -> None:
    tokens = tokens_of(tokenizer, "\nab\n\nc")
    assert written(tokenizer, tokens, ["\n\n"], asked="q\n\nq\n")[:1] == ("ab",)
    assert written(tokenizer, tokens, ["\n\n"], asked="q\n\nq\n")[2] == 5


def test_a_special_token_may_be_a_stop(tokenizer: Any) -> None:
    tokens = [*tokens_of(tokenizer, "ab"), tokenizer.eos_token_id, *tokens_of(tokenizer, "cd")]
    assert written(tokenizer, tokens)[0] == "abcd"
    assert written(tokenizer, tokens, ["</s>"])[::2] == ("ab", 3)


@pytest.mark.full
def test_smollm2_shows_what_it_writes(smollm2: LanguageModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2.path)
    tokens = tokens_of(tokenizer, STORY)
    assert len(tokens_of(tokenizer, "🐌")) > 1
    text, pieces, _ = written(tokenizer, [*tokens, tokenizer.eos_token_id])
    assert text == STORY.strip()
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
