"""Sockets and widgets of kinds of node, as ComfyUI's editor has them from `/object_info`.

int, float, str, bool → INT, FLOAT, STRING, BOOLEAN      Literal → a list of choices
a value's type → its name in capitals                     a union → "A,B"        Any → "*"
a list → its items' type, only as a link                  a picture to choose → a list of files, with an upload
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from engine.node import Node
from engine.spec import Input, item_of

PRIMITIVES: Mapping[Any, str] = {int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}
SEEDS = ("seed", "noise_seed")
"""Names of integers that the editor changes after each run, if asked to."""


def type_name(annotation: Any) -> str:
    """A type as the protocol names it."""
    names = [_bare_name(member) for member in _members(annotation)]
    return ",".join(dict.fromkeys(names)) or "*"


def choices(annotation: Any) -> tuple[Any, ...]:
    """What can be chosen for an input of this type; nothing unless it is a Literal."""
    members = _members(annotation)
    return get_args(members[0]) if len(members) == 1 and get_origin(members[0]) is Literal else ()


def has_widget(socket: Input) -> bool:
    """Whether an input has a widget, rather than only taking links: a widget can't hold a list, or say "none"."""
    if socket.item is not None:
        return False
    if socket.holds == "media" or choices(socket.type):
        return True
    return type_name(socket.type) in PRIMITIVES.values() and (socket.required or socket.default is not None)


def has_control(socket: Input) -> bool:
    """Whether the editor adds a widget after that of an input: what becomes of the number after a run."""
    extra = socket.field.json_schema_extra
    is_seed = socket.name in SEEDS or (isinstance(extra, dict) and extra.get("widget") == "seed")
    return is_seed and type_name(socket.type) == "INT" and has_widget(socket)


def in_order(kind: type[Node]) -> tuple[Input, ...]:
    """A kind's inputs in the editor's order: those that must be given come first."""
    return tuple(sorted(kind.spec.inputs.values(), key=lambda socket: not socket.required))


def sockets(kind: type[Node]) -> tuple[Input, ...]:
    """A kind's inputs in the order in which a node has them as sockets: those without a widget come first."""
    return tuple(sorted(in_order(kind), key=has_widget))


def widgets(kind: type[Node]) -> tuple[Input, ...]:
    """A kind's inputs that have a widget, in order."""
    return tuple(filter(has_widget, in_order(kind)))


def uploads(kind: type[Node]) -> bool:
    """Whether the editor adds a button to a kind, after all its widgets, that uploads a file."""
    return any(socket.holds == "media" for socket in widgets(kind))


def _members(annotation: Any) -> list[Any]:
    """The types of a union, without None; of a list, the type of its items."""
    annotation = item_of(annotation) or annotation
    if get_origin(annotation) is not Union:
        return [annotation]
    return [item_of(member) or member for member in get_args(annotation) if member is not NoneType]


def _bare_name(member: Any) -> str:
    if get_origin(member) is Literal:
        return PRIMITIVES.get(type(get_args(member)[0]), "STRING")
    if member is Any or not isinstance(member, type):
        return "*"
    return PRIMITIVES.get(member, member.__name__.upper())
