"""The values of a node's widgets, by name.

The UI format lists the values in the order of the widgets. The names are those that the file gives for all values, or
else those that suit them better: the names of the file's widgets, or of the kind's inputs. Values of widgets that the
editor adds stand in between: after a seed, what becomes of it after a run; after a file, the button that uploads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from engine.document.formats.elsewhere import WIDGETS
from engine.document.formats.types import has_control, widgets
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
    by_file = [*_placed([*in_file], node.values, partial(_takes_type, in_file), _is_seed)]
    if kind is None:
        return by_file
    takes = partial(_takes_constant, kind)
    names = [socket.name for socket in widgets(kind)]
    seeds = {socket.name for socket in widgets(kind) if has_control(socket)}
    by_kind = [*_placed(names, node.values, takes, seeds.__contains__)]
    theirs = WIDGETS.get(kind.spec.kind)
    if theirs is not None and [name for name, value in by_kind if takes(name, value) > 0] != names:
        by_kind = [*_placed(theirs, node.values, takes, seeds.__contains__)]
    return by_file if _fitting(by_file, takes) > _fitting(by_kind, takes) else by_kind


def _fitting(placed: Placed, takes: Takes) -> int:
    """How well names suit their values: the number of values that are taken minus those that aren't."""
    return sum(takes(name, value) for name, value in placed if value is not None)


def _takes_constant(kind: type[Node], name: str, value: Any) -> int:
    if (socket := kind.spec.inputs.get(name)) is None:
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


def _is_seed(name: str) -> bool:
    return name.endswith("seed")


def _placed(
    names: Sequence[str], values: Sequence[Any], takes: Takes, is_seed: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    """The names with their values, in order, without the values of widgets that an editor adds."""
    index, before = 0, ""
    for place, name in enumerate(names):
        spare = len(values) - index > len(names) - place
        if index < len(values) and before and _is_added(values, index, before, name, spare, takes, is_seed):
            index += 1
        if index >= len(values):
            return
        yield name, values[index]
        index, before = index + 1, name
    for place in range(index, len(values)):
        if not (names and _could_be_added(values[place], before if place == index else "", is_seed)):
            yield f"{UNNAMED}{place + 1}", values[place]


def _could_be_added(value: Any, before: str, is_seed: Callable[[str], bool]) -> bool:
    """Whether a value may be that of a widget that an editor adds after another."""
    if isinstance(value, bool):
        return is_seed(before)
    return isinstance(value, str) and value in (*AFTER_RUNS, *UPLOADS)


def _is_added(
    values: Sequence[Any],
    index: int,
    before: str,
    name: str,
    spare: bool,
    takes: Takes,
    is_seed: Callable[[str], bool],
) -> bool:
    """Whether the value at an index, which stands between those of two widgets, is that of one that an editor adds.

    `spare` says whether there are more values than widgets left.
    """
    value, following = values[index], values[index + 1 : index + 2]
    if not _could_be_added(value, before, is_seed):
        return False
    after_run = isinstance(value, str) and value in AFTER_RUNS and is_seed(before)
    if not (spare or after_run):
        return False
    return takes(name, value) < 0 or all(takes(name, other) >= 0 for other in following)
