"""Picture prompts in the words that an image model knows: one from each slot, in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from engine.values import Vocabulary

_ORDER = ("colour", "subject", "background", "style")
_PHRASES = {"colour": "{}", "subject": "{}", "background": "in the {}", "style": "in {} style"}
"""How a slot's words are put in a sentence, unless the vocabulary has a phrase for the word."""
_SUBJECT = "drawing"
"""What a prompt is about if the vocabulary has no subjects."""
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
    """The known words or phrases that a text contains, each as often as it occurs; none as a part of another."""
    counts = Counter(_found(text, {word.lower(): word for word in known}))
    return [word for word in known for _ in range(counts[word])]


def mentioned(text: str, known: Sequence[str]) -> list[str]:
    """The known words that a text contains, each once, also in the plural or singular or in American spelling."""
    forms = {form.lower(): word for word in known for form in _forms(word)}
    return list(dict.fromkeys(_found(text, forms | {word.lower(): word for word in known})))


def open_slots(vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The slots without required words, for which one is still to be chosen, with their words."""
    return {slot: words for slot, words in _slots(vocabulary).items() if not vocabulary.required.get(slot)}


def sayable(slot: str, word: str, vocabulary: Vocabulary) -> bool:
    """Whether a sentence can name the word, once, without naming one of another slot."""
    phrase = _phrase(slot, word, vocabulary)
    return all(named(phrase, known) == ([word] if other == slot else []) for other, known in _slots(vocabulary).items())


def sentence(chosen: Mapping[str, str], vocabulary: Vocabulary) -> str:
    """The prompt with the chosen words, one for each slot without required words, and the required ones.

    It is built as most captions are from which image models learn: a red cat on a beach in crayon style.
    """
    words = {slot: _listed(words, "and") for slot, words in vocabulary.required.items() if words}
    said = {slot: _phrase(slot, words.get(slot) or chosen[slot], vocabulary) for slot in _slots(vocabulary)}
    what = [said.pop(slot, default) for slot, default in (("colour", ""), ("subject", _SUBJECT))]
    content = " ".join(part for part in (*what, *said.values()) if part)
    return f"{'an' if content[0].lower() in 'aeiou' else 'a'} {content}"


def _phrase(slot: str, word: str, vocabulary: Vocabulary) -> str:
    return vocabulary.phrases.get(word) or _PHRASES.get(slot, "with {}").format(word)


def _slots(vocabulary: Vocabulary) -> Mapping[str, tuple[str, ...]]:
    """All words by slot, in the order of a sentence; slots without a place in it come last."""
    slots = {
        slot: tuple(dict.fromkeys((*vocabulary.slots.get(slot, ()), *vocabulary.required.get(slot, ()))))
        for slot in (*vocabulary.slots, *vocabulary.required)
    }
    order = (*(slot for slot in _ORDER if slot in slots), *(slot for slot in slots if slot not in _ORDER))
    return {slot: slots[slot] for slot in order if slots[slot]}


def _found(text: str, forms: Mapping[str, str]) -> Iterator[str]:
    """The words whose forms, in lower case, stand in a text by themselves, in its order; longer forms come first."""
    anyone = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    for found in re.finditer(rf"(?<!\w)(?:{anyone})(?!\w)", text.lower()) if forms else ():
        yield forms[found.group()]


def _forms(word: str) -> Iterator[str]:
    """The plural and the singular that a word might have, in British and American spelling."""
    for spelt in dict.fromkeys((word, word.replace("our", "or"))):
        yield spelt
        yield f"{spelt}s"
        if spelt.endswith(("s", "x", "z", "ch", "sh", "o")):
            yield f"{spelt}es"
        for ending, other in (("y", "ies"), ("ies", "y"), ("f", "ves"), ("fe", "ves"), ("es", ""), ("s", "")):
            if spelt.endswith(ending) and not spelt.endswith("ss"):
                yield spelt.removesuffix(ending) + other


def _words(text: str) -> list[str]:
    """The words of a text in lower case, each once."""
    return list(dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower())))


def _listed(words: Sequence[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
