"""Judging clips by rules: why each is dropped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf, isnan

import numpy as np
import pyarrow as pa

from engine.errors import InputError, suggestion
from nodes.dataset.filter.rules import Bound, NoDamage, NoDuplicates, Rule, Worst, models_for
from nodes.dataset.table import CLIPS, Row

NUMBERS = [field.name for field in CLIPS if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
"""The columns of clips that rules can be about."""
LOW_IS_BETTER = frozenset({"text_area", "clipped", "damaged"})
"""Columns whose worst values are the highest; in all others, the lowest values are the worst."""


def check(rules: Sequence[Rule]) -> None:
    """Raise InputError if a rule is about a column that no clip has, so that this is known before a scan."""
    for rule in rules:
        if not isinstance(rule, NoDuplicates) and rule.column not in NUMBERS:
            raise _no_column(rule.column, NUMBERS)


def reasons(rows: Sequence[Row], rules: Sequence[Rule]) -> list[list[str]]:
    """Why each row is dropped; no reasons for those that are kept.

    Raises:
        InputError: a rule is about a column that doesn't exist, isn't numeric, or has no values.
    """
    judged = [_judged(rows, rule) for rule in rules] if rows else []
    return [[why[index] for why in judged if why[index]] for index in range(len(rows))]


def _judged(rows: Sequence[Row], rule: Rule) -> list[str]:
    """Why a rule drops each row; "" for those that it keeps."""
    if isinstance(rule, NoDuplicates):
        return [f"shows the same as {row['duplicate_of']}" if row.get("duplicate_of") else "" for row in rows]
    values = _values(rows, rule.column)
    if isinstance(rule, NoDamage):
        found = ["" if not value else f"is damaged for {max(value, 0.01):.2f} s" for value in values]
    else:
        bound = _bound(rule, [value for value in values if value is not None]) if isinstance(rule, Worst) else rule
        share = f", the worst {rule.percent:g} %" if isinstance(rule, Worst) else ""
        reasons = ["" if value is None else _reason(bound, value) for value in values]
        found = [reason and reason + share for reason in reasons]
    return [f"has no {rule.column}" if value is None else why for value, why in zip(values, found, strict=True)]


def _reason(bound: Bound, value: float) -> str:
    """Why a value is dropped; "" if it is kept."""
    limit = float(np.float32(bound.limit))  # to the precision of scores
    if value >= limit if bound.least else value <= limit:
        return ""
    return f"{bound.column} {value:.3g} is {'below' if bound.least else 'above'} {bound.limit:.3g}"


def _bound(rule: Worst, values: Sequence[float]) -> Bound:
    """The limit that a percentage comes to: the worst value that is kept. Rows that equal it are kept too."""
    least = rule.column not in LOW_IS_BETTER
    ordered = sorted(values, reverse=not least)
    gone = int(len(ordered) * rule.percent / 100 + 1e-9)
    return Bound(rule.column, least, ordered[gone] if gone < len(ordered) else (inf if least else -inf))


def _values(rows: Sequence[Row], column: str) -> list[float | None]:
    found = [row.get(column) for row in rows]
    if any(isinstance(value, str | bytes | list | bool | np.ndarray) for value in found) or column not in rows[0]:
        raise _no_column(column, [name for name, value in rows[0].items() if isinstance(value, int | float)])
    values = [None if value is None or isnan(value) else float(np.float32(value)) for value in found]
    if all(value is None for value in values):
        models = models_for(column)
        hint = f"curate with {models} set, or leave the rule out" if models else "leave the rule out"
        raise InputError(f"a rule is about '{column}', for which no row has a value", input="rules", hint=hint)
    return values


def _no_column(column: str, there: Collection[str]) -> InputError:
    hint = suggestion(column, there) or f"there are {', '.join(there)}"
    return InputError(f"a rule is about '{column}', which is not a column of numbers", input="rules", hint=hint)
