"""Writes `kinds.pyi`, from which editors and type checkers know the kinds of node that come with Kinograph.

Run `python -m kinograph.stubs` when a kind is added or its inputs change; a test checks this.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator

from engine.atomic import write
from engine.node import Node
from engine.spec import Input, item_of
from engine.values import Value
from nodes import registry

STUB = Path(__file__).with_name("kinds.pyi")

HEAD = '''"""The kinds of node that come with Kinograph, as methods of `Graph`. `kinograph.stubs` writes this file."""

# ruff: noqa: E501, N802
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kinograph.handles import Handle, Outlet

_Link = Handle | Outlet
_Mode = Literal["", "mute", "bypass"]
_Partial = Literal["", "allow", "fail"]
'''
PLAIN = {str: "str", int: "int", float: "float", bool: "bool", types.NoneType: "None", Any: "Any"}


def stub(kinds: Iterable[type[Node]]) -> str:
    """The text of a stub file with a method for each kind."""
    known = sorted(kinds, key=lambda kind: kind.spec.kind)
    several = [kind for kind in known if len(kind.spec.outputs) > 1]
    return "\n".join(
        [
            HEAD,
            *(line for kind in several for line in _handle(kind)),
            "class Kinds:",
            *(line for kind in known for line in _method(kind)),
            "    def __getattr__(self, name: str) -> Callable[..., Handle]: ...",
            "",
        ]
    )


def shipped() -> list[type[Node]]:
    """The kinds that come with Kinograph."""
    return [kind for kind in registry().values() if kind.__module__.startswith("nodes.")]


def _handle(kind: type[Node]) -> Iterator[str]:
    yield f"class _{kind.spec.kind}(Handle):"
    yield from (f"    {output.name}: Outlet" for output in kind.spec.outputs)
    yield ""


def _method(kind: type[Node]) -> Iterator[str]:
    spec = kind.spec
    yield f"    def {spec.kind}("
    yield from ("        self,", "        *,")
    for socket in spec.inputs.values():
        default = "" if socket.required else f" = {_default(socket.default)}"
        yield f"        {socket.name}: {_taken(socket)}{default},"
    yield from ("        id: str | None = None,", '        title: str = "",', '        mode: _Mode = "",')
    yield '        partial: _Partial = "",'
    yield f"    ) -> {f'_{spec.kind}' if len(spec.outputs) > 1 else 'Handle'}:"
    summary = spec.help.partition("\n\n")[0].replace("\n", " ")
    yield f'        """{summary}"""'
    yield ""


def _taken(socket: Input) -> str:
    """The type of the values that an input accepts."""
    if any(isinstance(mark, BeforeValidator) for mark in socket.field.metadata):
        return "Any"  # which it makes something else of
    is_union = get_origin(socket.type) in (Union, types.UnionType)
    members = get_args(socket.type) if is_union else (socket.type,)
    constants = [found for member in members if (found := _constant(member)) and found != "None"]
    given = ["str", "Path"] if socket.holds else [*constants, "_Link"]
    return " | ".join([*given, "None"] if types.NoneType in members else given)


def _constant(annotation: Any) -> str:
    """The type of the constants that fit a type, which is no union; "" if there are none."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    if get_origin(annotation) is Literal:
        return f"Literal[{', '.join(map(_quoted, get_args(annotation)))}]"
    if (item := item_of(annotation)) is not None:
        return f"Sequence[{found}]" if (found := _constant(item)) else ""
    return "" if isinstance(annotation, type) and issubclass(annotation, Value) else "Any"


def _default(value: Any) -> str:
    text = _quoted(value)
    return text if type(value) in PLAIN and len(text) <= 60 else "..."


def _quoted(value: Any) -> str:
    """A constant as Python code, a text in double quotes."""
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and '"' not in text else text


if __name__ == "__main__":
    write(STUB, stub(shipped()).encode())
