"""Kinds of node that do next to nothing, so that what is measured is the engine.

They have a module of their own, since the code of a kind that is defined in the main program is digested anew each run.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import sleep
from typing import Annotated, Any

from engine.node import Context, Lazy, Node


class Start(Node, version=1):
    text: str = ""

    def run(self, ctx: Context) -> str:
        return self.text


class Pass(Node, version=1):
    text: str
    mark: int = 0

    def run(self, ctx: Context) -> str:
        return self.text


class Join(Node, version=1):
    a: str = ""
    b: str = ""
    c: str = ""
    d: str = ""
    e: str = ""
    f: str = ""
    g: str = ""
    h: str = ""
    i: str = ""
    j: str = ""
    mark: int = 0

    def run(self, ctx: Context) -> str:
        return self.a


class Letter(Node, version=1):
    """Whether the text starts with an "a"."""

    text: str
    mark: int = 0

    def run(self, ctx: Context) -> bool:
        return self.text.startswith("a")


class Choose(Node, version=1):
    on: bool
    yes: Annotated[str, Lazy()] = ""
    no: Annotated[str, Lazy()] = ""

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("yes",) if given["on"] else ("no",)

    def run(self, ctx: Context) -> str:
        return self.yes if self.on else self.no


class Texts(Node, version=1):
    count: int

    def run(self, ctx: Context) -> tuple[str, ...]:
        return tuple(f"{'ab'[i % 2]} {i}" for i in range(self.count))


class Wait(Node, version=1, uses="io"):
    text: str
    mark: int = 0

    def run(self, ctx: Context) -> str:
        sleep(0.3)
        return self.text
