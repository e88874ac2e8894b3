"""Asking a language model for picture prompts in the words that an image model knows, and checking what it wrote."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from engine.values import Vocabulary

Message = dict[str, str]

_ORDER = ("colour", "subject", "background", "style")
_PHRASES = {"colour": "{}", "subject": "{}", "background": "in the {}", "style": "in {} style"}
# Themes of the examples: they fit any picture alike, so that they don't favour a word.
_THEMES = (
    "an old song",
    "hope",
    "a walk with a friend",
    "the end of the day",
    "a good surprise",
    "thinking of nothing",
)
_GLUE = frozenset(
    word
    for words in ("a an and as at before by in is near of on one over the there under with", "drawing drawn painting")
    for word in (*words.split(), "picture", "print", "style")
)


def faults(text: str, vocabulary: Vocabulary) -> list[str]:
    """What is wrong with a prompt, a short reason each: a good one has just one word of every slot, and nothing else.

    Where words of a slot are required, those are the ones that it must have.
    """
    slots = _slots(vocabulary)
    reasons: list[str] = []
    for slot, known in slots.items():
        found = [word for word in known if re.search(rf"\b{re.escape(word.lower())}\b", text.lower())]
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
    if strange := [word for word in _words(text) if word not in drawable]:
        reasons.append(f"{', '.join(strange)} cannot be drawn")
    return reasons


def conversation(theme: str, vocabulary: Vocabulary, seed: int) -> list[Message]:
    """The chat that asks for a prompt on a theme: the words by slot, a few examples made of them, the theme.

    Theme and `seed` order the words: a small model leans towards the examples' first ones, which should not always be
    the same.
    """
    draw = random.Random(f"{seed} {theme}")
    choices = {
        slot: tuple(vocabulary.required.get(slot) or draw.sample(words, len(words)))
        for slot, words in _slots(vocabulary).items()
    }
    lists = "\n".join(f"{slot}: {', '.join(words)}" for slot, words in choices.items() if len(words) > 1)
    system = f"You choose what to draw for a theme. Use only words of these lists.\n{lists}"
    messages = [{"role": "system", "content": system}]
    for index, example in enumerate(_THEMES):
        words = {
            slot: " ".join(known) if slot in vocabulary.required else known[index % len(known)]
            for slot, known in choices.items()
        }
        messages += [
            {"role": "user", "content": f"Theme: {example}"},
            {"role": "assistant", "content": _sentence(words)},
        ]
    return [*messages, {"role": "user", "content": f"Theme: {theme}"}]


def objection(text: str, reasons: Sequence[str], theme: str) -> list[Message]:
    """What to add to the chat when `text` won't do: the text, and why."""
    because = f"That cannot be drawn: {'; '.join(reasons)}.\nTheme: {theme}"
    return [{"role": "assistant", "content": text}, {"role": "user", "content": because}]


def _slots(vocabulary: Vocabulary) -> Mapping[str, tuple[str, ...]]:
    """All words by slot, in the order of a sentence; the slots that it has no place for come last."""
    slots = {slot: tuple(words) for slot, words in vocabulary.slots.items() if words}
    return {slot: slots[slot] for slot in (*(s for s in _ORDER if s in slots), *(s for s in slots if s not in _ORDER))}


def _words(text: str) -> list[str]:
    """The words of a text in lower case, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower())))


def _sentence(words: Mapping[str, str]) -> str:
    told = " ".join(_PHRASES.get(slot, "with {}").format(word) for slot, word in words.items())
    article = "an" if told[0] in "aeiou" else "a"
    return f"a drawing of {article} {told}"


def _listed(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
