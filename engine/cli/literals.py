"""Python code as text: literals, names and calls, safe for any content."""

from __future__ import annotations

import keyword
from collections.abc import Container, Mapping, Sequence
from textwrap import indent
from typing import Any

WIDTH = 100
"""The longest line, in characters, where it can be broken."""


def is_name(text: str) -> bool:
    """Whether this can name an argument or attribute. ASCII only, as Python normalises some other letters to it."""
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def literal(value: Any) -> str:
    """JSON data as a Python literal; a text of several lines on several lines."""
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
    """A dictionary display with pieces of code as its values."""
    return f"{{{', '.join(f'{literal(name)}: {code}' for name, code in codes.items())}}}"


def call(function: str, arguments: Sequence[str]) -> list[str]:
    """The lines of a call; one if it fits."""
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= WIDTH and "\n" not in line:
        return [line]
    return [f"{function}(", *(indent(f"{argument},", "    ") for argument in arguments), ")"]


def named(codes: Mapping[str, str], taken: Container[str] = ()) -> list[str]:
    """Keyword arguments, after a dictionary of those whose names aren't valid or are taken."""
    odd = {name: code for name, code in codes.items() if not is_name(name) or name in taken}
    return [*([dictionary(odd)] if odd else []), *(f"{name}={code}" for name, code in codes.items() if name not in odd)]


def arguments(values: Mapping[str, Any]) -> list[str]:
    """JSON data as keyword arguments; all names must be valid."""
    return [f"{name}={literal(value)}" for name, value in values.items()]


def member(name: str, taken: Container[str] = ()) -> str:
    """The code that gets a member of an object: as an attribute, or as an item if the name isn't valid."""
    plain = is_name(name) and not name.startswith("_") and name not in taken
    return f".{name}" if plain else f"[{literal(name)}]"
