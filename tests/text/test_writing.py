"""What decoding a chat comes to, on a tiny model: where its text ends, and what belongs to it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer, Gemma3Config, MambaConfig

from engine.errors import InputError
from engine.node import Context
from engine.values import Message
from nodes.text.chat import check_room
from nodes.text.decoding.loop import Tally
from nodes.text.grammar import pattern_grammar
from nodes.text.models import LoadedModel
from nodes.text.writing import Answered, Settings, write
from tests.text.conftest import babbler, scribe

CHAT: list[Message] = [{"role": "user", "content": "say hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scribe(tmp_path_factory.mktemp("scribe"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> LoadedModel:
    return opened(folder)


def opened(folder: Path) -> LoadedModel:
    from transformers import AutoModelForCausalLM

    return LoadedModel(AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))


def kept_to(llm: LoadedModel, pattern: str, **settings: Any) -> Answered:
    return write(Context(), llm, CHAT, Settings(grammar=pattern_grammar(pattern), **settings), Tally())


def test_it_is_told_whether_the_last_token_ends_the_text(llm: LoadedModel) -> None:
    assert kept_to(llm, "abc", max_new_tokens=4) == ("abc", True)
    assert kept_to(llm, "abc", max_new_tokens=3) == ("abc", False)
    assert kept_to(llm, "abc", max_new_tokens=2, may_be_cut=True) == ("ab", False)


@pytest.mark.parametrize("text", [" aaa\n", "\n", "a ", " a . , b"])
def test_what_keeps_to_a_pattern_keeps_the_space_at_its_ends(llm: LoadedModel, text: str) -> None:
    pieces: list[str] = []
    settings = Settings(grammar=pattern_grammar(text.replace(".", "[.]")))
    answer = write(Context(on_text=pieces.append), llm, CHAT, settings, Tally())
    assert answer.text == "".join(pieces) == text


def test_a_text_without_a_grammar_ends_where_the_tokenizer_ends_one(tmp_path: Path) -> None:
    """Where the model's configuration names no end, with a grammar and without."""
    llm = opened(babbler(tmp_path))
    llm.model.generation_config.eos_token_id = None
    settings = Settings(max_new_tokens=24, method="greedy")
    llm.tokenizer.eos_token = None
    whole = write(Context(), llm, CHAT, settings, Tally()).text
    end = next(letter for letter in whole if letter not in (whole[0], " "))
    llm.tokenizer.eos_token = end
    tally = Tally()
    answer = write(Context(), llm, CHAT, settings, tally)
    assert answer == (whole[: whole.index(end) + 1], True)
    assert tally.tokens < 24


def test_the_room_for_a_text_is_that_of_the_models_decoder() -> None:
    config = Gemma3Config(text_config={"max_position_embeddings": 77})
    llm = LoadedModel(SimpleNamespace(config=config), None)
    assert llm.room == 77
    check_room(llm, 70, 7)
    with pytest.raises(InputError, match="70 tokens and 8 new ones don't fit into the model's context of 77"):
        check_room(llm, 70, 8)
    for length, new, named in ((70, 8, "theme"), (8, 70, "max_new_tokens")):
        with pytest.raises(InputError, match="context of 77") as caught:
            check_room(llm, length, new, ("theme", "max_new_tokens"))
        assert (caught.value.input, caught.value.hint) == (named, "shorten theme or lower max_new_tokens")
    assert LoadedModel(SimpleNamespace(config=MambaConfig()), None).room is None
