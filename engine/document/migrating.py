"""Migration of old workflows: inputs that their kinds have renamed, removed or replaced since (`engine.changes`).

A document and its subgraph definitions are migrated once, before anything else happens to them, so that everything
after that, including what is embedded in saved files, only sees present names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.document.workflow import NodeEntry, Workflow, as_constant, as_json, as_link, split_path
from engine.errors import Problem
from engine.node import Node
from engine.registry import Registry


@dataclass(frozen=True)
class Migrated:
    """A workflow with present names."""

    workflow: Workflow
    problems: tuple[Problem, ...] = ()
    """Values that couldn't be converted."""
    warnings: tuple[Problem, ...] = ()
    """Values that were dropped."""


def migrated(workflow: Workflow, registry: Registry) -> Migrated:
    """The workflow with present names; the same object if nothing in it is old.

    Values that only a pack's own code can convert stay as they are until the pack is imported.
    """
    kinds = {name: kind for name, kind in registry.items() if kind.spec.changes}
    levels = [workflow, *workflow.subgraphs.values()] if kinds else []
    if not any(entry.class_type in kinds for level in levels for entry in level.graph.values()):
        return Migrated(workflow)
    return _Migration(workflow, kinds).result()


class _Migration:
    """Migrates a workflow, and collects problems and warnings."""

    def __init__(self, workflow: Workflow, kinds: Mapping[str, type[Node]]) -> None:
        self.workflow = workflow
        self.kinds = kinds
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.gone = self._gone()

    def result(self) -> Migrated:
        subgraphs = {name: self._level(name, inner) for name, inner in self.workflow.subgraphs.items()}
        whole = self._level(None, self.workflow).model_copy(update={"subgraphs": subgraphs})
        return Migrated(whole, tuple(self.problems), tuple(self.warnings))

    def _gone(self) -> dict[str | None, set[str]]:
        """The exposed names that lead to removed inputs, by subgraph; None stands for the document itself."""
        levels: dict[str | None, Workflow] = {None: self.workflow}
        levels.update(self.workflow.subgraphs)
        gone: dict[str | None, set[str]] = {name: set() for name in levels}
        growing = True
        while growing:
            growing = False
            for name, level in levels.items():
                found = {exposed for exposed, path in level.inputs.items() if self._is_gone(level, path, gone)}
                growing = growing or found > gone[name]
                gone[name] |= found
        return gone

    def _is_gone(self, level: Workflow, path: str, gone: Mapping[str | None, set[str]]) -> bool:
        node, socket = split_path(path, level.graph)
        kind = level.graph[node].class_type if node in level.graph else ""
        return socket in gone.get(kind, ()) or (kind in self.kinds and socket in self.kinds[kind].spec.changes.removed)

    def _level(self, name: str | None, level: Workflow) -> Workflow:
        for exposed in sorted(self.gone[name]) if name is None else ():
            message = f"the exposed input '{exposed}' is dropped: '{level.inputs[exposed]}' no longer exists"
            self.warnings.append(Problem(message))
        graph = {node: self._entry(name, node, entry) for node, entry in level.graph.items()}
        inputs = {
            exposed: self._path(level, path) for exposed, path in level.inputs.items() if exposed not in self.gone[name]
        }
        return level.model_copy(update={"graph": graph, "inputs": inputs})

    def _path(self, level: Workflow, path: str) -> str:
        """A path to an input by its present name."""
        node, socket = split_path(path, level.graph)
        kind = self.kinds.get(level.graph[node].class_type) if node in level.graph else None
        return f"{node}.{kind.spec.changes.today(socket)}" if kind else path

    def _entry(self, subgraph: str | None, node: str, entry: NodeEntry) -> NodeEntry:
        if gone := self.gone.get(entry.class_type):
            return _with(entry, {name: value for name, value in entry.inputs.items() if name not in gone})
        kind = self.kinds.get(entry.class_type)
        if kind is None or not kind.spec.changes.names & entry.inputs.keys():
            return entry
        changes, inputs, old = kind.spec.changes, dict[str, Any](), dict[str, Any]()
        for name, value in entry.inputs.items():
            if name in changes.removed:
                message = f"is ignored, as {entry.class_type} no longer has it: {changes.removed[name]}"
                self.warnings.append(Problem.within(subgraph, node, name, message))
            elif name in changes.replaced and not kind.spec.is_stand_in:
                old[name] = value
            elif (today := changes.today(name)) != name and today in entry.inputs:
                message = f"is ignored, as it is now called {today}, which is given too"
                self.warnings.append(Problem.within(subgraph, node, name, message))
            else:
                inputs[today] = value
        if old:
            return _with(entry, self._replaced(subgraph, node, kind, old) | inputs)
        return _with(entry, inputs)

    def _replaced(self, subgraph: str | None, node: str, kind: type[Node], old: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs that take the place of replaced ones.

        Links, which can't be converted, and constants that `replacing` refuses stay for the check to report.
        """
        links = {name: value for name, value in old.items() if as_link(value)}
        constants = {name: as_constant(value) for name, value in old.items() if name not in links}
        if not constants:
            return links
        try:
            made = json.loads(json.dumps(dict(kind.replacing(constants))))
            return {name: as_json(value) for name, value in made.items()} | links
        except Exception as error:  # noqa: BLE001 - a node author's code, given whatever a file contains
            name = next(iter(constants))
            message = f"can't be converted: {type(error).__name__}: {error}"
            self.problems.append(Problem.within(subgraph, node, name, message, kind.spec.changes.hint(name)))
            return dict(old)


def _with(entry: NodeEntry, inputs: Mapping[str, Any]) -> NodeEntry:
    return entry.model_copy(update={"inputs": dict(inputs)})
