"""A prompt has the words that a theme names, and else those that it makes likelier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.errors import Cancelled, InputError
from engine.node import Context
from engine.values import LanguageModel, Vocabulary
from nodes.text import prompt_writer, scoring
from nodes.text.models import LoadedModel, language_model
from nodes.text.nodes import LLMLoad
from nodes.text.prompt_writer import write_prompt
from nodes.text.prompts import faults
from nodes.text.writing import Settings
from tests.text.conftest import babbler

SLOTS = {
    "subject": ("fish", "cat", "boat"),
    "colour": ("red", "teal"),
    "background": ("beach", "night"),
    "style": ("crayon", "neon"),
}
FREE = Vocabulary(SLOTS, {}, {"beach": "on a beach", "night": "at night"})


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = babbler(tmp_path_factory.mktemp("babbler"))
    return language_model(Context(), LLMLoad(source=str(folder)).run(Context()))


def written(llm: LoadedModel, theme: str, vocabulary: Vocabulary = FREE, **settings: Any) -> str:
    return write_prompt(Context(), llm, theme, vocabulary, Settings(**settings)).text


class Forgetful(dict[Any, Any]):
    """Remembers nothing beyond its last entry, since opinions change within a test."""

    def __contains__(self, key: object) -> bool:
        return False


@pytest.fixture
def opinions(llm: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Log-likelihoods of words, which tests fill in; "storm teal" is that of teal in themes with a storm."""
    known: dict[str, float] = {}

    class Opinionated:
        passes = 1

        def __init__(self, llm: LoadedModel, opening: str, before_pass: Callable[[], None]) -> None:
            self.opening = opening

        def log_likelihoods(self, endings: Sequence[str]) -> list[float]:
            return [self._likelihood(self.opening + ending, ending.split()[-1]) for ending in endings]

        def _likelihood(self, text: str, word: str) -> float:
            usual = known.get(word, 0.0)
            return known.get(f"storm {word}", usual) if "storm" in text else usual

        def tokens(self, text: str) -> list[int]:
            return list(text.encode())

        def knows(self, before: str, word: str) -> bool:
            return True

    monkeypatch.setattr(prompt_writer, "Scorer", Opinionated)
    monkeypatch.setitem(llm.__dict__, "usual", Forgetful())
    return known


@pytest.mark.parametrize("theme", ["a storm", "Two cats, at night", "fish & boats", "§$%", " \n", "red teal red"])
@pytest.mark.parametrize("temperature", [0, 2.0])
def test_every_theme_gets_a_prompt_without_faults(llm: LoadedModel, theme: str, temperature: float) -> None:
    assert faults(written(llm, theme, temperature=temperature), FREE) == []


