from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.graph.check import check
from engine.node import Context
from engine.run.execute import Execution
from engine.store.cache import Cache
from nodes import registry
from nodes.flow.nodes import CompareNumbers, NumberRange, Switch, TextContains


def results(graph: dict[str, Any], target: str) -> dict[str, tuple[Any, ...]]:
    execution = Execution(check(prepare(Workflow.read(graph), registry()), targets=[target]), cache=Cache(), out=Path())
    for _ in execution:
        pass
    return execution.results


@pytest.mark.parametrize(("on", "chosen"), [(True, "a"), (False, "b")])
def test_a_switch_passes_on_what_it_is_set_to(on: bool, chosen: str) -> None:
    assert Switch(on=on, if_on="a", if_off="b").run(Context()) == chosen


@pytest.mark.parametrize(
    ("relation", "holds"),
    [("<", [1, 0, 0]), ("≤", [1, 1, 0]), ("=", [0, 1, 0]), ("≠", [1, 0, 1]), ("≥", [0, 1, 1]), (">", [0, 0, 1])],
)
def test_numbers_are_compared(relation: Any, holds: list[int]) -> None:
    assert [CompareNumbers(a=a, relation=relation, b=2.0).run(Context()) for a in (1.0, 2.0, 3.0)] == list(
        map(bool, holds)
    )


def test_a_text_is_searched_for_in_another() -> None:
    assert TextContains(text="A Snail", part="snail").run(Context())
    assert not TextContains(text="A Snail", part="snail", match_case=True).run(Context())
    with pytest.raises(ValidationError, match="at least 1"):
        TextContains(text="a", part="")


def test_numbers_are_counted_from_any_to_any() -> None:
    assert NumberRange(first=5, count=3, step=-2).run(Context()) == (5, 3, 1)
    assert NumberRange(count=0).run(Context()) == ()


def test_a_text_decides_which_side_of_a_workflow_runs() -> None:
    graph = {
        "lines": {"class_type": "TextLines", "inputs": {"text": "a snail\n\n  a fox \nthe Snail"}},
        "about": {"class_type": "TextContains", "inputs": {"text": ["lines", 0], "part": "snail"}},
        "switch": {
            "class_type": "Switch",
            "inputs": {"on": ["about", 0], "if_on": ["lines", 0], "if_off": "something else"},
        },
    }
    found = results(graph, "switch")
    assert {name: outputs[0] for name, outputs in found.items()} == {
        "switch[0]": "a snail",
        "switch[1]": "something else",
        "switch[2]": "the Snail",
    }
