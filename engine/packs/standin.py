"""Node classes built from descriptions, which take the place of a pack's own where nothing runs.

A stand-in has the same spec, constraints, JSON schema and cache keys. Only `run`, and checks that need the pack's own
code, are missing: `Registry.imported` replaces it by the pack's class.
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
from engine.node import Context, Node
from engine.packs.annotations import ClassData, Decoder
from engine.packs.description import InputData, KindData
from engine.spec import Pack

KEYWORDS = {
    *("version", "category", "uses", "saves", "temporary", "retries", "volatile", "libraries"),
    *("deprecated", "renamed", "removed", "replaced"),
}
"""The keywords of the class statement."""


def stand_in(data: KindData, classes: Mapping[str, ClassData], pack: Pack, decoder: Decoder) -> type[Node]:
    """A class that takes the place of a pack's kind.

    Args:
        data: the kind.
        classes: the classes in its annotations.
        pack: the pack.
        decoder: shared by all packs, so that one pack's values can be linked to another's inputs.

    Raises:
        ValueError, LookupError, TypeError: no class can be built from the data.
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

    keywords = data.model_dump(include=KEYWORDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about inputs that hide a method of pydantic's: a matter for the pack's author
        made: type[Node] = types.new_class(data.kind, (Node,), keywords, fill)
    made.spec = replace(made.spec, pack=pack, is_stand_in=True)
    return made


def _field(data: InputData, annotation: Any) -> Any:
    if data.required:
        return Field(description=data.help)
    default = data.default
    if isinstance(default, list | dict):  # the JSON form of tuples, sets and the like
        with suppress(ValidationError):
            default = TypeAdapter(annotation).validate_json(json.dumps(default), strict=True)
    return Field(default, description=data.help)
