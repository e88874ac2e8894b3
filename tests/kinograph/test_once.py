"""Whatever is done with a workflow, its subgraphs are inlined once."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import kinograph
from engine.document import subgraphs
from tests.engine.toys import Mix, Number, SaveNumber, node

NODES = [Mix, Number, SaveNumber]
INNER = {
    "inputs": {"value": "number.value"},
    "outputs": {"mixed": ["mix", 0]},
    "graph": {"number": node("Number"), "mix": node("Mix", a=["number", 0], b=2)},
}


def document(prefix: str = "n", **about: Any) -> dict[str, Any]:
    graph = {"inner": node("Inner", value=3), "save": node("SaveNumber", number=["inner", 0], prefix=prefix)}
    return {"kinograph": 1, "graph": graph, "subgraphs": {"Inner": INNER}} | about


@pytest.fixture
def inlinings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The workflows that have been inlined, wherever that was asked for."""
    seen, original = list[Any](), subgraphs.inlined

    def counted(workflow: Any, registry: Any) -> Any:
        seen.append(workflow)
        return original(workflow, registry)

    for module in [*sys.modules.values()]:
        if getattr(module, "__dict__", {}).get("inlined") is original:
            monkeypatch.setattr(module, "inlined", counted)
    return seen


def test_by_a_run(inlinings: list[Any]) -> None:
    kinograph.run(document(), {"inner.value": 5}, nodes=NODES, progress=False).check()
    assert len(inlinings) == 1


def test_by_a_run_whose_prefix_names_a_value_within_a_subgraph(inlinings: list[Any]) -> None:
    results = kinograph.run(document("%Number.value%_%Mix.b%"), {"inner.value": 5}, nodes=NODES, progress=False)
    assert [path.name.partition("_0")[0] for path in results.paths] == ["5_2"]
    assert len(inlinings) == 1


@pytest.mark.parametrize("until", [["inner"], ["inner", "save"]])
def test_by_a_run_up_to_some_nodes(inlinings: list[Any], until: list[str]) -> None:
    results = kinograph.run(document(), until=until, nodes=NODES, progress=False)
    assert results["inner"] == (3 * 31 + 14 + 3 + 1)
    assert len(inlinings) == 1


def test_by_a_run_for_outputs(inlinings: list[Any]) -> None:
    results = kinograph.run(document(outputs={"end": ["inner", "mixed"]}), nodes=NODES, progress=False)
    assert results["end"] == (3 * 31 + 14 + 3 + 1)
    assert len(inlinings) == 1


def test_by_validating(inlinings: list[Any]) -> None:
    kinograph.validate(document(), nodes=NODES)
    assert len(inlinings) == 1


def test_by_a_sweep(inlinings: list[Any]) -> None:
    axes = {"inner.value": [1, 2], "save.prefix": ["%Number.value%a", "%Number.value%b"]}
    swept = kinograph.sweep(document(), axes, nodes=NODES, progress=False)
    assert [one.results.paths[0].name[:2] for one in swept] == ["1a", "1b", "2a", "2b"]
    assert len(inlinings) == 1
