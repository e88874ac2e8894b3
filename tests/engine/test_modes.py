"""Muted nodes are as if they weren't there; bypassed ones pass on their inputs."""

from __future__ import annotations

from typing import Any

import pytest

from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from tests.engine.toys import Run, checked, node


def moded(mode: str, kind: str, **inputs: Any) -> dict[str, Any]:
    return node(kind, **inputs) | {"_meta": {"mode": mode}}


NUMBERS = {"0": node("Number", value=5), "1": node("Number", value=8)}


def result(graph: dict[str, Any], target: str) -> Any:
    return Run(graph, [target]).results[target]


def test_nodes_that_need_a_muted_one_are_left_out_and_the_others_run() -> None:
    graph = NUMBERS | {
        "2": moded("mute", "Slow", a=["0", 0]),
        "3": node("Mix", a=["2", 0]),
        "4": node("SaveNumber", number=["3", 0]),
        "5": node("SaveNumber", number=["1", 0]),
    }
    assert checked(graph).targets == ("5",)
    assert set(checked(graph).steps) == {"0", "1", "5"}


def test_an_input_that_has_a_default_falls_back_to_it_when_its_source_is_muted() -> None:
    graph = NUMBERS | {"2": node("Mix", a=["0", 0], b=["3", 0]), "3": moded("mute", "Number", value=9)}
    without = NUMBERS | {"2": node("Mix", a=["0", 0])}
    assert result(graph, "2") == result(without, "2")


def test_a_bypassed_node_passes_on_its_first_link_that_fits() -> None:
    graph = NUMBERS | {"2": moded("bypass", "Mix", a=["0", 0], b=["1", 0]), "3": node("Slow", a=["2", 0])}
    assert result(graph, "3") == 6


def test_a_bypassed_node_passes_on_the_link_in_the_same_place_or_else_the_first_that_fits() -> None:
    """Divide has two inputs and two outputs, all numbers."""
    graph = NUMBERS | {"2": moded("bypass", "Divide", a=["0", 0], by=["1", 0])}
    for slot, number in ((0, 5), ("quotient", 5), (1, 8), ("remainder", 8)):
        assert result(graph | {"3": node("Slow", a=["2", slot])}, "3") == number + 1


def test_nothing_takes_the_place_of_a_socket_that_fits_but_has_no_link() -> None:
    graph = NUMBERS | {"2": moded("bypass", "Divide", a=["0", 0], by=8), "3": node("Mix", a=["1", 0], b=["2", 1])}
    assert result(graph, "3") == result(NUMBERS | {"3": node("Mix", a=["1", 0])}, "3")


def test_a_bypassed_node_may_say_itself_what_it_passes_on() -> None:
    unknown = node("Elsewhere", x=["0", 0], y=["1", 0]) | {"_meta": {"mode": "bypass", "passes": {"0": "y"}}}
    graph = NUMBERS | {"2": unknown, "3": node("Slow", a=["2", 0])}
    assert result(graph, "3") == 9
    without = NUMBERS | {"2": unknown, "3": node("Mix", a=["0", 0], b=["2", 1])}
    assert result(without, "3") == result(NUMBERS | {"3": node("Mix", a=["0", 0])}, "3")


def test_bypassed_nodes_in_a_row_are_all_skipped() -> None:
    graph = NUMBERS | {
        "2": moded("bypass", "Slow", a=["0", 0]),
        "3": moded("bypass", "Slow", a=["2", 0]),
        "4": node("Slow", a=["3", 0]),
    }
    assert result(graph, "4") == 6


def test_without_a_link_that_fits_a_bypassed_node_counts_as_muted() -> None:
    graph = NUMBERS | {
        "2": moded("bypass", "Open", number=["0", 0]),
        "3": node("Use", handle=["2", 0]),
        "4": node("SaveNumber", number=["3", 0]),
        "5": node("SaveNumber", number=["0", 0]),
    }
    assert set(checked(graph).steps) == {"0", "1", "5"}


def test_a_cycle_of_bypassed_nodes_leads_nowhere() -> None:
    graph = NUMBERS | {
        "2": moded("bypass", "Slow", a=["3", 0]),
        "3": moded("bypass", "Slow", a=["2", 0]),
        "4": node("Mix", a=["0", 0], b=["2", 0]),
    }
    assert result(graph, "4") == result(NUMBERS | {"4": node("Mix", a=["0", 0])}, "4")


def test_a_muted_node_may_be_incomplete() -> None:
    graph = NUMBERS | {"2": moded("mute", "Mix"), "3": moded("mute", "NoSuchKind", x=1)}
    assert set(checked(graph, ["0"]).steps) == {"0", "1"}


def test_a_muted_node_can_not_be_a_target() -> None:
    graph = NUMBERS | {"2": moded("mute", "Slow", a=["0", 0])}
    with pytest.raises(WorkflowError, match="can't be run: it, or what it needs, is muted or bypassed"):
        checked(graph, ["2"])


def test_an_unknown_mode_is_reported_with_the_known_ones() -> None:
    with pytest.raises(WorkflowError, match=r"there is no mode 'mutes': the modes are mute and bypass.*mute"):
        checked(NUMBERS | {"2": moded("mutes", "Slow", a=["0", 0])}, ["0"])


def test_files_keep_their_modes() -> None:
    graph = NUMBERS | {"2": moded("mute", "Slow", a=["0", 0])}
    document = checked(graph, ["0"]).workflow.document()
    assert document == Workflow.read(graph).document()
    assert document["graph"]["2"]["_meta"] == {"mode": "mute"}
