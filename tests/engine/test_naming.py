"""Patterns in the names of saved files: the time, and values of the workflow."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.run.naming import Names
from nodes import registry

NOW = time.strptime("2024-02-09 07:08:59", "%Y-%m-%d %H:%M:%S")
GRAPH: dict[str, Any] = {
    "1": {"class_type": "KeyframeSampler", "inputs": {"prompt": "a fish: red/blue?", "seed": 7, "guidance": 6.0}},
    "2": {"class_type": "KeyframeSampler", "inputs": {"seed": ["3", 0]}, "_meta": {"title": "Second"}},
    "3": {"class_type": "Text", "inputs": {"text": "../../etc"}, "_meta": {"title": "1"}},
    "4": {"class_type": "Face", "inputs": {"words": "given"}},
    "5": {"class_type": "Unknown", "inputs": {"on": True, "list": [1, 2.5], "none": None, "empty": ""}},
}
INNER = {"inputs": {"words": "say.text"}, "graph": {"say": {"class_type": "Say", "inputs": {"text": "own"}}}}
DOCUMENT = {"kinograph": 1, "graph": GRAPH, "subgraphs": {"Face": INNER}}


def name(prefix: str, batch: int = 0) -> str:
    return names().of_file(prefix, NOW, batch)


def names() -> Names:
    prepared = prepare(Workflow.read(DOCUMENT), registry())
    return Names(prepared.workflow, prepared.registry, prepared.flat.graph)


@pytest.mark.parametrize(
    ("prefix", "filled"),
    [
        ("a", "a"),
        ("%year%-%month%/%day%_%hour%.%minute%.%second%", "2024-02/09_07.08.59"),
        ("%date:yyyy-MM-dd%/a", "2024-02-09/a"),
        ("%date:yy.M.d hh-mm-ss%", "24.2.9 07-08-59"),
        ("%date:yyyy/MM/dd%_a", "2024/02/09_a"),
        ("%date:hh:mm%", "07_08"),
        ("%date:yyyddd%", "yyy099"),
        ("a_%batch_num%", "a_3"),
        ("%KeyframeSampler.seed%", "7"),
        ("%1.seed% %Second.steps%", "7 0"),
        ("%KeyframeSampler.guidance%", "6"),
        ("%KeyframeSampler.prompt%", "a fish_ red_blue_"),
        ("%Unknown.on% %Unknown.list% %5.none%", "true 1,2.5 "),
        ("%Face.words%-%Say.text%", "given-given"),
        ("%4/say.text%", "given"),
        ("%Text.text%/x", "_._.._etc/x"),
        ("x/%5.empty%", "x/_"),
        ("100% %of% %it.all%", "100% %of% %it.all%"),
        ("%no:such/node.x%", "%no_such_node.x%"),
        ("%width%x%height%", "%width%x%height%"),
    ],
)
def test_patterns_are_filled_in(prefix: str, filled: str) -> None:
    assert name(prefix, batch=3) == filled


def test_an_input_that_is_linked_has_no_value_to_show() -> None:
    assert name("%Second.seed%") == "%Second.seed%"


def test_a_name_with_a_long_value_still_is_one() -> None:
    GRAPH["6"] = {"class_type": "Long", "inputs": {"text": "é" * 500}}
    assert name("a/%Long.text%/b") == f"a/{'é' * 100}/b"


def test_the_name_of_a_folder_never_says_when() -> None:
    assert names().of_folder("%year%_%date:yyyy%_%KeyframeSampler.seed%") == "%year%_%date_yyyy%_7"
