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
    """Pass on one of two inputs. Nodes that lead only to the other don't run."""

    on: bool = True
    """Which one: a fixed choice, or another node's output."""
    if_on: Annotated[Any, Lazy()] = None
    """What is passed on when the switch is on."""
    if_off: Annotated[Any, Lazy()] = None
    """What is passed on when it is off."""

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> Collection[str]:
        return ("if_on",) if given["on"] else ("if_off",)

    def run(self, ctx: Context) -> Any:
        return self.if_on if self.on else self.if_off


class CompareNumbers(Node, version=1, category="flow", uses="io"):
    """Compare two numbers, to control a Switch."""

    a: float
    """The first number."""
    relation: Literal["<", "≤", "=", "≠", "≥", ">"] = "<"
    """The relation of the first to the second that is checked."""
    b: float = 0.0
    """The second number."""

    def run(self, ctx: Context) -> bool:
        return bool(_RELATIONS[self.relation](self.a, self.b))


class TextContains(Node, version=1, category="flow", uses="io"):
    """Check whether a text contains another, to control a Switch."""

    text: str
    """The text to search."""
    part: Annotated[str, Field(min_length=1)]
    """What to look for."""
    match_case: bool = False
    """Whether upper and lower case count as different."""

    def run(self, ctx: Context) -> bool:
        if self.match_case:
            return self.part in self.text
        return self.part.casefold() in self.text.casefold()


class NumberRange(Node, version=1, category="flow", uses="io"):
    """Make a list of whole numbers, such as seeds. A node that takes a single number runs for each of them."""

    first: int = 0
    """The first number."""
    count: Annotated[int, Field(ge=0, le=10_000)] = 4
    """How many."""
    step: int = 1
    """The difference from one number to the next."""

    def run(self, ctx: Context) -> tuple[int, ...]:
        return tuple(self.first + self.step * index for index in range(self.count))
