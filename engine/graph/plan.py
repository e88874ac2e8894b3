"""What a run has to do: a pure function of the graph, its keys and what is held."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from engine.graph.graph import Graph, Step
from engine.graph.keys import Key


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a run, by key: nodes with equal keys are one step, named by the first of them."""

    runs: Mapping[Key, Step]
    """The steps that must run, each after its sources, branch by branch so that few values are alive at a time."""
    hits: Mapping[Key, Step]
    """The held steps that these need or that are targets."""
    sources: Mapping[Key, tuple[Key, ...]]
    """The steps whose outputs each of `runs` takes."""
    keys: Mapping[str, Key]
    """The keys of the nodes that steps link to. They may differ in a later plan, where a list has lost an item."""
    uses: Mapping[Key, int]
    """How many of `runs` take a step's outputs: after the last of them its value can be freed."""


def make_plan(
    graph: Graph,
    keys: Mapping[str, Key],
    held: Callable[[Key], bool],
    targets: Sequence[str] | None = None,
    seconds: Callable[[str], float] | None = None,
) -> Plan:
    """The plan that computes the targets (the graph's own if None). What lies above a hit is neither loaded nor run.

    Of several branches the longest comes first, by the `seconds` that each kind is expected to take.
    """
    wanted = graph.targets if targets is None else targets
    lengths: dict[str, float] = {}

    def shortest_first(nodes: Collection[str]) -> Collection[str]:
        if seconds is None or len(nodes) < 2:
            return nodes
        if not lengths:  # only where there is a choice
            lengths.update(_longest(graph, seconds))
        return sorted(nodes, key=lengths.__getitem__)

    runs: dict[Key, Step] = {}
    hits: dict[Key, Step] = {}
    sources: dict[Key, tuple[Key, ...]] = {}
    uses: dict[Key, int] = {}
    # Depth first, without recursion: a step stays on the stack and is ordered when it is met again after its sources.
    stack = list(shortest_first(wanted[::-1]))
    while stack:
        key = keys[stack[-1]]
        if key in runs or key in hits:
            stack.pop()
        elif key in sources:
            runs[key] = graph.steps[stack.pop()]
            for source in sources[key]:
                uses[source] = uses.get(source, 0) + 1
        elif held(key):
            hits[key] = graph.steps[stack.pop()]
        else:
            links = reversed(list(graph.steps[stack[-1]].sources()))
            below = {keys[source.node]: source.node for source in links}
            sources[key] = tuple(below)
            # The first input's branch on top, or the longest.
            stack += shortest_first(below.values())
    return Plan(runs, hits, sources, keys, uses)


def _longest(graph: Graph, seconds: Callable[[str], float]) -> dict[str, float]:
    """The expected seconds of the longest path up to and including each node."""
    longest: dict[str, float] = {}
    for node in graph.order:
        step = graph.steps[node]
        before = max((longest[source.node] for source in step.sources()), default=0.0)
        longest[node] = before + seconds(step.kind.spec.kind)
    return longest
