"""Workflows as ComfyUI's editor saves them, with the graphs that it makes of them: a pair for every rule.

The pairs are our own graphs of the kinds in `pairs/kinds.json`. They were opened in ComfyUI's editor (front end 1.58.1,
with its extension KJNodes where there are variables; group nodes in 1.35.9), saved there, and queued.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.document.formats import from_ui
from engine.document.prepared import prepare
from engine.document.workflow import NodeEntry, as_constant, as_link
from tests.engine.described import PAIRS, described

NAMES = sorted(path.stem for path in PAIRS.glob("*.json") if path.stem != "kinds")


def pair(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((PAIRS / f"{name}.json").read_text())
    return read


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_editor_means_the_graph_that_the_editor_makes_of_it(name: str) -> None:
    about = pair(name)
    prepared = prepare(from_ui(about["ui"], described()), described())
    assert not prepared.problems
    graph = prepared.active.graph
    api = {node: NodeEntry.model_validate(entry) for node, entry in about["api"].items()}
    assert {node.replace("/", ":"): meaning(entry, graph) for node, entry in graph.items()} == {
        node: meaning(entry, api) for node, entry in api.items()
    }, about["rule"]


def meaning(entry: NodeEntry, graph: dict[str, NodeEntry]) -> Any:
    """A node with the ids that the editor gives to nodes within subgraphs, and the indices of outputs."""

    def meant(value: Any) -> Any:
        link = as_link(value)
        if link is None:
            return as_constant(value)
        kind = described().get(graph[link.node].class_type) if link.node in graph else None
        slot = kind.spec.slot(link.slot) if kind else None
        return [link.node.replace("/", ":"), link.slot if slot is None else slot]

    return entry.class_type, {name: meant(value) for name, value in entry.inputs.items()}


def test_there_is_a_pair_for_every_rule() -> None:
    rules = [pair(name)["rule"] for name in NAMES]
    assert len({*rules}) == len(rules) >= 18
