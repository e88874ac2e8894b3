"""The plan of a run as it grows: what is known of its graph by now, and what has to be done for it.

A graph without lists and choices is planned once. Any other is planned as far as it can be written out, and further
whenever an awaited value comes in or an item fails (`engine.graph.expand`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Any

from engine.document.workflow import split_id
from engine.errors import MissingError, Problem
from engine.graph.expand import VALUE, Expansion, Outline, expand, outline
from engine.graph.graph import Graph, Step
from engine.graph.keys import Key, node_keys
from engine.graph.plan import Plan, make_plan
from engine.run.costs import Costs
from engine.store.cache import Cache


@dataclass(frozen=True, slots=True)
class Growth:
    """What has come to a plan."""

    plan: Plan
    failures: tuple[Problem, ...]
    """Nodes that turned out not to be able to run."""
    lost: Mapping[str, str]
    """What was not told before to be lost, and the node to blame, which may be the same."""


class Planner:
    """Plans a graph and goes on planning; not safe to use from several threads at a time, but for reading.

    Args:
        graph: what `check` returned.
        device: where it runs, which enters the keys.
        cache: where the outlines of lists are kept, so that a later run needn't make a list to know its length.
        here: whether a step's outputs are held or being made.
        costs: what nodes are expected to take.
    """

    def __init__(self, graph: Graph, device: str, cache: Cache, here: Callable[[Key], bool], costs: Costs) -> None:
        self.whole = graph
        self.device = device
        self.keys: Mapping[str, Key] = {}
        """By step of the graph as it is written out."""
        self.targets: dict[Key, list[Step]] = {}
        """The steps whose outputs the run is for."""
        self._cache = cache
        self._here = here
        self._costs = costs
        self._expansion = Expansion(graph, graph.targets)
        self._known: dict[str, tuple[Key, Outline]] = {}
        self._outlines: dict[Key, Outline] = {}
        self._failed: dict[str, None] = {}
        self._failed_keys: set[Key] = set()
        self._done: set[str] = set()
        self._due = Lock()
        self._told: set[str] = set()
        self._awaited: set[Key] = set()

    @property
    def graph(self) -> Graph:
        """The graph as far as it is written out."""
        return self._expansion.graph

    @property
    def expected(self) -> tuple[str, ...]:
        """The steps that the run is for, in order, as far as they are known."""
        return self._expansion.targets

    def kind_of(self, node: str) -> str:
        """What kind of node an id of the expanded graph is of."""
        step = self.whole.steps.get(node) or self.whole.steps[split_id(node)[0]]
        return step.kind.spec.kind

    def learn(self, key: Key, outputs: tuple[Any, ...], seconds: float) -> bool:
        """Take note of outputs, which took `seconds`; returns whether planning can go on with them."""
        told = self._outlines[key] = outline(outputs)
        if any(isinstance(output, tuple) for output in told) and not self._cache.held(_outline_key(key)):
            self._cache.put(_outline_key(key), (json.dumps(told, default=_as_json),), seconds, upstream=0, keep=True)
        return key in self._awaited

    def due(self, key: Key) -> list[Step]:
        """The targets of that key whose outputs have not been asked for here before."""
        with self._due:
            steps = [step for step in self.targets.get(key, ()) if step.id not in self._done]
            self._done.update(step.id for step in steps)
        return steps

    def fail(self, key: Key) -> list[str]:
        """Take note that a step has failed, and return what will give nothing now: the names it has as a target."""
        if not self.whole.dynamic:
            return [step.id for step in self.targets.get(key, ())]
        self._failed_keys.add(key)
        names = [step for step, other in self.keys.items() if other == key]
        self._failed.update(dict.fromkeys(names))
        self._told.update(names)
        return names

    def skipped(self, steps: Iterable[tuple[str, Key]]) -> list[str]:
        """Of steps that can't run, those that have not been told and that no other has come to stand for."""
        lost = dict.fromkeys(s for s, key in steps if self.keys.get(s, key) == key and s not in self._told)
        self._told.update(lost)
        return list(lost)

    def grow(self) -> Growth:
        """Write the graph out as far as can be, and plan what is not done."""
        self._expand()
        expansion, graph = self._expansion, self.graph
        targets: dict[Key, list[Step]] = {}
        for node in graph.targets:
            targets.setdefault(self.keys[node], []).append(graph.steps[node])
        self.targets = targets  # at once: other threads read it
        wanted = [node for node in graph.targets if node not in self._done]
        seconds = self._costs.of if self._costs else None
        plan = make_plan(graph, self.keys, self._here, [*expansion.awaited, *wanted], seconds)
        failures = [problem for node, problem in expansion.failures.items() if node in expansion.lost]
        lost = {node: blame for node, blame in expansion.lost.items() if node not in self._told}
        self._told.update(lost)
        news = tuple(problem for problem in failures if problem.node in lost)
        return Growth(plan, news, lost)

    def recover(self, step: str, key: Key) -> Plan:
        """The plan to make what was to be fetched and isn't there."""
        return make_plan(self.graph, self.keys, lambda other: other != key and self._here(other), targets=[step])

    def check_alone(self, plan: Plan) -> None:
        """Raise MissingError for what the targets take, if need be by way of what is never held, and isn't held."""
        anew = {key for key, step in plan.runs.items() if key in self.targets or not step.kind.spec.storable}
        taken = {source for key in anew for source in plan.sources[key]} | self._awaited
        missing = [
            Problem("has not been computed, or is no longer kept", step.id, hint="--until computes what is needed too")
            for key, step in plan.runs.items()
            if key in taken - anew
        ]
        if missing:
            raise MissingError.of(missing)

    def _expand(self) -> None:
        """Expand with all that is known, lists included that earlier runs took note of."""
        while True:
            known = {step: told for step, (_, told) in self._known.items()}
            self._expansion = expand(self.whole, known, self._failed)
            self.keys = keys = node_keys(self.graph, self.device)
            # A list that lost an item has another key, and so has what is made of it: what was known of that is void.
            stale = [step for step, (key, _) in self._known.items() if keys.get(step, key) != key]
            failed = [step for step, key in keys.items() if key in self._failed_keys] if self._failed_keys else []
            outlines = {step: self._outline(keys[step]) for step in self._expansion.awaited if step not in failed}
            news = {step: (keys[step], told) for step, told in outlines.items() if told is not None}
            if not (stale or failed or news):
                break
            for step in stale:
                del self._known[step]
            self._failed.update(dict.fromkeys(failed))
            self._known.update({step: told for step, told in news.items() if step not in stale})
        self._awaited = {self.keys[step] for step in self._expansion.awaited}

    def _outline(self, key: Key) -> Outline | None:
        if key in self._outlines:
            return self._outlines[key]
        if not self._cache.held(_outline_key(key)) or not (entry := self._cache.get(_outline_key(key))):
            return None
        return tuple(map(_from_json, json.loads(entry.outputs[0])))


def _outline_key(key: Key) -> Key:
    return sha256(f"outline {key}".encode()).hexdigest()


def _as_json(value: Any) -> dict[str, Any]:
    assert value is VALUE
    return {}


def _from_json(told: Any) -> Any:
    if isinstance(told, list):
        return tuple(map(_from_json, told))
    return VALUE if told == {} else told
