"""Trigger words by vocabulary slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.values import Words


def joined(words: Words, more: Words) -> Words:
    """The words of both, each once, in order."""
    slots = dict.fromkeys((*words, *more))
    return {slot: tuple(dict.fromkeys((*words.get(slot, ()), *more.get(slot, ())))) for slot in slots}
