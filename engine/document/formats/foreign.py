"""Values in other programs' workflows that kinds of node here don't have: they are left out, and reported.

Newer versions of a program give its nodes more widgets, and extensions add some to all: ComfyUI ignores those that it
doesn't know. Links, without which a node does something else, are left for the check to report.
"""

from __future__ import annotations

from engine.document.workflow import NodeEntry, Workflow, as_link
from engine.errors import Problem, suggestion
from engine.registry import Registry

MOST_HINTS = 100
"""Problems up to which similar names are looked for."""


def without_unknown(workflow: Workflow, registry: Registry) -> Workflow:
    """The workflow without constants for inputs that its nodes don't have; `Workflow.ignored` tells them."""
    ignored: list[Problem] = []

    def cleaned(level: Workflow, subgraph: str | None) -> Workflow:
        graph = dict(level.graph)
        for node, entry in level.graph.items():
            if not (unknown := _unknown(entry, registry)):
                continue
            for name in unknown:
                message = f"is ignored: {entry.class_type} has no such input"
                sockets = registry[entry.class_type].spec.inputs
                hint = suggestion(name, sockets) if len(ignored) < MOST_HINTS else None
                ignored.append(Problem.within(subgraph, node, name, message, hint, "unknown_input"))
            left = {name: value for name, value in entry.inputs.items() if name not in unknown}
            graph[node] = entry.model_copy(update={"inputs": left})
        return level.model_copy(update={"graph": graph})

    subgraphs = {name: cleaned(level, name) for name, level in workflow.subgraphs.items()}
    return cleaned(workflow, None).model_copy(update={"subgraphs": subgraphs}).ignoring(ignored)


def _unknown(entry: NodeEntry, registry: Registry) -> dict[str, None]:
    kind = registry.get(entry.class_type)
    if kind is None:
        return {}
    known = kind.spec.inputs.keys() | kind.spec.changes.names
    unknown = (name for name, value in entry.inputs.items() if name not in known and not as_link(value))
    return dict.fromkeys(unknown)
