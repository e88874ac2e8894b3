"""Figures: what a node has to say about how it worked, such as how many tokens each pass of a model gave.

They are part of a run and never of a result, so cold and cached runs give equal values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

MOST_FIGURES = 32
"""The most figures of a report."""
NAME_CHARACTERS = 60
TEXT_CHARACTERS = 200
MOST_SHOWN = 4
"""The most figures that a line shows."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number or a text.

    Raises:
        TypeError: it is neither.
        ValueError: it is a whole number of more than 64 bits.
    """

    value: int | float | str
    unit: str = ""
    """Such as "s" or "%"; "" if the name says all."""

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | str):
            kind = type(self.value).__name__
            raise TypeError(f"a figure is a number or a text, not {kind}; give a tensor's or an array's item()")
        if isinstance(self.value, int) and self.value.bit_length() > 64:
            raise ValueError("a figure is too large: whole numbers have 64 bits at most; give a float")

    def __str__(self) -> str:
        """Such as "1,203", "0.31 s" or "2.99"."""
        return f"{_shown(self.value)} {self.unit}".rstrip()


Report = Mapping[str, Figure]
"""Figures by name, the most telling first."""
Given = Mapping[str, Figure | float | str]
"""A report as nodes give it, where numbers and texts that need no unit may stand for figures."""


def bounded(given: Given) -> dict[str, Figure]:
    """A report that can be stored and sent.

    It has the first 32 figures. Names, units and texts are one line each; what is too long ends in "…". Numbers that
    JSON lacks (nan, inf), or its readers round (above 2⁵³, as some seeds), are texts.

    Raises:
        TypeError: a name isn't a text, or a figure neither a number nor a text.
        ValueError: a figure is a whole number that is too large.
    """
    report: dict[str, Figure] = {}
    for name, value in islice(given.items(), MOST_FIGURES):
        if not isinstance(name, str):
            raise TypeError(f"the name of a figure is a text, not {type(name).__name__}")
        report[_line(name, NAME_CHARACTERS)] = _bounded(value if isinstance(value, Figure) else Figure(value))
    return report


def in_words(report: Report) -> str:
    """The first figures in a line: "tokens 1,203 · passes 402 · tokens a pass 2.99 · reading 0.31 s"."""
    shown = [f"{name} {figure}" for name, figure in report.items()]
    return " · ".join(shown[:MOST_SHOWN] + ["…"] * (len(shown) > MOST_SHOWN))


def _bounded(figure: Figure) -> Figure:
    value = figure.value
    if not isinstance(value, str) and (not math.isfinite(value) or (isinstance(value, int) and abs(value) > 2**53)):
        value = str(value)
    elif isinstance(value, str):
        value = _line(value, TEXT_CHARACTERS)
    return Figure(value, _line(figure.unit, NAME_CHARACTERS))


def _line(text: str, most: int) -> str:
    """A text as a line of so many characters, without halves of surrogate pairs, which can't be encoded."""
    line = " ".join(text[: 4 * most].split()).encode("utf-8", "replace").decode()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 100 <= abs(value) < 1e15 else f"{value:.3g}"
