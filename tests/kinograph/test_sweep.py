"""`kinograph.sweep`: every combination of some inputs' values."""

from __future__ import annotations

import csv
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

import kinograph
from kinograph import File, Graph, Image
from kinograph.results import shown
from tests.engine.toys import RAN, FailOn, Mix, Number, SaveNumber, Slow, Tell


def graph() -> Graph:
    g = Graph(nodes=[FailOn, Mix, Number, SaveNumber, Slow])
    number = g.Number()
    passed = g.FailOn(a=g.Slow(a=number), bad=3)
    g.SaveNumber(number=g.Mix(a=passed))
    g.expose(number=number.inputs.value)
    return g


def test_every_combination_has_its_values_and_results_the_last_fastest() -> None:
    swept = kinograph.sweep(graph(), {"number": [0, 1], "mix.b": (1, 2, 3)}, {"mix.scale": 2.0}, progress=False)
    assert len(swept) == 6
    assert [tuple(one.inputs.values()) for one in swept] == [(n, b) for n in (0, 1) for b in (1, 2, 3)]
    assert [list(one.inputs) for one in swept] == [["number", "mix.b"]] * 6
    written = [one.results.paths[0].read_text() for one in swept]
    assert len(set(written)) == 6
    again = kinograph.run(graph(), {"number": 1, "mix.b": 3, "mix.scale": 2.0}, progress=False)
    assert again.paths[0].read_text() == written[-1]
    assert RAN["Slow"] == 2


def test_each_combination_has_the_reports_of_its_own_nodes() -> None:
    g = Graph(nodes=[Number, Tell])
    g.Tell(a=g.Number())
    swept = kinograph.sweep(g, {"number.value": [3, 5]}, progress=False)
    assert [one.results.reports["tell"]["number"].value for one in swept] == [3, 5]


def test_a_sheet_and_a_table_are_saved() -> None:
    swept = kinograph.sweep(graph(), {"number": [0, 1]}, out="grid", progress=False)
    assert swept.sheet.name == "sweep_00001.png"
    rows = list(csv.DictReader(swept.table.read_text().splitlines()))
    assert [(row["number"], row["status"]) for row in rows] == [("0", "done"), ("1", "done")]
    assert [row["files"] for row in rows] == [one.results.paths[0].name for one in swept]


def test_one_that_fails_costs_no_other() -> None:
    swept = kinograph.sweep(graph(), {"number": [1, 2, 4], "mix.b": [1, 2]}, progress=False)
    assert [one.results.status for one in swept] == ["done", "done", "failed", "failed", "done", "done"]
    for one in swept[2:4]:  # also the one that shares with the other what failed
        assert [failure.node for failure in one.results.failures] == ["fail_on"]
        with pytest.raises(kinograph.NodeError, match="node fail_on: ZeroDivisionError: 3 is bad"):
            one.results.check()


def test_what_is_not_saved_is_given() -> None:
    g = Graph(nodes=[Mix, Number])
    number = g.Number()
    g.output(mixed=g.Mix(a=number))
    swept = kinograph.sweep(g, {"number.value": range(3)}, progress=False)
    assert [one.results["mixed"] for one in swept] == [11 + 31 * value for value in range(3)]
    assert {one.results.status for one in swept} == {"done"}


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({}, kinograph.UsageError, "there are no axes"),
        ({"number": []}, kinograph.UsageError, "axis number: there are no values"),
        ({"number": [1, 1]}, kinograph.UsageError, "axis number: 1 is given twice"),
        ({"numbr": [1]}, kinograph.UsageError, "axis numbr: the workflow has no such input .*did you mean 'number'"),
        ({"number": range(2000)}, kinograph.UsageError, "2,000 combinations, and at most 1,000"),
        ({"number": ["1"]}, kinograph.WorkflowError, "should be a valid integer, not '1'"),
    ],
)
def test_axes_that_make_no_sense(axes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kinograph.sweep(graph(), axes, progress=False)


def test_a_combination_prints_as_one_line_and_values_in_short() -> None:
    g = Graph()
    many = g.EmptyImage(width=8, height=8, batch_size=2)
    (one,) = kinograph.sweep(g, {"empty_image.color": [1]}, progress=False)
    assert repr(one).startswith("<empty_image.color=1: done in ")
    assert "\n" not in repr(one)
    assert repr(one.results.values) == "{'empty_image': Image of 2 × 8×8}"
    results = g.run(until=many, progress=False)
    assert repr(results).endswith("\n  empty_image: Image of 2 × 8×8")


def test_lists_and_several_outputs_are_shown_by_their_parts() -> None:
    image = Image(torch.zeros(1, 3, 4, 8))
    both = namedtuple("Outputs", ["image", "text"])(image, "a boat")
    assert shown(both) == "(image=Image of 1 × 8×4, text='a boat')"
    assert shown((image,)) == "(Image of 1 × 8×4,)"
    assert shown(tuple(range(20))) == "(0, 1, 2, 3, 4, 5, 6, 7, … 12 more)"
    file = File(Path("/" + "long/" * 30 + "a.png"))
    assert shown((file,)) == f"({file!r},)"
