"""The values of a node's widgets, by name.

The UI format lists the values in the order of the widgets. The names are those that the file gives for all values, or
else those that suit them better: the names of the file's widgets, or of the kind's inputs. Values of widgets that the
editor adds stand in between: after a seed, what becomes of it after a run; after a file, the button that uploads one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from engine.document.formats.elsewhere import WIDGETS
from engine.document.formats.ui import UiNode
from engine.document.sockets import has_control, widgets
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

Placed = list[tuple[str, Any]]
"""Values with their names."""
Takes = Callable[[str, Any], int]
"""Whether a widget takes a value: 1, or -1 if it doesn't, or 0 if that isn't known."""


def values(node: UiNode, kind: type[Node] | None) -> dict[str, Any]:
    """The inputs that a node's widgets give, as a workflow writes them.

    Values by position count before those by name, as in the editor. A value at a position where neither the file nor
    the kind has a widget is called "value 3", after its position.
    """
    if isinstance(node.widgets_values, dict):
        given = node.widgets_values
    else:
        placed = _by_position(node, kind)
        named = node.widgets_values_named or {}
        given = named | {name: value for name, value in placed if not (named and name.startswith(UNNAMED))}
    sockets = kind.spec.inputs if kind else {}
    return {
        name: as_json(value)
        for name, value in given.items()
        if value is not None and (name in sockets or not (name in EDITOR_WIDGETS or value == ""))
    }


def named_in_order(node: UiNode) -> list[str] | None:
    """The names of all values by position, if the file gives them."""
    named = node.widgets_values_named or {}
    return list(named) if node.values and len(named) == len(node.values) else None


def _by_position(node: UiNode, kind: type[Node] | None) -> Placed:
    """The values by position, under the names that suit them best.

    A file may list its names out of order; older ones, and those within pictures, list only widgets that can be linked
    or are. ComfyUI's own kinds have fewer widgets than Kinograph's of the same name, so these are only taken if the
    file has a fitting value for each.
    """
    if names := named_in_order(node):
        return [*zip(names, node.values, strict=True)]
    in_file = {socket.widget.name: socket.type for socket in node.inputs or () if socket.widget}
    by_file = [*_placed([*in_file], node.values, partial(_takes_type, in_file), None)]
    if kind is None:
        return by_file
    takes = partial(_takes_constant, kind)
    names = [socket.name for socket in widgets(kind)]
    seeds = {socket.name for socket in widgets(kind) if has_control(socket)}
    by_kind = [*_placed(names, node.values, takes, seeds)]
    theirs = WIDGETS.get(kind.spec.kind)
    if theirs is not None and [name for name, value in by_kind if takes(name, value) > 0] != names:
        by_kind = [*_placed(theirs, node.values, takes, seeds)]
    return by_file if _fitting(by_file, takes) > _fitting(by_kind, takes) else by_kind


def _fitting(placed: Placed, takes: Takes) -> int:
    """How well names suit their values: the number of values that are taken minus those that aren't."""
    return sum(takes(name, value) for name, value in placed if value is not None)


def _takes_constant(kind: type[Node], name: str, value: Any) -> int:
    if (socket := kind.spec.inputs.get(kind.spec.changes.today(name))) is None:
        return -1 if name.startswith(UNNAMED) else 0
    try:
        socket.validate(value)
    except ValueError:  # pydantic's, for a value of another type or one that JSON lacks
        return -1
    return 1


def _takes_type(types: Mapping[str, Any], name: str, value: Any) -> int:
    """The same by the type that a file says its widget has."""
    wanted = TYPES.get(types.get(name)) if isinstance(types.get(name), str) else None
    return 0 if wanted is None else 1 if type(value) in wanted else -1


TYPES: Mapping[Any, tuple[type, ...]] = {
    "INT": (int,),
    "FLOAT": (float, int),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "COMBO": (str, int, float),
}


def _placed(
    names: Sequence[str], values: Sequence[Any], takes: Takes, seeds: Container[str] | None
) -> Iterator[tuple[str, Any]]:
    """The names with their values, in order, without the values of widgets that an editor adds.

    Args:
        names: of the widgets.
        values: of these and of those that an editor adds.
        takes: whether one takes a value.
        seeds: the names of those after which an editor adds one; None if only their names say so.
    """
    index, before = 0, ""
    for place, name in enumerate(names):
        if before and index < len(values) and _could_be_added(values[index], before, seeds):
            spare = len(values) - index > len(names) - place
            following = values[index + 1 : index + 2]
            fits = takes(name, values[index]) < 0 or all(takes(name, other) >= 0 for other in following)
            index += fits and (spare or _is_certain(values[index], before, seeds))
        if index >= len(values):
            return
        yield name, values[index]
        index, before = index + 1, name
    for place in range(index, len(values)):
        if not (names and _could_be_added(values[place], before if place == index else "", seeds)):
            yield f"{UNNAMED}{place + 1}", values[place]


def _could_be_added(value: Any, before: str, seeds: Container[str] | None) -> bool:
    """Whether a value may be that of a widget that an editor adds after another: a seed's control, an upload button."""
    if isinstance(value, bool):
        return _is_seed(before, seeds)
    is_word = isinstance(value, str)
    return is_word and (value in UPLOADS or (value in AFTER_RUNS and (seeds is None or _is_seed(before, seeds))))


def _is_certain(value: Any, before: str, seeds: Container[str] | None) -> bool:
    """Whether such a value is one even if there are no more values than names."""
    return isinstance(value, str) and value in AFTER_RUNS and _is_seed(before, seeds)


def _is_seed(name: str, seeds: Container[str] | None) -> bool:
    return name.endswith("seed") if seeds is None else name in seeds
