"""A picture prompt has one word from each slot that the image model knows; the faults of any other are named."""

from __future__ import annotations

import pytest

from engine.values import Vocabulary
from nodes.text.prompts import choice_chat, faults, open_slots, retry_chat, sentence_chat

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
def test_faults_are_named(text: str, reason: str) -> None:
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


def test_a_repeated_word_is_a_fault() -> None:
    text = "a red fish on the beach in the beach in crayon style"
    assert faults(text, FREE) == ["it names 2 backgrounds (beach, beach): choose one"]


def test_without_lists_of_words_only_the_required_ones_matter() -> None:
    bound = Vocabulary({}, {"subject": ("sks dog",)})
    assert faults("a photograph of a sks dog surfing", bound) == []
    assert faults("a photograph of a sks", bound) == ["it lacks the subject sks dog"]


def test_words_are_chosen_for_slots_without_required_words() -> None:
    assert list(open_slots(FREE)) == ["colour", "subject", "background", "style"]
    assert open_slots(BOUND) == {"colour": ("red", "teal"), "background": ("beach", "starry night")}


@pytest.mark.parametrize("listed", [False, True])
def test_the_question_for_a_word_follows_an_example_for_each(listed: bool) -> None:
    system, *examples, question = choice_chat("a storm", "subject", SLOTS["subject"], 0, listed=listed)
    assert "fish, cat, snail" in system["content"]
    assert {turn["content"] for turn in examples if turn["role"] == "assistant"} == {"fish", "cat", "snail"}
    assert question["content"].startswith("a storm\n")
    assert ("fish, cat or snail?" in question["content"]) == listed


@pytest.mark.parametrize("vocabulary", [FREE, BOUND, Vocabulary({}, {"subject": ("snail", "cat")})])
@pytest.mark.parametrize("seed", range(5))
def test_the_examples_obey_their_own_rules(vocabulary: Vocabulary, seed: int) -> None:
    chosen = {slot: words[0] for slot, words in open_slots(vocabulary).items()}
    system, *turns, last = sentence_chat(chosen, vocabulary, seed)
    assert system["role"] == "system"
    assert all(word in last["content"] for word in chosen.values())
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    assert len(answers) >= 4
    assert all(faults(answer, vocabulary) == [] for answer in answers)


@pytest.mark.parametrize("seed", range(3))
def test_the_examples_go_through_the_words(seed: int) -> None:
    chosen = {slot: words[0] for slot, words in SLOTS.items()}
    turns = sentence_chat(chosen, FREE, seed)[1:-1]
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    assert len(set(answers)) == len(answers)
    assert all(any(word in answer for answer in answers) for words in SLOTS.values() for word in words)


def test_words_are_phrased_as_in_the_vocabulary() -> None:
    vocabulary = Vocabulary(SLOTS, {}, {"beach": "in front of a beach", "starry night": "at starry night"})
    chosen = {slot: words[0] for slot, words in SLOTS.items()}
    *turns, last = sentence_chat(chosen, vocabulary, 0)
    assert "in front of a beach" in last["content"]
    answers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    assert all("in front of a beach" in answer or "at starry night" in answer for answer in answers)
    assert all(faults(answer, vocabulary) == [] for answer in answers)


def test_theme_and_seed_order_the_examples() -> None:
    words = ("red", "teal", "blue", "pink", "green")
    chat = choice_chat("a storm", "colour", words, 0)
    assert chat == choice_chat("a storm", "colour", words, 0)
    assert chat != choice_chat("a storm", "colour", words, 1)
    assert chat[:-1] != choice_chat("a calm", "colour", words, 0)[:-1]


def test_a_rejected_answer_is_followed_by_the_reason_and_the_question() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}]
    *before, rejected, more = retry_chat(chat, "a cat", ["it names no colour: choose red or teal"])
    assert before == chat
    assert rejected == {"role": "assistant", "content": "a cat"}
    assert more["content"] == "That cannot be drawn: it names no colour: choose red or teal.\nWhich?"
