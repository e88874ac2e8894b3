"""Asking a language model for picture prompts in the words that an image model knows, and checking what it wrote.

Small models lose track of a theme and several lists of words at once. So the model is first asked for a word from each
list, then for a sentence with all of them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from engine.values import Message, Vocabulary

_ORDER = ("colour", "subject", "background", "style")
_PHRASES = {"colour": "{}", "subject": "{}", "background": "in the {}", "style": "in {} style"}
"""How a slot's words are put in a sentence, unless the vocabulary has a phrase for the word."""
# Themes of the examples: they fit every picture equally well, and so favour no word.
_THEMES = (
    "an old song",
    "hope",
    "a walk with a friend",
    "the end of the day",
    "a good surprise",
    "thinking of nothing",
    "something new",
    "the smallest thing in the world",
)
_SENTENCES = 4
"""Example sentences; the choice of a word gets as many examples as there are themes."""
_GLUE = frozenset(
    word
    for words in ("a an and as at before by in is near of on one over the there under with", "drawing drawn painting")
    for word in (*words.split(), "picture", "print", "style")
)


def faults(text: str, vocabulary: Vocabulary) -> list[str]:
    """What is wrong with a prompt, in short reasons: a good one has exactly one word from each slot, and nothing else.

    Where a slot has required words, the prompt must have exactly those.
    """
    slots = _slots(vocabulary)
    reasons: list[str] = []
    for slot, known in slots.items():
        found = named(text, known)
        required = vocabulary.required.get(slot, ())
        missing = [word for word in required if word not in found]
        others = [word for word in found if word not in required]
        if missing:
            reasons.append(f"it lacks the {slot} {_listed(missing, 'and')}")
        if required and others:
            reasons.append(f"it names the {slot} {_listed(others, 'and')} besides {_listed(required, 'and')}")
        elif not required and not found:
            reasons.append(f"it names no {slot}: choose {_listed(known, 'or')}")
        elif not required and len(found) > 1:
            reasons.append(f"it names {len(found)} {slot}s ({', '.join(found)}): choose one")
    drawable = _GLUE.union(*(_words(word) for known in slots.values() for word in known))
    drawable = drawable.union(*map(_words, vocabulary.phrases.values()))
    strange = [word for word in _words(text) if word not in drawable]
    if vocabulary.slots and strange:
        reasons.append(f"{', '.join(strange)} cannot be drawn")
    return reasons


def named(text: str, known: Sequence[str]) -> list[str]:
    """The known words or phrases that a text contains, not as parts of others, each as often as it occurs."""
    counts = {word: len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)) for word in known}
    return [word for word, count in counts.items() for _ in range(count)]


def open_slots(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The slots without required words, for which one is still to be chosen, with their words."""
    return {slot: words for slot, words in _slots(vocabulary).items() if not vocabulary.required.get(slot)}


def choice_chat(theme: str, slot: str, words: Sequence[str], seed: int, *, listed: bool = False) -> list[Message]:
    """The chat that asks which of a slot's words fits a theme, after an example for each.

    Theme and `seed` order the examples: a small model favours some positions, which should not always hold the same
    word. With the words `listed` in each question it follows them more and the theme less.
    """
    ask = f"Which {slot}: {_listed(words, 'or')}?" if listed else f"{slot}:"
    shown = random.Random(f"{seed} {slot} {theme}").sample(words, min(len(words), len(_THEMES)))
    chat = [_system(f"You choose the {slot} of a picture. Answer with one of: {', '.join(words)}.")]
    for example, word in zip(_THEMES, shown, strict=False):
        chat += [_user(f"{example}\n{ask}"), _assistant(word)]
    return [*chat, _user(f"{theme}\n{ask}")]


def sentence_chat(chosen: Mapping[str, str], vocabulary: Vocabulary, seed: int) -> list[Message]:
    """The chat that asks for a prompt with the chosen words, one for each slot without required words."""
    draw = random.Random(seed)
    orders = {slot: draw.sample(words, len(words)) for slot, words in open_slots(vocabulary).items()}
    chat = [_system("You describe a picture in one line, with the given words.")]
    for index in range(_SENTENCES):
        words = _complete({slot: order[index % len(order)] for slot, order in orders.items()}, vocabulary)
        chat += [_user(_notes(words)), _assistant(_sentence(words))]
    return [*chat, _user(_notes(_complete(chosen, vocabulary)))]


def retry_chat(chat: Sequence[Message], answer: str, reasons: Sequence[str]) -> list[Message]:
    """The chat continued with the answer to its question, why that was rejected, and the question again."""
    *before, question = chat
    because = f"That cannot be drawn: {'; '.join(reasons)}.\n{question['content']}"
    return [*before, question, _assistant(answer), _user(because)]


def _complete(chosen: Mapping[str, str], vocabulary: Vocabulary) -> dict[str, str]:
    """The chosen words and the required ones, by slot, as phrases for a sentence."""
    words = {slot: _listed(words, "and") for slot, words in vocabulary.required.items() if words}
    words = {slot: words.get(slot) or chosen[slot] for slot in _slots(vocabulary)}
    plain = {slot: _PHRASES.get(slot, "with {}").format(word) for slot, word in words.items()}
    return {slot: vocabulary.phrases.get(word, plain[slot]) for slot, word in words.items()}


def _notes(phrases: Mapping[str, str]) -> str:
    return "\n".join(f"{slot}: {phrase}" for slot, phrase in phrases.items())


def _sentence(phrases: Mapping[str, str]) -> str:
    content = " ".join(phrases.values())
    article = "an" if content[0] in "aeiou" else "a"
    return f"a drawing of {article} {content}"


def _slots(vocabulary: Vocabulary) -> Mapping[str, tuple[str, ...]]:
    """All words by slot, in the order of a sentence; slots without a place in it come last."""
    slots = {
        slot: tuple(dict.fromkeys((*vocabulary.slots.get(slot, ()), *vocabulary.required.get(slot, ()))))
        for slot in (*vocabulary.slots, *vocabulary.required)
    }
    order = (*(slot for slot in _ORDER if slot in slots), *(slot for slot in slots if slot not in _ORDER))
    return {slot: slots[slot] for slot in order if slots[slot]}


def _words(text: str) -> list[str]:
    """The words of a text in lower case, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower())))


def _listed(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _system(content: str) -> Message:
    return {"role": "system", "content": content}


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}
