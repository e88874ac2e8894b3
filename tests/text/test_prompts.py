"""A picture prompt has one word from each slot that the image model knows; the faults of any other are named."""

from __future__ import annotations

import pytest

from engine.values import Vocabulary
from nodes.text.prompts import faults, mentioned, open_slots, sayable, sentence

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


def test_a_word_within_another_of_its_slot_does_not_count() -> None:
    vocabulary = Vocabulary({"background": ("night", "starry night")})
    assert faults("at starry night", vocabulary) == []
    assert faults("at night, at starry night", vocabulary) == [
        "it names 2 backgrounds (night, starry night): choose one"
    ]


@pytest.mark.parametrize(
    ("theme", "words"),
    [
        ("two cats", ["cat"]),
        ("The CAT'S meow", ["cat"]),
        ("purple skies and beaches", ["sky", "beach"]),
        ("a wolf among wolves", ["wolf"]),
        ("a watercolor", ["watercolour"]),
        ("roses are red, cats are red", ["roses", "red", "cat"]),
        ("one rose", ["roses"]),
        ("starry nights", ["starry night"]),
        ("at night", ["night"]),
        ("catfish, scatter, reddish", []),
        ("", []),
    ],
)
def test_words_are_found_in_their_simple_forms(theme: str, words: list[str]) -> None:
    known = ("cat", "sky", "beach", "wolf", "watercolour", "red", "roses", "night", "starry night")
    assert mentioned(theme, known) == words


def test_a_word_is_itself_before_it_is_a_form_of_another() -> None:
    assert mentioned("skies", ("sky", "skies")) == ["skies"]
    assert mentioned("skies", ("skies", "sky")) == ["skies"]


def test_a_sentence_has_a_word_from_each_slot_and_no_faults() -> None:
    chosen = {"background": "beach", "style": "crayon", "colour": "red", "subject": "cat"}
    assert sentence(chosen, FREE) == "a red cat in the beach in crayon style"
    assert faults(sentence(chosen, FREE), FREE) == []
    assert sentence(chosen | {"colour": "orange"}, Vocabulary(SLOTS | {"colour": ("orange",)})).startswith(
        "an orange cat"
    )


def test_required_words_are_in_the_sentence() -> None:
    assert sentence({"colour": "red", "background": "beach"}, BOUND) == "a red snail in the beach in neon style"
    both = Vocabulary({}, {"subject": ("snail", "cat")})
    assert sentence({}, both) == "a snail and cat"


def test_words_are_phrased_as_in_the_vocabulary() -> None:
    vocabulary = Vocabulary(SLOTS, {}, {"beach": "in front of a beach"})
    chosen = {slot: words[0] for slot, words in SLOTS.items()}
    assert sentence(chosen, vocabulary) == "a red fish in front of a beach in crayon style"
    assert faults(sentence(chosen, vocabulary), vocabulary) == []


def test_slots_of_other_names_and_without_a_subject_have_a_place_too() -> None:
    vocabulary = Vocabulary({"hat": ("crown",), "colour": ("red",)})
    assert sentence({"hat": "crown", "colour": "red"}, vocabulary) == "a red drawing with crown"
    assert faults("a red drawing with crown", vocabulary) == []


def test_a_phrase_must_name_its_word_and_none_of_another_slot() -> None:
    vocabulary = Vocabulary(
        {"colour": ("blue",), "background": ("sky", "sea", "wall")}, {}, {"sky": "in a blue sky", "sea": "in the water"}
    )
    assert [word for word in vocabulary.slots["background"] if sayable("background", word, vocabulary)] == ["wall"]
