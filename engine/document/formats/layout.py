"""The editor's layout, as a workflow's `layout` holds it.

    {"nodes": {"3": {"x": 40, "y": 80, "width": 210, "height": 58, "color": "#322"}},
     "groups": [{"title": "Faces", "x": 0, "y": 0, "width": 600, "height": 400, "color": "#3f789e"}],
     "notes": [{"id": "9", "text": "Look here.", "x": 0, "y": 420, "width": 200, "height": 100}]}

Positions are in pixels from the left and the top. Sizes and colours of nodes and colours of groups may be missing. The
layout of a subgraph is in its own document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from engine.document.formats.ui import UiGraph, UiNode

NOTES = ("Note", "MarkdownNote")
MAX_COORDINATE = 10_000_000
NOTE_SIZE = {"width": 200, "height": 100}
_COLOR = re.compile(r"#[0-9a-fA-F]{3,8}")


def layout(graph: UiGraph, nodes: Iterable[UiNode]) -> dict[str, Any]:
    """The positions of these nodes and of a graph's groups and notes; what is malformed is left out."""
    groups = [group for group in map(_group, graph.groups if isinstance(graph.groups, list) else ()) if group]
    notes = [_note(node) for node in graph.nodes if node.type in NOTES]
    places = {node.key: place for node in nodes if (place := _place(node))}
    return {name: part for name, part in (("nodes", places), ("groups", groups), ("notes", notes)) if part}


def _place(node: UiNode) -> dict[str, Any]:
    where = _pair(node.pos, "x", "y")
    return where and where | _pair(node.size, "width", "height") | (_color(node.color) or _color(node.bgcolor))


def _note(node: UiNode) -> dict[str, Any]:
    texts = [node.value, (node.properties or {}).get("text")]
    text = next((text for text in texts if isinstance(text, str)), "")
    place = {"x": 0, "y": 0} | _pair(node.pos, "x", "y") | NOTE_SIZE | _pair(node.size, "width", "height")
    return {"id": node.key, "text": text} | place


def _group(data: Any) -> dict[str, Any] | None:
    if not isinstance(data, dict) or not isinstance(bounding := data.get("bounding"), list):
        return None
    where, size = _pair(bounding[:2], "x", "y"), _pair(bounding[2:], "width", "height")
    title = data.get("title")
    if not where or not size:
        return None
    return {"title": title if isinstance(title, str) else ""} | where | size | _color(data.get("color"))


def _pair(data: Any, first: str, second: str) -> dict[str, Any]:
    """Two numbers by name, from an array or from the object that some browsers make of one."""
    if isinstance(data, dict):
        data = [data.get("0"), data.get("1")]
    if not isinstance(data, list) or len(data) < 2:
        return {}
    valid = all(type(number) in (int, float) and abs(number) <= MAX_COORDINATE for number in data[:2])
    return {first: round(data[0]), second: round(data[1])} if valid else {}


def _color(data: Any) -> dict[str, Any]:
    return {"color": data} if isinstance(data, str) and _COLOR.fullmatch(data) else {}
