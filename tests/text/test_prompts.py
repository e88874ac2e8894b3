"""A picture prompt has one word of each slot that the image model knows, and what is wrong with others is told."""

from __future__ import annotations

import pytest

from engine.values import Vocabulary
from nodes.text.prompts import conversation, faults, objection

SLOTS = {
    "subject": ("fish", "cat", "snail"),
    "colour": ("red", "teal"),
    "background": ("beach", "starry night"),
    "style": ("crayon", "neon"),
}
FREE = Vocabulary(SLOTS, {})
BOUND = Vocabulary(SLOTS, {"subject": ("snail",), "style": ("neon",)})


@pytest.mark.parametrize(
    "text",
    [
        "a drawing of a red fish in the beach in crayon style",
        "A teal CAT, on the starry night: neon!",
        "in neon style, a picture of one red snail by the beach",
    ],
)
def test_a_prompt_with_one_word_of_each_slot_is_good(text: str) -> None:
    assert faults(text, FREE) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a fish on the beach in crayon style", "it names no colour: choose red or teal"),
        ("a red teal fish on the beach in crayon style", "it names 2 colours (red, teal): choose one"),
        ("a red fish by the sea in crayon style", "it names no background: choose beach or starry night"),
        ("a red fish by the sea in crayon style", "sea cannot be drawn"),
        ("a red catfish on the beach in crayon style", "it names no subject: choose fish, cat or snail"),
        ("", "it names no style: choose crayon or neon"),
    ],
)
def test_what_is_wrong_is_said(text: str, reason: str) -> None:
    assert reason in faults(text, FREE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a red fish on the beach in neon style", "it lacks the subject snail"),
        ("a red snail and a fish on the beach in neon style", "it names the subject fish besides snail"),
        ("a red snail on the beach in crayon style", "it lacks the style neon"),
    ],
)
def test_required_words_are_required(text: str, reason: str) -> None:
    assert reason in faults(text, BOUND)
    assert faults("a red snail on the beach in neon style", BOUND) == []


@pytest.mark.parametrize("vocabulary", [FREE, BOUND])
@pytest.mark.parametrize("seed", range(5))
def test_the_examples_obey_the_rules_that_they_teach(vocabulary: Vocabulary, seed: int) -> None:
    system, *turns, last = conversation("a storm", vocabulary, seed)
    assert system["role"] == "system"
    assert last == {"role": "user", "content": "Theme: a storm"}
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    assert len(answers) >= 5
    assert all(faults(answer, vocabulary) == [] for answer in answers)


def test_another_seed_shows_other_examples() -> None:
    assert conversation("a storm", FREE, 0) == conversation("a storm", FREE, 0)
    assert conversation("a storm", FREE, 0) != conversation("a storm", FREE, 1)


def test_a_refused_text_is_answered_with_the_reason_and_the_theme() -> None:
    refused, answer = objection("a cat", ["it names no colour: choose red or teal"], "a storm")
    assert refused == {"role": "assistant", "content": "a cat"}
    assert answer["content"] == "That cannot be drawn: it names no colour: choose red or teal.\nTheme: a storm"
