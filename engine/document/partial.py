"""Which nodes take a list whose items have failed in part.

By default a node that takes a list as a whole fails with any of its items, since a video that lacks one looks whole.
`"partial": "allow"` in a node's `_meta`, or in the document for all of its nodes, has it take what is left of the list;
`"partial": "fail"` on a node is the default again. A subgraph's own setting goes before that of the node that uses it,
and that before the document's.
"""

from __future__ import annotations

from typing import get_args

from engine.document.workflow import NodeEntry, Partial, Workflow
from engine.errors import Problem, suggestion

PARTIAL: tuple[str, ...] = get_args(Partial)[:2]


def partial_of(entry: NodeEntry) -> str:
    """A node's own setting, "" if it has none."""
    return str(entry.meta.get("partial") or "")


def allows_partial(entry: NodeEntry, workflow: Workflow) -> bool:
    """Whether a node of an inlined workflow takes what is left of a list."""
    return (partial_of(entry) or workflow.partial) == "allow"


def on_nodes(workflow: Workflow) -> Workflow:
    """The workflow with the document's setting, and those of its subgraphs, written to their nodes."""
    subgraphs = {name: on_nodes(subgraph) for name, subgraph in workflow.subgraphs.items()}
    graph = {
        node: entry.model_copy(update={"meta": {**entry.meta, "partial": partial_of(entry) or workflow.partial}})
        for node, entry in workflow.graph.items()
    }
    return workflow.model_copy(update={"subgraphs": subgraphs, "graph": graph if workflow.partial else workflow.graph})


def problems(workflow: Workflow) -> list[Problem]:
    """Unknown settings."""
    return [
        Problem(f"partial is '{partial}', but can be allow or fail", node, hint=suggestion(partial, PARTIAL))
        for node, entry in workflow.graph.items()
        if (partial := partial_of(entry)) and partial not in PARTIAL
    ]
