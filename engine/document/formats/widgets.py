"""What the widgets of a node hold, by name.

The UI format has their values in a row, in the order of the widgets. The names are those that the file tells, if it
tells all, or else those of the kind's inputs. In between stand values of what the editor adds: after a seed, what
becomes of it after a run; after a file, the button that uploads one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from engine.document.formats.ui import UiNode
from engine.document.workflow import as_constant, as_link
from engine.node import Node

AFTER_RUNS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
UPLOADS = ("image", "video", "audio", "file")
UNNAMED = "value "
BESIDE = (
    *("control_after_generate", "control_before_generate", *AFTER_RUNS),
    *("upload", "choose file to upload", "videopreview", "video-preview", "audioUI", ""),
)
"""Widgets that an editor adds, which are nobody's inputs."""


def has_widget(annotation: Any) -> bool:
    """Whether an input of this type is written with a widget, rather than only linked."""
    if get_origin(annotation) in (Union, UnionType):
        return any(map(has_widget, get_args(annotation)))
    return annotation in (int, float, str, bool) or get_origin(annotation) is Literal


def values(node: UiNode, kind: type[Node] | None) -> dict[str, Any]:
    """The inputs that a node's widgets give, as a workflow writes them.

    A value that stands where neither the file nor the kind has a widget is called "value 3" by its place.
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
        if value is not None and (name in sockets or not (name in BESIDE or value == ""))
    }


def as_json(constant: Any) -> Any:
    """A constant as a workflow writes it: so that it is taken for no link."""
    return {"__value__": constant} if as_link(constant) or as_constant(constant) is not constant else constant


def _by_position(node: UiNode, kind: type[Node] | None) -> Iterable[tuple[str, Any]]:
    """The values under the names that suit them best, of a tie those of the kind: a file may list its own out of order.

    Nor need it list all: older ones tell only of widgets that links may lead to.
    """
    told = list(_placed([socket.widget.name for socket in node.inputs or () if socket.widget], node.values))
    if kind is None:
        return told
    own = list(_placed([name for name, socket in kind.spec.inputs.items() if has_widget(socket.type)], node.values))
    return told if _fitting(told, kind) > _fitting(own, kind) else own


def _fitting(placed: Iterable[tuple[str, Any]], kind: type[Node]) -> int:
    """How well names suit their values: the number of those that the kind takes, less those that it does not."""
    return sum(_fits(name, value, kind) for name, value in placed if value is not None)


def _fits(name: str, value: Any, kind: type[Node]) -> int:
    if (socket := kind.spec.inputs.get(kind.spec.changes.today(name))) is None:
        return -1 if name.startswith(UNNAMED) else 0
    try:
        socket.validate(value)
    except ValueError:  # pydantic's for a value of another type, or that JSON has no words for
        return -1
    return 1


def _placed(names: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The values in the order of the names, without those that an editor adds."""
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
