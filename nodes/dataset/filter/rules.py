"""Rules that say which clips are kept.

    text_area <= 0.07
    worst 25% motion
    no duplicates
    no damage
    lvd-f

The last stands for its rules in `PRESETS`. Percentages are of all rows, whatever other rules drop: as for Stable Video
Diffusion, each column is judged by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import InputError, Problem
from nodes.dataset.presets import PRESETS

NEEDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "aesthetics": (("clip",), ("aesthetics",)),
    "caption_similarity": (("clip",), ("image_captioner", "video_captioner")),
    "image_caption_similarity": (("clip",), ("image_captioner",)),
    "video_caption_similarity": (("clip",), ("video_captioner",)),
    "summary_similarity": (("clip",), ("image_captioner", "video_captioner"), ("llm",)),
}
"""The columns that models fill in, with the inputs that name these models: one of each group is needed."""

_BOUND = re.compile(r"(\w+)\s*(<=|>=|≤|≥)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)")
_WORST = re.compile(r"worst\s+(\d+(?:\.\d+)?)\s*%\s+(\w+)")


@dataclass(frozen=True, slots=True)
class Bound:
    """A value must be at least, or at most, a limit."""

    column: str
    least: bool
    limit: float


@dataclass(frozen=True, slots=True)
class Worst:
    """A value must not be among the worst `percent` of all."""

    column: str
    percent: float


@dataclass(frozen=True, slots=True)
class NoDuplicates:
    """A row must not be a duplicate of an earlier one."""


@dataclass(frozen=True, slots=True)
class NoDamage:
    """A clip must have no damaged stretch."""

    column: str = "damaged"


Rule = Bound | Worst | NoDuplicates | NoDamage


def parse(text: str) -> list[Rule]:
    """The rules in a text, one per line; raises InputError for any other line."""
    lines = [line.strip() for line in text.splitlines()]
    expanded = "\n".join(PRESETS.get(line.lower(), line) for line in lines)
    return [_rule(line) for line in expanded.splitlines() if line and not line.startswith("#")]


def about(rules: Sequence[Rule]) -> list[str]:
    """The columns that rules judge, each once."""
    return list(dict.fromkeys(rule.column for rule in rules if not isinstance(rule, NoDuplicates)))


def without_models(rules: Sequence[Rule], given: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem for each column that a rule judges, but for which a model isn't named.

    Args:
        rules: the rules to look at.
        given: the inputs by name, empty or None where no model is named; those that are left out count as named.
    """
    for column in about(rules):
        lacking = [group for group in NEEDS.get(column, ()) if not any(given.get(name, True) for name in group)]
        if lacking:
            hint = f"set {_named(lacking)}, or leave the rule out"
            yield Problem(f"a rule judges {column}, for which no model is named", input=lacking[0][0], hint=hint)


def models_for(column: str) -> str:
    """The inputs that name the models which a column needs, such as "clip and aesthetics"; "" if it needs none."""
    return _named(NEEDS.get(column, ()))


def _named(groups: Sequence[Sequence[str]]) -> str:
    return " and ".join(" or ".join(group) for group in groups)


def _rule(line: str) -> Rule:
    if line == "no duplicates":
        return NoDuplicates()
    if line == "no damage":
        return NoDamage()
    if found := _BOUND.fullmatch(line):
        return Bound(found[1], found[2] in (">=", "≥"), float(found[3]))
    if (found := _WORST.fullmatch(line)) and float(found[1]) <= 100:
        return Worst(found[2], float(found[1]))
    raise InputError(
        f"'{line}' is not a rule",
        input="rules",
        hint="write 'motion >= 2', 'worst 25% motion', 'no duplicates', 'no damage' or 'lvd-f'",
    )
