"""The values of a node's widgets, by name.

The UI format lists the values in the order of the widgets. The names are those in the file, if it has all, or else
those of the kind's inputs. Values of widgets that the editor adds stand in between: after a seed, what becomes of it
after a run; after a file, the button that uploads one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from engine.document.formats.ui import UiNode
from engine.document.workflow import as_json
from engine.node import Node

AFTER_RUNS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
UPLOADS = ("image", "video", "audio", "file")
UNNAMED = "value "
EDITOR_WIDGETS = (
    *("control_after_generate", "control_before_generate", *AFTER_RUNS),
    *("upload", "choose file to upload", "videopreview", "video-preview", "audioUI", ""),
)
"""Widgets that an editor adds, which belong to no input."""


def has_widget(annotation: Any) -> bool:
    """Whether an input of this type has a widget, rather than only taking links."""
    if get_origin(annotation) in (Union, UnionType):
        return any(map(has_widget, get_args(annotation)))
    return annotation in (int, float, str, bool) or get_origin(annotation) is Literal


def values(node: UiNode, kind: type[Node] | None) -> dict[str, Any]:
    """The inputs that a node's widgets give, as a workflow writes them.

    A value at a position where neither the file nor the kind has a widget is called "value 3", after its position.
    """
    if node.widgets_values_named:
        named: Iterable[tuple[str, Any]] = node.widgets_values_named.items()
    elif isinstance(node.widgets_values, dict):
        named = node.widgets_values.items()
    else:
        named = _by_position(node, kind)
    sockets = kind.spec.inputs if kind else {}
    return {
        name: as_json(value)
        for name, value in named
        if value is not None and (name in sockets or not (name in EDITOR_WIDGETS or value == ""))
    }


def _by_position(node: UiNode, kind: type[Node] | None) -> Iterable[tuple[str, Any]]:
    """The values under the names that suit them better, the file's or, also in a tie, the kind's.

    A file may list its names out of order, and older ones list only widgets that can be linked.
    """
    by_file = list(_placed([socket.widget.name for socket in node.inputs or () if socket.widget], node.values))
    if kind is None:
        return by_file
    names = [name for name, socket in kind.spec.inputs.items() if has_widget(socket.type)]
    by_kind = list(_placed(names, node.values))
    return by_file if _fitting(by_file, kind) > _fitting(by_kind, kind) else by_kind


def _fitting(placed: Iterable[tuple[str, Any]], kind: type[Node]) -> int:
    """How well names suit their values: the number of values that the kind takes minus those that it doesn't."""
    return sum(_fits(name, value, kind) for name, value in placed if value is not None)


def _fits(name: str, value: Any, kind: type[Node]) -> int:
    if (socket := kind.spec.inputs.get(kind.spec.changes.today(name))) is None:
        return -1 if name.startswith(UNNAMED) else 0
    try:
        socket.validate(value)
    except ValueError:  # pydantic's, for a value of another type or one that JSON lacks
        return -1
    return 1


def _placed(names: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The names with their values, in order, without the values of widgets that an editor adds."""
    index = 0
    for place, name in enumerate(names):
        if index >= len(values):
            return
        yield name, values[index]
        index += 1
        spare = len(values) - index > len(names) - place - 1
        following = values[index] if index < len(values) else None
        if isinstance(following, str):
            index += (following in AFTER_RUNS and (spare or name.endswith("seed"))) or (
                following in UPLOADS and name in UPLOADS and spare
            )
    yield from ((f"{UNNAMED}{place + 1}", values[place]) for place in range(index, len(values)))
