"""Plan a run, and extend the plan as more becomes known about its graph.

A graph without lists and choices is planned once. Any other is planned as far as it can be expanded, and further
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
from engine.graph.expand import OPAQUE, Expansion, Structure, expand, structure_of
from engine.graph.graph import Graph, Step
from engine.graph.keys import Key, node_keys
from engine.graph.plan import Plan, make_plan
from engine.run.costs import Costs
from engine.store.cache import Cache, Entry


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of a plan."""

    plan: Plan
    failures: tuple[Problem, ...]
    """Nodes that turned out not to be able to run."""
    lost: Mapping[str, str]
    """The steps newly found to be lost, and the node to blame, which may be the same."""
    complete: bool
    """Whether everything is expanded, so that the plan grows no more unless a node fails."""


class Planner:
    """Plans a graph and extends the plan; not safe to use from several threads at a time, except for reading.

    Args:
        graph: what `check` returned.
        device: where it runs, which enters the keys.
        cache: where the structures of lists are kept, so that a later run needn't compute a list to know its length.
        available: whether a step's outputs are held or being computed.
        costs: how long nodes are expected to take.
    """

    def __init__(self, graph: Graph, device: str, cache: Cache, available: Callable[[Key], bool], costs: Costs) -> None:
        self.checked = graph
        self.device = device
        self.keys: Mapping[str, Key] = {}
        """By step of the expanded graph."""
        self.targets: dict[Key, list[Step]] = {}
        """The steps whose outputs the run is for."""
        self._cache = cache
        self._available = available
        self._costs = costs
        self._expansion = Expansion(graph, graph.targets)
        self._known: dict[str, tuple[Key, Structure]] = {}
        self._structures: dict[Key, Structure] = {}
        self._failed: dict[str, None] = {}
        self._failed_keys: set[Key] = set()
        self._done: set[str] = set()
        self._due_lock = Lock()
        self._reported: set[str] = set()
        """The failed and lost steps that have been reported."""
        self._awaited: set[Key] = set()

    @property
    def graph(self) -> Graph:
        """The graph, expanded as far as possible."""
        return self._expansion.graph

    @property
    def expected(self) -> tuple[str, ...]:
        """The steps that the run is for, in order, where they are known."""
        return self._expansion.targets

    def kind_of(self, node: str) -> str:
        """The kind of node that an id of the expanded graph belongs to."""
        step = self.checked.steps.get(node) or self.checked.steps[split_id(node)[0]]
        return step.kind.spec.kind

    def learn(self, key: Key, entry: Entry) -> bool:
        """Record the outputs of a step; returns whether the plan can be extended with them."""
        structure = self._structures[key] = structure_of(entry.outputs)
        stored = _structure_key(key)
        has_lists = any(isinstance(output, tuple) for output in structure)
        if has_lists and entry.lasting and not self._cache.held(stored):
            self._cache.put(stored, (json.dumps(structure, default=_as_json),), entry.seconds, upstream=0, keep=True)
        return key in self._awaited

    def due(self, key: Key) -> list[Step]:
        """The targets with that key that no earlier call has returned."""
        with self._due_lock:
            steps = [step for step in self.targets.get(key, ()) if step.id not in self._done]
            self._done.update(step.id for step in steps)
        return steps

    def fail(self, key: Key) -> list[str]:
        """Record that a step has failed; returns its ids as a target, which will deliver nothing."""
        if not self.checked.dynamic:
            return [step.id for step in self.targets.get(key, ())]
        self._failed_keys.add(key)
        names = [step for step, other in self.keys.items() if other == key]
        self._failed.update(dict.fromkeys(names))
        self._reported.update(names)
        return names

    def skipped(self, steps: Iterable[tuple[str, Key]]) -> list[str]:
        """Of steps that can't run, those that have not been reported, nor been replaced by another."""
        lost = dict.fromkeys(s for s, key in steps if self.keys.get(s, key) == key and s not in self._reported)
        self._reported.update(lost)
        return list(lost)

    def extend(self) -> Extension:
        """Expand the graph as far as possible, and plan what is not done."""
        self._expand()
        expansion, graph = self._expansion, self.graph
        targets: dict[Key, list[Step]] = {}
        for node in graph.targets:
            targets.setdefault(self.keys[node], []).append(graph.steps[node])
        self.targets = targets  # atomically: other threads read it
        wanted = [node for node in graph.targets if node not in self._done]
        seconds = self._costs.of if self._costs else None
        plan = make_plan(graph, self.keys, self._available, [*expansion.awaited, *wanted], seconds)
        failures = [problem for node, problem in expansion.failures.items() if node in expansion.lost]
        lost = {node: blame for node, blame in expansion.lost.items() if node not in self._reported}
        self._reported.update(lost)
        new_failures = tuple(problem for problem in failures if problem.node in lost)
        return Extension(plan, new_failures, lost, complete=not expansion.awaited)

    def recover(self, step: str, key: Key) -> Plan:
        """The plan to compute outputs that were to be fetched but are no longer held."""
        return make_plan(self.graph, self.keys, lambda other: other != key and self._available(other), targets=[step])

    def check_alone(self, plan: Plan) -> None:
        """Raise MissingError for outputs that the targets need, also through steps that are never held, and that
        aren't held.
        """
        passing = set[Key]()
        """Volatile steps and what depends on them."""
        for key, step in plan.runs.items():  # each after its sources
            if step.kind.spec.volatile or not passing.isdisjoint(plan.sources[key]):
                passing.add(key)
        anew = passing | {key for key, step in plan.runs.items() if key in self.targets or not step.kind.spec.storable}
        taken = {source for key in anew for source in plan.sources[key]} | self._awaited
        missing = [
            Problem("has not been computed, or is no longer kept", step.id, hint="run it together with what it needs")
            for key, step in plan.runs.items()
            if key in taken - anew
        ]
        if missing:
            raise MissingError.of(missing)

    def _expand(self) -> None:
        """Expand with all that is known, including lists that earlier runs recorded."""
        while True:
            known = {step: structure for step, (_, structure) in self._known.items()}
            self._expansion = expand(self.checked, known, self._failed)
            self.keys = keys = node_keys(self.graph, self.device)
            # A list that lost an item has another key, as have the steps that use it: what was known of them is void.
            stale = [step for step, (key, _) in self._known.items() if keys.get(step, key) != key]
            failed = [step for step, key in keys.items() if key in self._failed_keys] if self._failed_keys else []
            found = {step: self._structure(keys[step]) for step in self._expansion.awaited if step not in failed}
            new = {step: (keys[step], structure) for step, structure in found.items() if structure is not None}
            if not (stale or failed or new):
                break
            for step in stale:
                del self._known[step]
            self._failed.update(dict.fromkeys(failed))
            self._known.update({step: known for step, known in new.items() if step not in stale})
        self._awaited = {self.keys[step] for step in self._expansion.awaited}

    def _structure(self, key: Key) -> Structure | None:
        if key in self._structures:
            return self._structures[key]
        if not self._cache.held(_structure_key(key)) or not (entry := self._cache.get(_structure_key(key))):
            return None
        return tuple(map(_from_json, json.loads(entry.outputs[0])))


def _structure_key(key: Key) -> Key:
    """The key under which the structure of an entry's outputs is stored."""
    return sha256(f"outline {key}".encode()).hexdigest()


def _as_json(value: Any) -> dict[str, Any]:
    assert value is OPAQUE
    return {}


def _from_json(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(map(_from_json, data))
    return OPAQUE if data == {} else data