def test_what_words_are_usually_worth_is_found_once(llm: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(llm.__dict__, "usual", {})
    first, again, other = (
        write_prompt(Context(), llm, theme, FREE, Settings()) for theme in ("a storm", "a storm", "a calm")
    )
    assert first.text == again.text
    assert first.passes > again.passes == other.passes == 5  # the theme, and the words of each slot


def test_named_words_are_kept_and_the_others_cost_passes(llm: LoadedModel) -> None:
    theme = "two cats on the Beach, a crayon drawing in red"
    prompt = write_prompt(Context(), llm, theme, FREE, Settings())
    assert prompt.text == "a red cat on a beach in crayon style"
    assert prompt.passes == 0
    assert prompt.tokens == len(prompt.text)  # this model's tokens are letters
    assert write_prompt(Context(), llm, "a crayon drawing", FREE, Settings()).passes > 0


def test_of_two_named_words_the_likelier_one_is_kept(llm: LoadedModel, opinions: dict[str, float]) -> None:
    opinions.update({"storm boat": 3, "storm fish": 2, "storm cat": 5})
    assert "boat" in written(llm, "a boat and a fish in the storm")


def test_a_models_favourite_is_taken_only_where_the_theme_speaks_for_it(
    llm: LoadedModel, opinions: dict[str, float]
) -> None:
    opinions.update({"red": -1, "teal": -9, "storm red": -2, "storm teal": -8})
    assert written(llm, "a storm").startswith("a teal ")
    opinions.update({"storm red": -0.5, "storm teal": -9})
    assert written(llm, "a storm").startswith("a red ")


def test_the_seed_varies_words_at_a_temperature(llm: LoadedModel, opinions: dict[str, float]) -> None:
    opinions.update({"storm teal": 1})
    assert {written(llm, "a storm", seed=seed).split()[1] for seed in range(20)} == {"teal"}
    drawn = Counter(written(llm, "a storm", seed=seed, temperature=1, top_p=1).split()[1] for seed in range(200))
    assert 0.6 < drawn["teal"] / 200 < 0.85  # 0.73 of the probability
    assert written(llm, "a storm", seed=7, temperature=1) == written(llm, "a storm", seed=7, temperature=1)


@pytest.mark.parametrize("bound", [{"top_p": 0.7}, {"top_k": 1}, {"min_p": 0.5}])
def test_the_unlikely_can_be_left_out(llm: LoadedModel, opinions: dict[str, float], bound: dict[str, float]) -> None:
    opinions.update({"storm teal": 1})
    drawn = {written(llm, "a storm", seed=seed, temperature=1, **bound).split()[1] for seed in range(30)}
    assert drawn == {"teal"}


def test_with_one_seed_different_themes_are_drawn_differently(llm: LoadedModel, opinions: dict[str, float]) -> None:
    drawn = Counter(written(llm, f"storm {index}", temperature=1).split()[1] for index in range(40))
    assert set(drawn) == {"red", "teal"}


def test_required_words_are_not_chosen(llm: LoadedModel) -> None:
    vocabulary = Vocabulary(SLOTS, {"subject": ("snail",), "style": ("neon",)}, FREE.phrases)
    assert written(llm, "a red cat at night in crayon", vocabulary) == "a red snail at night in neon style"


def test_what_is_decided_is_streamed_slot_by_slot(llm: LoadedModel, opinions: dict[str, float]) -> None:
    opinions.update({"storm teal": 1})
    pieces: list[str] = []
    steps: list[tuple[int, int, str]] = []
    ctx = Context(on_text=pieces.append, on_progress=lambda done, total, unit, _: steps.append((done, total, unit)))
    prompt = write_prompt(ctx, llm, "a cat in the storm", FREE, Settings())
    assert pieces[:2] == ["colour: teal 73%, red 27%\n", "subject: cat (named)\n"]
    assert pieces[-1] == prompt.text
    assert steps == [(done, 4, "word") for done in (1, 2, 3, 4)]


def test_a_cancel_takes_effect_between_slots(llm: LoadedModel) -> None:
    pieces: list[str] = []
    ctx = Context(on_text=pieces.append, cancelled=lambda: bool(pieces))
    with pytest.raises(Cancelled):
        write_prompt(ctx, llm, "a storm", FREE, Settings())
    assert len(pieces) == 1


def test_a_cancel_takes_effect_within_a_slot_and_the_model_can_go_on(
    llm: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "TREE_TOKENS", 12)
    monkeypatch.setitem(llm.__dict__, "usual", {})
    whole = written(llm, "a storm")
    llm.usual.clear()
    pieces: list[str] = []
    steps: list[tuple[int, int]] = []
    ctx = Context(
        on_text=pieces.append,
        on_progress=lambda done, total, *_: steps.append((done, total)),
        cancelled=lambda: len(steps) >= 4,
    )
    with pytest.raises(Cancelled):
        write_prompt(ctx, llm, "a storm", FREE, Settings())
    assert (steps, pieces, llm.usual) == ([(0, 4)] * 4, [], {})
    assert written(llm, "a storm") == whole


def test_what_words_are_usually_worth_is_kept_of_the_latest_slots(
    llm: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(llm.__dict__, "usual", {})
    monkeypatch.setattr(prompt_writer, "_MOST_USUAL", 3)
    written(llm, "a storm")
    kept = [slot for slot, _ in llm.usual]
    assert len(kept) == 3
    written(llm, "a storm", Vocabulary({"mood": ("calm", "wild")}, {}, {"calm": "calm", "wild": "wild"}))
    assert [slot for slot, _ in llm.usual] == [*kept[1:], "mood"]


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (Vocabulary({"colour": ()}), "the vocabulary has no words"),
        (Vocabulary({"colour": ("red", " ")}), "a colour of the vocabulary is blank"),
        (Vocabulary({"colour": ("red", "§")}), "the language model has no tokens for the colour “§”"),
        (
            Vocabulary({"colour": ("red",), "subject": ("red fish",)}),
            "no subject of the vocabulary can be said without naming something else",
        ),
        (
            Vocabulary({"colour": ("red",)}, {"subject": ("red fish",)}),
            "“a red red fish” can't be drawn: it names 2 colours",
        ),
    ],
)
def test_a_vocabulary_that_makes_no_sentence_is_refused(llm: LoadedModel, vocabulary: Vocabulary, message: str) -> None:
    with pytest.raises(InputError, match=message):
        written(llm, "a storm", vocabulary)


def test_a_slot_without_words_is_left_out(llm: LoadedModel) -> None:
    assert written(llm, "a red cat", Vocabulary(SLOTS | {"background": (), "style": ()})) == "a red cat"


def test_a_slot_that_requires_nothing_is_open(llm: LoadedModel) -> None:
    assert written(llm, "a red cat", Vocabulary({"colour": ("red", "teal")}, {"colour": ()})) == "a red drawing"


def test_words_that_cannot_be_said_alone_are_not_chosen(llm: LoadedModel, opinions: dict[str, float]) -> None:
    opinions.update({"storm sky": 9})
    vocabulary = Vocabulary({"colour": ("blue",), "background": ("sky", "wall")}, {}, {"sky": "in a blue sky"})
    assert written(llm, "a storm", vocabulary) == "a blue drawing in the wall"


def test_scores_that_are_no_numbers_are_refused(llm: LoadedModel, opinions: dict[str, float]) -> None:
    opinions.update({"teal": float("nan")})
    with pytest.raises(InputError, match="scores of the colour are no numbers"):
        written(llm, "a storm")


def test_too_long_a_theme_is_refused(llm: LoadedModel) -> None:
    with pytest.raises(InputError, match=r"\d+ tokens don't fit into the model's context of 1024"):
        written(llm, "sea " * 300)


def test_a_model_without_a_chat_format_writes_too(llm: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = written(llm, "a storm")
    monkeypatch.setattr(llm.tokenizer, "chat_template", None)
    assert written(llm, "a storm") == prompt


@pytest.mark.full
@pytest.mark.parametrize(
    ("theme", "words"),
    [
        ("skiing in the mountains", ("snow",)),
        ("sailing across the lake", ("boat",)),
        ("cows eating grass", ("meadow",)),
        ("an old video game", ("pixel",)),
    ],
)
def test_smollm2_finds_what_a_theme_suggests(smollm2: LanguageModel, theme: str, words: Sequence[str]) -> None:
    from models.sprite.world import PHRASES, VOCABULARY

    ctx = Context()
    text = written(language_model(ctx, smollm2), theme, Vocabulary(VOCABULARY, {}, PHRASES))
    assert all(word in text.split() for word in words)
