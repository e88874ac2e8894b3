"""Nodes that choose what runs, and lists to run over."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.node import Context, Lazy, Node

_RELATIONS = {
    "<": operator.lt,
    "≤": operator.le,
    "=": operator.eq,
    "≠": operator.ne,
    "≥": operator.ge,
    ">": operator.gt,
}


class Switch(Node, version=1, category="flow", uses="io"):
    """Hand on one of two things. What leads only to the other does not run."""

    on: bool = True
    """Which: a fixed choice, or what another node gives."""
    if_on: Annotated[Any, Lazy()] = None
    """What is handed on when the switch is on."""
    if_off: Annotated[Any, Lazy()] = None
    """What is handed on when it is off."""

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> Collection[str]:
        return ("if_on",) if given["on"] else ("if_off",)

    def run(self, ctx: Context) -> Any:
        return self.if_on if self.on else self.if_off


class CompareNumbers(Node, version=1, category="flow", uses="io"):
    """Tell whether two numbers stand in a relation, for a Switch to act on."""

    a: float
    """The first number."""
    relation: Literal["<", "≤", "=", "≠", "≥", ">"] = "<"
    """How it is to stand to the second."""
    b: float = 0.0
    """The second number."""

    def run(self, ctx: Context) -> bool:
        return bool(_RELATIONS[self.relation](self.a, self.b))


class TextContains(Node, version=1, category="flow", uses="io"):
    """Tell whether a text contains another, for a Switch to act on."""

    text: str
    """The text to look into."""
    part: Annotated[str, Field(min_length=1)]
    """What to look for."""
    match_case: bool = False
    """Whether capital letters matter."""

    def run(self, ctx: Context) -> bool:
        if self.match_case:
            return self.part in self.text
        return self.part.casefold() in self.text.casefold()


class NumberRange(Node, version=1, category="flow", uses="io"):
    """Count: a list of whole numbers, such as seeds. What takes a single number runs for each of them."""

    first: int = 0
    """The first number."""
    count: Annotated[int, Field(ge=0, le=10_000)] = 4
    """How many."""
    step: int = 1
    """From one to the next."""

    def run(self, ctx: Context) -> tuple[int, ...]:
        return tuple(self.first + self.step * index for index in range(self.count))
