"""Readable names derived from others."""

from __future__ import annotations

import re
from collections.abc import Container

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


def snake_case(name: str) -> str:
    """A name in lower-case ASCII, digits and underscores: `image_model_load` for "ImageModelLoad"; may be empty."""
    words = _WORDS.sub("_", name.replace("LoRA", "Lora")).strip("_").lower()
    return words.removesuffix("_json")


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or if it is taken the first of `name_2`, `name_3`… that isn't."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def node_id(kind: str, taken: Container[str]) -> str:
    """The id of a node that has none yet."""
    return free_name(snake_case(kind) or "node", taken)
