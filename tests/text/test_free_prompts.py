"""Prompts for image models that read free text, written by a tiny model that babbles."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError
from engine.models import Models
from engine.node import Context
from engine.values import Message
from nodes.text import writing
from nodes.text.free_prompts import Wish, avoided, finished, prompt_chat
from nodes.text.nodes import LLMLoad, PromptWriter, WrittenPrompts
from tests.text.conftest import scribe

STYLE = "watercolour, soft light"
FOXES = ("a red fox", "a fox and a crow")
ODD = 'a "red" fox (old) + co. \\ ü 🦊'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scribe(tmp_path_factory.mktemp("scribe"))


def written(ctx: Context, folder: Path, **inputs: Any) -> WrittenPrompts:
    llm = LLMLoad(source=str(folder)).run(ctx)
    return PromptWriter(llm=llm, **{"theme": "dusk", "max_new_tokens": 40, "temperature": 1.5} | inputs).run(ctx)


def test_each_prompt_begins_with_the_next_subject_and_ends_with_the_style(ctx: Context, folder: Path) -> None:
    prompts = written(ctx, folder, subjects=FOXES, style=STYLE, count=3, max_new_tokens=80).prompts
    assert len(prompts) == 3
    for prompt, subject in zip(prompts, (*FOXES, FOXES[0]), strict=True):
        assert prompt.startswith(subject)
        assert prompt.endswith(f", {STYLE}")
    assert prompts[0] != prompts[2], "each has a seed of its own"


def test_a_style_that_is_within_a_word_of_the_prompt_is_added(ctx: Context, folder: Path) -> None:
    (prompt,) = written(ctx, folder, subjects=("a fox drinking soil",), style="oil", count=1).prompts
    assert prompt.endswith(", oil")


@pytest.mark.parametrize(
    ("said", "ended", "prompt"),
    [
        ("a fox in the snow, oil", True, "a fox in the snow, oil"),
        ("oil, a fox in the snow", True, "oil, a fox in the snow, oil"),
        ("a fox in the snow, under the moon", True, "a fox in the snow, under the moon, oil"),
        ("a fox in the snow, under the mo", False, "a fox in the snow, oil"),
    ],
)
def test_the_style_is_there_once_and_only_a_cut_sentence_loses_its_end(
    said: str, ended: bool, prompt: str, ctx: Context, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: Any, __: Any, ___: Any, settings: writing.Settings, tally: Any) -> writing.Answered:
        tally.tokens += settings.max_new_tokens
        return writing.Answered(said, ended)

    monkeypatch.setattr(writing, "write", write)
    assert written(ctx, folder, style="oil", count=1).prompts == (prompt,)


def test_a_prompt_is_one_line_without_what_weighs_words(ctx: Context, folder: Path) -> None:
    for prompt in written(ctx, folder, subjects=FOXES, count=4, temperature=3.0).prompts:
        assert not set(prompt) & set('\n\t"()[]{}<>|*#_\\!?')
        assert ". " not in prompt


def test_a_subject_may_have_any_characters(ctx: Context, folder: Path) -> None:
    llm_reads = written(ctx, folder, subjects=(f"  {ODD}\n", " "), count=2, max_new_tokens=64).prompts
    assert all(prompt.startswith(ODD) for prompt in llm_reads)


def test_without_a_subject_the_model_chooses(ctx: Context, folder: Path) -> None:
    (prompt,) = written(ctx, folder, count=1, max_new_tokens=80).prompts
    assert prompt[0].isalpha()


def test_equal_seeds_write_equal_prompts_and_the_next_seed_the_next_one(ctx: Context, folder: Path) -> None:
    one, again, next_ = (written(ctx, folder, count=2, seed=seed).prompts for seed in (2**64 - 2, 2**64 - 2, 2**64 - 1))
    assert one == again
    assert one[1] == next_[0]


def test_what_is_written_is_streamed_as_a_list_with_one_progress(shared: Models, folder: Path) -> None:
    heard: list[str] = []
    done: list[tuple[int, int, str]] = []
    ctx = Context(models=shared, on_text=heard.append, on_progress=lambda *at: done.append(at[:3]))
    prompts = written(ctx, folder, subjects=FOXES, style=STYLE, count=2).prompts
    lines = "".join(heard).splitlines()
    assert len(lines) == len(prompts) == 2
    for line, start in zip(lines, ("1. a red fox", "2. a fox and a crow"), strict=True):
        assert line.startswith(start)
        assert line.endswith(f", {STYLE}")
    tokens = [(at, of) for at, of, unit in done if unit == "token"]
    assert {of for _, of in tokens} == {80}
    assert all(before[0] < after[0] for before, after in pairwise(tokens))


def test_a_negative_prompt_has_a_flaw_of_each_kind(ctx: Context, folder: Path) -> None:
    assert written(ctx, folder, count=1).negative_prompt == ""
    flaws = written(ctx, folder, count=1, negative=True).negative_prompt.split(", ")
    assert len(flaws) == len(set(flaws)) == 5
    assert all(flaw.isascii() and flaw.replace(" ", "").isalpha() for flaw in flaws)


def test_a_negative_prompt_has_nothing_that_is_wanted() -> None:
    wish = Wish("a frame of gold", "Overexposed, flat light", "")
    answer = "blurred, flat light, overexposed, frame, text"
    assert avoided(answer, wish, ["a text on a wall"]) == "blurred"


def test_the_model_is_told_what_is_wanted_and_shown_examples() -> None:
    first, *examples, last = prompt_chat(Wish("dusk", STYLE, "Write prompts."), "a red fox")
    assert first["role"] == "user", "some models have no place for a system prompt"
    assert first["content"].startswith(f"Write prompts. All pictures are in this style: {STYLE}.\n\nTheme: ")
    assert len(examples) == 7
    assert last == {"role": "user", "content": "Theme: dusk\nSubject: a red fox"}


def test_messages_take_the_place_of_the_examples() -> None:
    said: tuple[Message, ...] = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "dawn"},
        {"role": "assistant", "content": "a hill at dawn"},
    )
    system, first, answer, last = prompt_chat(Wish("dusk", "", "Write prompts.", said), "")
    assert (system, answer) == (said[0], said[2])
    assert first["content"] == "Write prompts.\n\ndawn"
    assert last["content"] == "Theme: dusk"


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (
            "a fox in the snow, its breath white in the air, and the wo",
            "a fox in the snow, its breath white in the air",
        ),
        ("a fox in the snow at the end of the lo", "a fox in the snow at the end"),
        ("a fox, running through deep snow and into the fo", "a fox, running through deep snow"),
        ("a fox an", "a fox"),
        (f"a fox {'雪' * 30}\N{REPLACEMENT CHARACTER}", f"a fox {'雪' * 30}"),
    ],
)
def test_a_prompt_that_was_cut_off_has_no_loose_end(text: str, prompt: str) -> None:
    assert finished(text, "a fox", was_cut=True) == prompt


def test_a_prompt_that_came_to_its_end_is_left_whole() -> None:
    assert finished("a fox in the snow, running to.", "a fox", was_cut=False) == "a fox in the snow, running to"


def test_more_prompts_than_subjects_need_chance(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match="temperature of 0 writes the same about a subject again"):
        PromptWriter.check_inputs({"temperature": 0.0, "subjects": FOXES, "count": 3})
    PromptWriter.check_inputs({"temperature": 0.0, "count": 3})  # the subjects are linked, and not known yet
    assert len(written(ctx, folder, subjects=FOXES, count=2, temperature=0.0).prompts) == 2


def test_a_theme_that_is_too_long_is_named(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match="tokens and 48 new ones don't fit into the model's context") as caught:
        written(ctx, folder, theme="winter " * 200, max_new_tokens=48)
    assert caught.value.input == "theme"


def test_a_theme_says_something() -> None:
    with pytest.raises(InputError, match="the theme is blank"):
        PromptWriter.check_inputs({"theme": " \n"})
    PromptWriter.check_inputs({})  # it is linked, and not known yet


def test_a_subject_that_is_too_long_is_an_error(ctx: Context, folder: Path) -> None:
    with pytest.raises(InputError, match=r"the subject “a very .* old fox” has more tokens than a prompt"):
        written(ctx, folder, subjects=("a very " * 10 + "old fox",), count=1)
