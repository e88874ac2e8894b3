"""The API format, as other programs leave it in the files they save."""

from __future__ import annotations

from typing import Any

TRACE = "is_changed"


def without_traces(data: Any) -> Any:
    """JSON data without what a run leaves in the nodes of a bare graph: whether they had changed then."""
    if not isinstance(data, dict) or data.keys() & {"kinograph", "graph"}:
        return data
    return {
        node: {name: value for name, value in entry.items() if name != TRACE} if isinstance(entry, dict) else entry
        for node, entry in data.items()
    }


def kinds_in(data: Any) -> set[str]:
    """The kinds of node that a bare graph names."""
    entries = data.values() if isinstance(data, dict) else ()
    kinds = (entry.get("class_type") for entry in entries if isinstance(entry, dict))
    return {kind for kind in kinds if isinstance(kind, str)}
