"""Rules that say which clips are kept, and why they drop the others.

    text_area <= 0.07
    worst 25% motion
    no duplicates
    lvd-f

The last stands for its rules in `PRESETS`. Percentages are of all rows, whatever other rules drop: as for Stable Video
Diffusion, each column is judged by itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
import pyarrow as pa

from engine.errors import InputError, suggestion
from nodes.dataset.presets import PRESETS
from nodes.dataset.table import CLIPS, Row

NUMBERS = [field.name for field in CLIPS if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
"""The columns of clips that rules can be about."""
LOW_IS_BETTER = frozenset({"text_area", "clipped"})
"""Columns whose worst values are the highest; in all others, the lowest values are the worst."""

_BOUND = re.compile(r"(\w+)\s*(<=|>=|≤|≥)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)")
_WORST = re.compile(r"worst\s+(\d+(?:\.\d+)?)\s*%\s+(\w+)")


@dataclass(frozen=True, slots=True)
class Bound:
    """A value must be at least, or at most, a limit."""

    column: str
    least: bool
    limit: float

    def reason(self, value: float) -> str | None:
        limit = float(np.float32(self.limit))  # to the precision of scores
        if value >= limit if self.least else value <= limit:
            return None
        return f"{self.column} {value:.3g} is {'below' if self.least else 'above'} {self.limit:.3g}"


@dataclass(frozen=True, slots=True)
class Worst:
    """A value must not be among the worst `percent` of all."""

    column: str
    percent: float

    def bound(self, values: Sequence[float]) -> Bound:
        """The resulting limit: the worst value that is kept. Rows that equal it are kept too."""
        least = self.column not in LOW_IS_BETTER
        ordered = sorted(values, reverse=not least)
        gone = int(len(ordered) * self.percent / 100 + 1e-9)
        return Bound(self.column, least, ordered[gone] if gone < len(ordered) else (inf if least else -inf))


@dataclass(frozen=True, slots=True)
class NoDuplicates:
    """A row must not be a duplicate of an earlier one."""


Rule = Bound | Worst | NoDuplicates


def parse(text: str) -> list[Rule]:
    """The rules in a text, one per line; raises InputError for any other line."""
    lines = [line.strip() for line in text.splitlines()]
    expanded = "\n".join(PRESETS.get(line.lower(), line) for line in lines)
    return [_rule(line) for line in expanded.splitlines() if line and not line.startswith("#")]


def check(rules: Sequence[Rule], columns: Mapping[str, str]) -> None:
    """Raise InputError if a rule is about a column that will have no values.

    Args:
        rules: the rules to check.
        columns: the columns without values, each with what would give it values.
    """
    for rule in rules:
        if isinstance(rule, NoDuplicates):
            continue
        if rule.column not in NUMBERS:
            raise _no_column(rule.column, NUMBERS)
        if hint := columns.get(rule.column):
            raise InputError(f"a rule is about '{rule.column}', which clips won't have", input="rules", hint=hint)


def _rule(line: str) -> Rule:
    if line == "no duplicates":
        return NoDuplicates()
    if found := _BOUND.fullmatch(line):
        return Bound(found[1], found[2] in (">=", "≥"), float(found[3]))
    if (found := _WORST.fullmatch(line)) and float(found[1]) <= 100:
        return Worst(found[2], float(found[1]))
    raise InputError(
        f"'{line}' is not a rule",
        input="rules",
        hint="write 'motion >= 2', 'worst 25% motion', 'no duplicates' or 'lvd-f'",
    )


def reasons(rows: Sequence[Row], rules: Sequence[Rule]) -> list[list[str]]:
    """Why each row is dropped; no reasons for those that are kept.

    Raises:
        InputError: a rule is about a column that doesn't exist, isn't numeric, or has no values.
    """
    found: list[list[str]] = [[] for _ in rows]
    for rule in rules if rows else ():
        if isinstance(rule, NoDuplicates):
            for row, why in zip(rows, found, strict=True):
                if row.get("duplicate_of"):
                    why.append(f"shows the same as {row['duplicate_of']}")
            continue
        values = _values(rows, rule.column)
        bound = rule.bound([value for value in values if value is not None]) if isinstance(rule, Worst) else rule
        share = f", the worst {rule.percent:g} %" if isinstance(rule, Worst) else ""
        for value, why in zip(values, found, strict=True):
            if value is None:
                why.append(f"has no {rule.column}")
            elif reason := bound.reason(value):
                why.append(reason + share)
    return found


def _values(rows: Sequence[Row], column: str) -> list[float | None]:
    found = [row.get(column) for row in rows]
    if any(isinstance(value, str | bytes | list | bool | np.ndarray) for value in found) or column not in rows[0]:
        raise _no_column(column, [name for name, value in rows[0].items() if isinstance(value, int | float)])
    values = [None if value is None or isnan(value) else float(np.float32(value)) for value in found]
    if all(value is None for value in values):
        raise InputError(
            f"a rule is about '{column}', for which no row has a value", input="rules", hint="leave it out"
        )
    return values


def _no_column(column: str, there: Collection[str]) -> InputError:
    hint = suggestion(column, there) or f"there are {', '.join(there)}"
    return InputError(f"a rule is about '{column}', which is not a column of numbers", input="rules", hint=hint)
