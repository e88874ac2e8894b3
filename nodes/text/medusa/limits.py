"""What a training of Medusa heads may be given, as far as that is known before a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InputError

MOST_LOGITS = 2**28
"""Logits at a time. In float32 they take 1 GiB, and a step of training, with gradients, a few times that."""


def check_training(given: Mapping[str, Any]) -> None:
    """Refuse a training that would fill the memory, or that has a single prompt.

    Args:
        given: the inputs of `MedusaTrain` that are known.

    Raises:
        InputError: a step has more than `MOST_LOGITS` logits, or there is one prompt and no text.
    """
    if given.keys() >= {"heads", "batch", "tokens"}:
        logits = given["heads"] * given["batch"] * given["tokens"]
        if logits > MOST_LOGITS:
            raise InputError(
                f"a step computes heads · batch · tokens logits: {logits:,}, but {MOST_LOGITS:,} at most",
                input="batch",
                hint="lower batch, tokens or heads",
            )
    if not given.get("texts", True) and given.get("prompts"):
        check_texts(len(given["prompts"]), "prompts")


def check_texts(count: int, name: str | None = None) -> None:
    """Refuse fewer than two texts, or prompts that each give one.

    Args:
        count: how many there are.
        name: the input that they come from, if it is known.

    Raises:
        InputError: there are fewer.
    """
    if count < 2:
        message, hint = "Medusa heads need two texts at least, one to be tried on", "give more or longer texts"
        raise InputError(message, input=name, hint="give more prompts" if name == "prompts" else hint)
