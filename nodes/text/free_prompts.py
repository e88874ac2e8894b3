"""Asking a language model for prompts of image models that read free text.

A pattern sees to it that what it writes is one sentence that begins with its subject, without characters that mean
something to image models; the style ends it, word for word. So subject and style are in every prompt, whatever the
model's size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.errors import InputError
from engine.values import Message
from nodes.text.grammar import pattern_grammar

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import Image
    from nodes.text.decoding.loop import Tally
    from nodes.text.models import LoadedModel
    from nodes.text.writing import Settings

INSTRUCTIONS = (
    "You write prompts for an image model. Each prompt is one sentence about what can be seen in a single picture:"
    " the subject, what it does, where it is, and the light. Begin with the subject, and leave out the style."
)
"""What the model is told; it should fit the examples."""

_EXAMPLES = (
    (
        "the end of summer",
        "a grey cat",
        "a grey cat sleeping on a warm stone wall beside dry lavender, long shadows of the evening sun",
    ),
    (
        "hope",
        "two children",
        "two children carrying a paper lantern across a snowy field at night, its light warm on their faces",
    ),
    (
        "a busy day",
        "an old tram",
        "an old tram climbing a steep street between market stalls, bright morning light on wet cobbles",
    ),
    (
        "the sea",
        "a lone sailor",
        "a lone sailor mending a net on a wooden pier, fishing boats and low clouds behind",
    ),
)
_FLAWS = (
    ("blurred", "out of focus", "low resolution", "compression artefacts", "noise"),
    ("overexposed", "underexposed", "oversaturated", "flat light"),
    ("wrong proportions", "deformed faces", "crossed eyes", "deformed hands", "extra fingers", "extra limbs"),
    ("floating objects", "cropped subject", "tilted horizon", "cluttered background"),
    ("text", "watermark", "signature", "frame"),
)
"""What a negative prompt is made of, one of each kind: a small model that may write anything writes what is wanted, or
the same again."""
_AVOIDED = f"What must not be seen in these pictures? Choose: {'; '.join(' or '.join(kind) for kind in _FLAWS)}."

_MOST_FOR_FLAWS = 128
"""Tokens, more than five flaws take."""

_PLAIN = r'[^\p{C}\s"{}\[\]()<>|*#_\\.!?]'
"""A character of a prompt: no space, end of a sentence, or one that weighs or groups words for an image model."""
_LEAST = 20
"""Characters, at least, that are written beside the subject."""
_PENALTY = 1.1
"""For words that were there: without one a small model repeats itself, with 1.2 it no longer makes sense."""
_LOOSE_ENDS = frozenset(
    re.findall("[a-z]+", "a an the and or but of in on at to by as with from for into its his her their that is are")
)
"""Words that no sentence ends with."""
_LONG_WORD = 24
"""Characters of a word that is rather a sentence, in a script without spaces."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What prompts are asked for."""

    theme: str
    style: str
    """How all pictures look; "" if that is left open."""
    instructions: str
    messages: Sequence[Message] = ()
    """What was said before: with any, the model is shown no other examples."""


def write_prompts(
    ctx: Context,
    llm: LoadedModel,
    wish: Wish,
    subjects: Sequence[str],
    number: int,
    settings: Settings,
    tally: Tally,
) -> tuple[str, ...]:
    """Write prompts, each about the next of the subjects and with the next seed, streamed as a numbered list.

    Raises:
        InputError: as for `write`, or `max_new_tokens` ended a prompt within its subject.
    """
    from nodes.text.writing import write

    prompts: list[str] = []
    for index in range(number):
        subject = subjects[index % len(subjects)] if subjects else ""
        seed = (settings.seed + index) % 2**64
        grammar = pattern_grammar(prompt_pattern(subject))
        own = replace(settings, seed=seed, repetition_penalty=_PENALTY, grammar=grammar, may_be_cut=True)
        ctx.text(f"{index + 1}. ")
        answer = write(_part(ctx, index, number), llm, prompt_chat(wish, subject), own, tally)
        said = finished(answer.text, subject, was_cut=not answer.ended)
        end = f", {wish.style}"
        if not wish.style or said.endswith(end):
            end = ""
        ctx.text(f"{end}\n")
        prompts.append(said + end)
    return tuple(prompts)


