"""The API format, as other programs send it and leave it in the files they save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.widgets import BESIDE
from engine.registry import Registry
from engine.workflow import as_link

TRACE = "is_changed"


def without_traces(data: Any, registry: Registry) -> Any:
    """JSON data without what others leave in the nodes of a bare graph: whether they had changed in a run, and what
    belongs to widgets that editors add.
    """
    if not isinstance(data, dict) or data.keys() & {"kinograph", "graph"}:
        return data
    return {node: _own(entry, registry) if isinstance(entry, dict) else entry for node, entry in data.items()}


def _own(entry: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    own = {name: value for name, value in entry.items() if name != TRACE}
    kind, inputs = registry.get(str(own.get("class_type"))), own.get("inputs")
    if kind and isinstance(inputs, dict):
        beside = {name for name, value in inputs.items() if name in BESIDE and not as_link(value)} - {*kind.spec.inputs}
        own["inputs"] = {name: value for name, value in inputs.items() if name not in beside}
    return own


def kinds_in(data: Any) -> set[str]:
    """The kinds of node that a bare graph names."""
    entries = data.values() if isinstance(data, dict) else ()
    kinds = (entry.get("class_type") for entry in entries if isinstance(entry, dict))
    return {kind for kind in kinds if isinstance(kind, str)}
