"""Kinds of `__main__`: their keys contain their code, with what it uses there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.graph.code import code_digest
from engine.graph.keys import part_key, step_key
from tests.engine.toys import Number, checked, node

ROOT = Path(__file__).parents[2]

CELL = """
import enum, functools, random

FACTOR = 3
NAMES = {"a": (1, 2.5), "b": [None, True]}
class Side(enum.Enum):
    LEFT = 1
def helper(x):
    return x * FACTOR + (1 if x in {"a", "b", "c"} else 0)
@functools.cache
def known(x): return x + 7
class Base:
    def base(self): return 1
    def more(self): return known(1)
class Kind(Base):
    SIZE = 4
    @classmethod
    def made(cls): return cls()
    @property
    def wide(self): return [n for n in (1, 2)]
    def run(self, ctx, side=Side.LEFT):
        "What it does."
        inner = lambda: helper(self.base()) + random.random()
        return inner(), NAMES, self.SIZE, functools.partial(helper, 2)
"""


def digest(cell: str = CELL) -> str:
    around: dict[str, Any] = {"__name__": "__main__"}
    exec(cell, around)
    return code_digest(around["Kind"])


def test_equal_code_has_an_equal_digest_in_every_process() -> None:
    code = "from tests.engine.test_code import digest; print(digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()
        for _ in range(2)
    }
    assert digests == {digest()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x + 7", "x + 8"),
        ("FACTOR = 3", "FACTOR = 4"),
        ("return x * FACTOR", "return x + FACTOR"),
        ('"b", "c"}', '"b", "d"}'),
        ("True]", "False]"),
        ("SIZE = 4", "SIZE = 5"),
        ("def base(self): return 1", "def base(self): return 2"),
        ("return cls()", "return cls"),
        ("for n in (1, 2)", "for n in (1, 3)"),
        ("Side.LEFT)", "Side(1).name)"),
        ("lambda: helper", "lambda: -helper"),
        ("partial(helper, 2)", "partial(helper, 3)"),
        ("class Kind(Base)", "class Kind"),
    ],
)
def test_changes_that_affect_results_change_the_digest(before: str, after: str) -> None:
    assert CELL.count(before) == 1
    assert digest(CELL.replace(before, after)) != digest()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import enum", "# a comment\n\nimport enum"),
        ("FACTOR = 3", "FACTOR = 3; OTHER = 5\ndef unused(): return OTHER"),
        ("        return inner()", "        # a comment\n        return inner()"),
        ("def helper(x):", "def helper(x):\n"),
    ],
)
def test_changes_that_do_not_affect_results_keep_the_digest(before: str, after: str) -> None:
    assert digest(CELL.replace(before, after)) == digest()


def changing(change: Callable[[dict[str, Any]], object]) -> bool:
    """Whether a change to the same notebook changes the digest of a kind that stays as it is."""
    around: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "seen = []; model = object(); factor = 2; count = 0\n"
        "def helper(x): return x * factor\n"
        "class Kind:\n"
        "    runs = 0\n"
        "    def run(self, ctx):\n"
        "        global count\n"
        "        count += 1; seen.append(1); type(self).runs += 1\n"
        "        return helper(model)\n",
        around,
    )
    before = code_digest(around["Kind"])
    change(around)
    return code_digest(around["Kind"]) != before


def test_what_a_class_uses_is_read_again_each_time() -> None:
    assert changing(lambda around: around.update(factor=3))
    assert changing(lambda around: exec("def helper(x): return x + factor", around))
    assert changing(lambda around: around.update(model=object()))
    assert changing(lambda around: around.update(seen=[5]))


def test_what_a_class_records_itself_keeps_the_digest() -> None:
    assert not changing(lambda around: around["seen"].append(1))
    assert not changing(lambda around: around.update(count=7))
    assert not changing(lambda around: setattr(around["Kind"], "runs", 7))
    assert not changing(lambda around: around.update(seen=[]))


def test_an_object_that_contains_itself_has_a_digest() -> None:
    around: dict[str, Any] = {"__name__": "__main__"}
    exec("items = []; items.append(items)\nclass Kind:\n    def run(self): return items, Kind, self.run", around)
    assert code_digest(around["Kind"]) == code_digest(around["Kind"])


def test_it_enters_only_the_keys_of_kinds_of_main(monkeypatch: pytest.MonkeyPatch) -> None:
    step = checked({"n": node("Number")}, ["n"]).steps["n"]
    before = step_key(step, {}, "cpu"), part_key(Number, "part", "cpu")
    monkeypatch.setattr(Number, "__module__", "__main__")
    assert step_key(step, {}, "cpu") != before[0]
    assert part_key(Number, "part", "cpu") != before[1]
