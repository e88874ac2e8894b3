"""Python code as text: literals, names and calls, whatever they are made of."""

from __future__ import annotations

import keyword
from collections.abc import Container, Mapping, Sequence
from textwrap import indent
from typing import Any

WIDTH = 100
"""Letters of a line, where it can be broken."""


def is_name(text: str) -> bool:
    """Whether an argument, or an attribute, can be called so. Python takes some other letters for ASCII ones."""
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def literal(value: Any) -> str:
    """JSON data as Python has them; a text of several lines on several lines."""
    match value:
        case str() if "\n" in value[:-1] and len(value) > WIDTH / 2:
            parts = indent("\n".join(map(literal, value.splitlines(keepends=True))), "    ")
            return f"(\n{parts}\n)"
        case str():
            text = repr(value)
            return f'"{text[1:-1]}"' if '"' not in value and text[0] == "'" else text
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case dict():
            return dictionary({key: literal(part) for key, part in value.items()})
    return repr(value)


def dictionary(codes: Mapping[str, str]) -> str:
    """A dictionary of what code gives, by text."""
    return f"{{{', '.join(f'{literal(name)}: {code}' for name, code in codes.items())}}}"


def call(function: str, arguments: Sequence[str]) -> list[str]:
    """The lines of a call; one if it fits."""
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= WIDTH and "\n" not in line:
        return [line]
    return [f"{function}(", *(indent(f"{argument},", "    ") for argument in arguments), ")"]


def named(codes: Mapping[str, str], taken: Container[str] = ()) -> list[str]:
    """Arguments by name, behind a dictionary of those that can't be called so, or whose names are taken."""
    odd = {name: code for name, code in codes.items() if not is_name(name) or name in taken}
    return [*([dictionary(odd)] if odd else []), *(f"{name}={code}" for name, code in codes.items() if name not in odd)]


def arguments(values: Mapping[str, Any]) -> list[str]:
    """JSON data as arguments, by names that they can have."""
    return [f"{name}={literal(value)}" for name, value in values.items()]


def member(name: str, taken: Container[str] = ()) -> str:
    """What follows an object to name something in it: an attribute, or an item if that can't be called so."""
    plain = is_name(name) and not name.startswith("_") and name not in taken
    return f".{name}" if plain else f"[{literal(name)}]"
