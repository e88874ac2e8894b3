"""Random graphs of toy nodes, and their expected results, computed without the engine."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.engine.toys import MODULUS, node


@st.composite
def graphs(draw: st.DrawFn, *, size: int = 8) -> dict[str, Any]:
    """A graph of numbers, mixes and divisions, in which each node links to earlier ones; "0" is a number."""
    graph: dict[str, Any] = {"0": node("Number", value=draw(st.integers(0, 3)))}
    for index in range(1, draw(st.integers(1, size))):
        graph[str(index)] = draw(entries(sorted(graph, key=int), graph))
    return graph


def entries(earlier: list[str], graph: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    def link(name: str) -> st.SearchStrategy[list[Any]]:
        slots = [0, 1, "quotient", "remainder"] if graph[name]["class_type"] == "Divide" else [0, "out"]
        return st.sampled_from([[name, slot] for slot in slots])

    links = st.sampled_from(earlier).flatmap(link)
    return st.one_of(
        st.builds(lambda value: node("Number", value=value), st.integers(0, 3)),
        st.builds(lambda a: node("Divide", a=a), links),
        st.builds(lambda a, b: node("Mix", a=a, b=b), links, links),
        st.builds(lambda a, b, scale: node("Mix", a=a, b=b, scale=scale), links, st.integers(0, 2), st.just(0.5)),
    )


def oracle(graph: dict[str, Any]) -> dict[str, Any]:
    """The first output of every node, by plain calls in the order of the names."""
    outputs: dict[str, tuple[int, ...]] = {}
    for name, entry in graph.items():

        def value(socket: str, default: float, inputs: dict[str, Any] = entry["inputs"]) -> Any:
            given = inputs.get(socket, default)
            if not isinstance(given, list):
                return given
            source, slot = given
            return outputs[source][{"out": 0, "quotient": 0, "remainder": 1}.get(slot, slot)]

        match entry["class_type"]:
            case "Number":
                outputs[name] = (value("value", 0),)
            case "Divide":
                outputs[name] = divmod(value("a", 0), value("by", 10))
            case "Mix":
                outputs[name] = ((value("a", 0) * 31 + value("b", 1) * 7 + int(value("scale", 1) * 3) + 1) % MODULUS,)
    return {name: given[0] for name, given in outputs.items()}
