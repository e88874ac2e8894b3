"""Node classes made of descriptions, which stand for a pack's own where nothing runs.

A stand-in has the same spec, checks constants by the same constraints, gives the same JSON schema and leads to the
same cache keys. Only `run`, and what the pack's own code decides, are missing: `Registry.imported` puts the pack's
classes in its place.
"""

from __future__ import annotations

import json
import types
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from engine.errors import KinographError
from engine.node import Context, Node, Pack
from engine.packs.annotations import ClassData, Decoder
from engine.packs.description import InputData, KindData

TOLD = {
    *("version", "category", "uses", "saves", "temporary", "retries"),
    *("deprecated", "renamed", "removed", "replaced"),
}
"""What of a kind is told as keywords of its class."""


def stand_in(data: KindData, classes: Mapping[str, ClassData], pack: Pack, decoder: Decoder) -> type[Node]:
    """A class that stands for a kind of a pack.

    Args:
        data: the kind.
        classes: what is told of the classes that it names.
        pack: the pack.
        decoder: knows the classes of all packs, so that one pack's values may be linked to another's inputs.

    Raises:
        ValueError, LookupError, TypeError: no class can be made of the data.
    """

    def run(self: Node, ctx: Context) -> Any:
        raise KinographError(f"the pack {pack} is not imported")

    def unknown(cls: type[Node], old: Mapping[str, Any]) -> Mapping[str, Any]:
        raise KinographError(f"the pack {pack} is not imported")

    outputs = [(output.name, decoder.decode(output.type, classes)) for output in data.outputs]
    returned: Any = NamedTuple(f"{data.kind}Outputs", outputs) if data.named else outputs[0][1]
    run.__annotations__["return"] = returned

    def fill(space: dict[str, Any]) -> None:
        types_of = {each.name: decoder.decode(each.type, classes) for each in data.inputs}
        space |= {each.name: _field(each, types_of[each.name]) for each in data.inputs}
        space["__module__"], space["__doc__"], space["__annotations__"] = data.module, data.help, types_of
        space["model_config"] = ConfigDict(defer_build=True, use_attribute_docstrings=False)
        space["model_json_schema"] = classmethod(lambda cls, *how, **more: data.input_schema)
        space["run"] = run
        space["replacing"] = classmethod(unknown)

    told = data.model_dump(include=TOLD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of inputs called as methods of pydantic's: the pack's author has seen it
        made: type[Node] = types.new_class(data.kind, (Node,), told, fill)
    made.spec = replace(made.spec, pack=pack, is_stand_in=True)
    return made


def _field(data: InputData, annotation: Any) -> Any:
    if data.required:
        return Field(description=data.help)
    default = data.default
    if isinstance(default, list | dict):  # JSON's words for tuples, sets and the like
        with suppress(ValidationError):
            default = TypeAdapter(annotation).validate_json(json.dumps(default), strict=True)
    return Field(default, description=data.help)
