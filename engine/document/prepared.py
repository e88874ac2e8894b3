"""A workflow made ready for all that is done with it."""

from __future__ import annotations

from engine.document.modes import active
from engine.document.subgraphs import inlined
from engine.document.workflow import Workflow, as_constant
from engine.registry import Registry


def models_of(workflow: Workflow, registry: Registry) -> dict[str, list[tuple[str, str]]]:
    """The model sources that a workflow names where it isn't muted or bypassed, with the nodes and inputs that do."""
    sources: dict[str, list[tuple[str, str]]] = {}
    for node, entry in active(inlined(workflow, registry).workflow, registry).graph.items():
        kind = registry.get(entry.class_type)
        for socket in kind.spec.inputs.values() if kind else ():
            value = as_constant(entry.inputs.get(socket.name, None if socket.required else socket.default))
            if socket.holds == "model" and isinstance(value, str):
                sources.setdefault(value, []).append((node, socket.name))
    return sources
