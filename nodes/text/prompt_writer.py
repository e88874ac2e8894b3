"""Writing a picture prompt on a theme: a language model weighs the words that an image model knows.

A small model that is asked for a word answers with its favourite, whatever the theme. So it isn't asked: what counts is
how much likelier the theme makes a word than other themes do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.errors import InputError
from engine.values import Vocabulary
from nodes.text.prompts import faults, mentioned, open_slots, sayable, sentence
from nodes.text.scoring import Scorer
from nodes.text.writing import COLDEST, Settings

if TYPE_CHECKING:
    from engine.node import Context
    from nodes.text.models import LoadedModel

_OPENING = 'A painting with the title "'
_OTHER_THEMES = (
    "a river in the hills",
    "a rainy afternoon",
    "children at school",
    "an old man reading",
    "the kitchen",
    "a crowded market",
    "a dance",
    "war and peace",
    "a sleeping baby",
    "the mountains",
    "a train station",
    "a portrait of a woman",
    "machines",
    "an island",
    "a bowl of fruit",
    "the harbour in the morning",
)
"""What pictures are often about: the likelihood of a word without the theme is the mean of that with these."""
_WEIGHT = 0.9
"""Of the other themes. Without any the model's favourites always win; with 1, the likelihoods of rare words, which vary
most."""
_MOST_USUAL = 128
"""Slots with their words whose usual likelihoods a model keeps, the latest."""


class Prompt(NamedTuple):
    """A picture prompt, and what it took."""

    text: str
    tokens: int
    """The prompt's tokens."""
    passes: int
    """Forward passes of the model."""


def write_prompt(ctx: Context, llm: LoadedModel, theme: str, vocabulary: Vocabulary, settings: Settings) -> Prompt:
    """Write a picture prompt on a theme, without `faults`: a word for each slot without required ones, in a sentence.

    A word that the theme names is kept; else one is drawn from the model's scores, with the settings' temperature,
    top_p, top_k, min_p and seed. What is decided is streamed through the context.

    Raises:
        InputError: the vocabulary has no words or can't be put in a sentence, the model doesn't know a word, the theme
            doesn't fit into its context, or no tree describes what it does.
    """
    choices = _choices(vocabulary)
    title = " ".join(theme.split())
    chosen: dict[str, str] = {}

    def waiting() -> None:
        ctx.progress(len(chosen), len(choices), unit="word")

    plain, themed = Scorer(llm, _OPENING, waiting), Scorer(llm, f'{_OPENING}{title}".', waiting)
    for done, (slot, words) in enumerate(choices.items(), start=1):
        fitting = mentioned(theme, words)
        if len(fitting) == 1:
            (chosen[slot],) = fitting
            ctx.text(f"{slot}: {chosen[slot]} (named)\n")
        else:
            scores = _scores(llm, plain, themed, slot, tuple(fitting) or words)
            odds = _odds(scores, 1 if settings.temperature < COLDEST else settings.temperature)
            chosen[slot] = _drawn(odds, settings, random.Random(f"{settings.seed} {slot} {title}"))
            ctx.text(f"{slot}: {_told(chosen[slot], odds)}\n")
        ctx.progress(done, len(choices), unit="word")
    text = sentence(chosen, vocabulary)
    if reasons := faults(text, vocabulary):
        raise InputError(
            f"“{text}” can't be drawn: {'; '.join(reasons)}",
            input="vocabulary",
            hint="give each thing one name, in one slot",
        )
    ctx.text(text)
    return Prompt(text, len(plain.tokens(text)), plain.passes + themed.passes)


def _choices(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The words that each open slot has to choose from: those that a sentence can name."""
    known = [*vocabulary.slots.items(), *vocabulary.required.items()]
    if not any(words for _, words in known):
        raise InputError("the vocabulary has no words", input="vocabulary", hint="give a slot at least one")
    for slot, words in known:
        if not all(word.strip() for word in words):
            raise InputError(f"a {slot} of the vocabulary is blank", input="vocabulary", hint="leave it out")
    choices = {
        slot: tuple(word for word in words if sayable(slot, word, vocabulary))
        for slot, words in open_slots(vocabulary).items()
    }
    if unsaid := [slot for slot, words in choices.items() if not words]:
        raise InputError(
            f"no {unsaid[0]} of the vocabulary can be said without naming something else",
            input="vocabulary",
            hint="give each thing one name, in one slot, and phrases that name nothing else",
        )
    return choices


def _scores(llm: LoadedModel, plain: Scorer, themed: Scorer, slot: str, words: tuple[str, ...]) -> dict[str, float]:
    """How much likelier the theme makes each word than other themes do, in nats, up to a constant.

    A word has the same tokens after every theme, so their number doesn't matter.
    """
    question = f" {slot.capitalize()}: "
    if unknown := [word for word in words if not plain.knows(question, word)]:
        raise InputError(
            f"the language model has no tokens for the {slot} “{unknown[0]}”",
            input="vocabulary",
            hint="leave it out, or choose another model",
        )
    endings = [question + word for word in words]
    likelihoods = themed.log_likelihoods(endings)
    if (slot, words) not in llm.usual:
        others = plain.log_likelihoods([f'{other}".{ending}' for other in _OTHER_THEMES for ending in endings])
        llm.usual[slot, words] = np.reshape(others, (len(_OTHER_THEMES), len(words))).mean(0).tolist()
        if len(llm.usual) > _MOST_USUAL:
            del llm.usual[next(iter(llm.usual))]
    scores = np.array(likelihoods) - _WEIGHT * np.array(llm.usual[slot, words])
    if not np.isfinite(scores).all():
        raise InputError(
            f"the language model's scores of the {slot} are no numbers", input="llm", hint="load it in float32"
        )
    return dict(zip(words, scores.tolist(), strict=True))


def _odds(scores: Mapping[str, float], temperature: float) -> dict[str, float]:
    """The probability of each word, the best first."""
    best = max(scores.values())
    weights = {word: math.exp((score - best) / temperature) for word, score in scores.items()}
    total = sum(weights.values())
    return {word: weights[word] / total for word in sorted(weights, key=weights.__getitem__, reverse=True)}


def _drawn(odds: Mapping[str, float], settings: Settings, draw: random.Random) -> str:
    """A word from the likeliest, as the settings bound them; the best at temperature 0."""
    words, shares = list(odds), np.array(list(odds.values()))
    fit = np.cumsum([0.0, *shares])[:-1] < settings.top_p
    fit &= shares >= settings.min_p * shares[0]
    fit[1 if settings.temperature < COLDEST else settings.top_k or len(words) :] = False
    return draw.choices(words, (shares * fit).tolist())[0]


def _told(word: str, odds: Mapping[str, float]) -> str:
    """A choice in short: the word, the next best, and how likely they are."""
    others = [other for other in odds if other != word][:1]
    return ", ".join(f"{shown} {odds[shown]:.0%}" for shown in (word, *others))
