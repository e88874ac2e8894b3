"""Where a workflow's nodes, groups and notes stand in the editor: as its layout says, or in columns from left to right.

`engine.document.formats.layout` describes the layout, and reads one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine.document.formats.layout import MAX_COORDINATE, NOTE_SIZE
from engine.document.workflow import Workflow, as_link

GAP = 60
"""Pixels between columns."""
TITLE = 40
"""Pixels between nodes of a column: a node's title stands above its position."""


class Box(NamedTuple):
    """Where a node stands, in pixels from the left and the top."""

    x: float
    y: float
    width: float
    height: float


def arranged(workflow: Workflow, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Box]:
    """The boxes of all nodes; those without a position are put below the others, each right of what it is linked to."""
    places = _places(workflow.layout)
    boxes = {
        node: Box(place["x"], place["y"], place.get("width", size[0]), place.get("height", size[1]))
        for node, size in sizes.items()
        if (place := _numbers(places.get(node))).keys() >= {"x", "y"}
    }
    top = max((box.y + box.height + 2 * TITLE for box in boxes.values()), default=0)
    left = min((box.x for box in boxes.values()), default=0)
    for column in _columns(workflow):
        waiting = [node for node in column if node not in boxes]
        y = top
        for node in waiting:
            boxes[node] = Box(left, y, *sizes[node])
            y += sizes[node][1] + TITLE
        left += max((sizes[node][0] + GAP for node in waiting), default=0)
    return boxes


def color(layout: Any, node: str) -> str | None:
    """The colour that a layout gives a node."""
    place = _places(layout).get(node)
    found = place.get("color") if isinstance(place, dict) else None
    return found if isinstance(found, str) else None


def groups(layout: Any) -> list[dict[str, Any]]:
    """A layout's groups, as the UI format has them."""
    return [
        {"title": str(group.get("title") or ""), "bounding": [*box]}
        | ({"color": group["color"]} if isinstance(group.get("color"), str) else {})
        for group in _listed(layout, "groups")
        if isinstance(group, dict) and (box := _box(group))
    ]


def notes(layout: Any) -> list[tuple[str, str, Box]]:
    """A layout's notes: their ids, their texts and where they stand."""
    return [
        (str(note.get("id") or ""), str(note.get("text") or ""), box)
        for note in _listed(layout, "notes")
        if isinstance(note, dict) and (box := _box({**NOTE_SIZE, **note}))
    ]


def extent(boxes: Iterable[Box]) -> Box:
    """The box around others."""
    found = [*boxes] or [Box(0, 0, 0, 0)]
    left, top = min(box.x for box in found), min(box.y for box in found)
    right, bottom = max(box.x + box.width for box in found), max(box.y + box.height for box in found)
    return Box(left, top, right - left, bottom - top)


def _columns(workflow: Workflow) -> Sequence[Sequence[str]]:
    """The nodes by the longest way that leads to each; those that depend on one another come first."""
    sources = {
        node: {link.node for link in map(as_link, entry.inputs.values()) if link and link.node in workflow.graph}
        for node, entry in workflow.graph.items()
    }
    consumers: dict[str, list[str]] = {node: [] for node in sources}
    for node, found in sources.items():
        for source in found:
            consumers[source].append(node)
    depth, left = dict.fromkeys(sources, 0), {node: len(found) for node, found in sources.items()}
    ready = [node for node, count in left.items() if not count]
    for node in ready:  # grows during the loop
        for consumer in consumers[node]:
            depth[consumer] = max(depth[consumer], depth[node] + 1)
            left[consumer] -= 1
            if not left[consumer]:
                ready.append(consumer)
    columns: dict[int, list[str]] = {}
    for node, place in depth.items():
        columns.setdefault(place, []).append(node)
    return [columns[place] for place in sorted(columns)]


def _places(layout: Any) -> dict[str, Any]:
    """The places of nodes in a layout, which may be malformed."""
    found = layout.get("nodes") if isinstance(layout, dict) else None
    return found if isinstance(found, dict) else {}


def _listed(layout: Any, name: str) -> list[Any]:
    """A list in a layout, which may be malformed."""
    found = layout.get(name) if isinstance(layout, dict) else None
    return found if isinstance(found, list) else []


def _box(data: dict[str, Any]) -> Box | None:
    found = _numbers(data)
    return Box(*(found[name] for name in Box._fields)) if found.keys() >= {*Box._fields} else None


def _numbers(data: Any) -> dict[str, float]:
    """The members of an object that are coordinates."""
    members = data.items() if isinstance(data, dict) else ()
    return {
        name: value
        for name, value in members
        if name in Box._fields and type(value) in (int, float) and abs(value) <= MAX_COORDINATE
    }
