"""Kinds of node from descriptions as ComfyUI's `/object_info` gives them, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import new_class
from typing import Any, Literal, NamedTuple

from engine.node import Context, Node
from engine.registry import Registry
from engine.values import Image, Video

PAIRS = Path(__file__).with_name("pairs")


TYPES: Mapping[str, Any] = {"INT": int, "FLOAT": float, "STRING": str, "IMAGE": Image, "MASK": Video}
"""Their types here; a mask is anything but a picture."""


@cache
def described() -> Registry:
    """The kinds in `pairs/kinds.json`; those whose inputs can't be a kind's here, by their names, are left out."""
    listed = json.loads((PAIRS / "kinds.json").read_text())
    return Registry([_kind(name, about) for name, about in listed.items() if _can_be_a_kind(about)])


def _can_be_a_kind(about: Mapping[str, Any]) -> bool:
    return all(name.isidentifier() for inputs in about["input"].values() for name in inputs)


def _kind(kind: str, about: Mapping[str, Any]) -> type[Node]:
    required, optional = about["input"].get("required", {}), about["input"].get("optional", {})
    members: dict[str, Any] = {socket: _type(spec) for socket, spec in required.items()}
    members |= {socket: _type(spec) | None for socket, spec in optional.items()}
    outputs = [(output, TYPES[name]) for output, name in zip(about["output_name"], about["output"], strict=True)]

    def run(self: Node, ctx: Context) -> Any:
        raise NotImplementedError

    run.__annotations__["return"] = outputs[0][1] if len(outputs) == 1 else NamedTuple(f"{kind}Outputs", outputs)
    if not outputs:
        run.__annotations__["return"] = str
    run.__annotations__["ctx"] = Context
    body = {"__annotations__": members, "__module__": __name__, "run": run} | dict.fromkeys(optional)
    return new_class(kind, (Node,), {"version": 1}, lambda namespace: namespace.update(body))


def _type(spec: list[Any]) -> Any:
    """The type of an input: a name, or a list of choices."""
    return Literal[tuple(spec[0])] if isinstance(spec[0], list) else TYPES[spec[0]]