def write_avoided(
    ctx: Context, llm: LoadedModel, wish: Wish, subjects: Sequence[str], settings: Settings, tally: Tally
) -> str:
    """Write a negative prompt for all the prompts, streamed too; errors are those of `write`."""
    from nodes.text.writing import write

    ctx.text("Not: ")
    own = replace(settings, max_new_tokens=_MOST_FOR_FLAWS, grammar=pattern_grammar(avoided_pattern()))
    answer = write(ctx, llm, avoided_chat(wish, subjects), own, tally)
    ctx.text("\n")
    return avoided(answer.text, wish, subjects)


def _part(ctx: Context, index: int, number: int) -> Context:
    """The context for one of several prompts: its progress is that of them all."""

    def progress(done: int, total: int, unit: str, preview: Image | None) -> None:
        if unit == "token":
            done, total = index * total + done, number * total
        ctx.on_progress(done, total, unit, preview)

    return replace(ctx, on_progress=progress)


def spaced(subjects: Sequence[str]) -> tuple[str, ...]:
    """Subjects with single spaces, and without empty ones."""
    return tuple(" ".join(subject.split()) for subject in subjects if subject.strip())


def prompt_chat(wish: Wish, subject: str) -> list[Message]:
    """The chat that asks for a prompt; the model chooses the subject if it is ""."""
    examples: list[Message] = []
    for theme, example, prompt in () if wish.messages else _EXAMPLES:
        examples += [_user(_question(theme, example if subject else "")), {"role": "assistant", "content": prompt}]
    return _told([*wish.messages, *examples, _user(_question(wish.theme, subject))], wish)


def prompt_pattern(subject: str) -> str:
    """What a prompt about a subject matches: one sentence that begins with it."""
    plain = rf"(?:{_PLAIN}|[ ]{_PLAIN}|[.]{_PLAIN})"
    if not subject:
        return rf"\p{{L}}{plain}{{{_LEAST},}}[.]?"
    return rf"{re.escape(subject)}(?:,? )\p{{L}}{plain}{{{_LEAST},}}[.]?"


def finished(text: str, subject: str, *, was_cut: bool) -> str:
    """The prompt as far as the model wrote it, without a full stop, or a loose end where it was cut off.

    Raises:
        InputError: it was cut off before the end of its subject.
    """
    if not text.startswith(subject):
        raise InputError(
            f"the subject “{subject}” has more tokens than a prompt", input="max_new_tokens", hint="raise it"
        )
    rest = text[len(subject) :]
    return (subject + (_without_loose_end(rest) if was_cut else rest)).strip().rstrip(".,; ")


def avoided_chat(wish: Wish, subjects: Sequence[str]) -> list[Message]:
    """The chat that asks for a negative prompt."""
    lines = [f"Theme: {wish.theme}", *(f"Subject: {subject}" for subject in subjects), _AVOIDED]
    return _told([*wish.messages, _user("\n".join(lines))], wish)


def avoided_pattern() -> str:
    """What the answer to that matches: a flaw of each kind."""
    return ", ".join(f"(?:{'|'.join(kind)})" for kind in _FLAWS)


def avoided(text: str, wish: Wish, subjects: Sequence[str]) -> str:
    """The negative prompt, of the flaws that the model chose: those that aren't wanted."""
    wanted = _words(" ".join((wish.theme, wish.style, *subjects)))
    return ", ".join(flaw for flaw in text.split(", ") if not _words(flaw) <= wanted)


def _question(theme: str, subject: str) -> str:
    return f"Theme: {theme}\nSubject: {subject}" if subject else f"Theme: {theme}"


def _told(chat: list[Message], wish: Wish) -> list[Message]:
    """The chat with the instructions; not as a system prompt, for which some models have no place."""
    style = f" All pictures are in this style: {wish.style}." if wish.style else ""
    at = next(index for index, message in enumerate(chat) if message["role"] == "user")
    told = _user(f"{wish.instructions}{style}\n\n{chat[at]['content']}".strip())
    return [*chat[:at], told, *chat[at + 1 :]]


def _without_loose_end(text: str) -> str:
    """Up to the last comma, if that is in the second half, or else the last word that can end a sentence."""
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")  # a character that was cut off
    comma = text.rfind(",")
    if comma > len(text) // 2:
        return text[:comma]
    words = text.split(" ")
    if len(words[-1]) > _LONG_WORD:
        return text
    words.pop()
    while words and words[-1].casefold() in _LOOSE_ENDS:
        words.pop()
    return " ".join(words)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", text.casefold()))


def _user(content: str) -> Message:
    return {"role": "user", "content": content}
