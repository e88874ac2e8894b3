"""The JSON Schema of workflow files (draft 2020-12), generated from the registry.

Text editors use it to complete and check files: `kinograph nodes --schema > workflow.schema.json`, and in the file
`"$schema": "./workflow.schema.json"`. Unlike `engine.graph.check` it can't follow links or call validators, so it
accepts more; whatever it refuses, the check refuses too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.document.modes import MODES
from engine.document.partial import PARTIAL
from engine.node import Node
from engine.registry import Registry
from engine.spec import Input

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
LINK: Schema = {
    "description": "A link: the id of a node, and the index or the name of one of its outputs.",
    "type": "array",
    "prefixItems": [{"type": "string"}, {"type": ["integer", "string"]}],
    "minItems": 2,
    "maxItems": 2,
}
META: Schema = {
    "description": "What editors show, the mode, and what becomes of lists with failed items.",
    "type": "object",
    "properties": {
        "title": {"type": "string", "description": "The title of the node."},
        "mode": {"enum": [*MODES, "", None], "description": "Whether the node is muted or bypassed."},
        "partial": {
            "enum": [*PARTIAL, "", None],
            "description": "Whether the node takes what is left of a list whose items have failed in part, or fails.",
        },
    },
}
INACTIVE: Schema = {
    "required": ["_meta"],
    "properties": {"_meta": {"required": ["mode"], "properties": {"mode": {"enum": [*MODES]}}}},
}
ABOUT: Schema = {
    "$schema": {"type": "string", "description": "Where this schema is."},
    "kinograph": {"const": 1, "description": "The version of the format."},
    "title": {"type": "string"},
    "description": {"type": "string"},
    "inputs": {
        "description": 'The inputs that the workflow exposes: names for "node.input".',
        "type": "object",
        "additionalProperties": {"type": "string"},
    },
    "outputs": {
        "description": "Its outputs where it is used as a node: names for links.",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/link"},
    },
    "partial": {
        "enum": [*PARTIAL, ""],
        "description": "Whether nodes take what is left of a list whose items have failed in part, or fail.",
    },
    "layout": {"description": "Where the editor shows nodes."},
}


def schema_of(registry: Registry) -> Schema:
    """The schema of documents and bare graphs with these kinds of node."""
    node, known, complete = ({"$ref": f"#/$defs/{name}"} for name in ("node", "known", "complete"))
    subgraphs = {"type": "object", "additionalProperties": {"$ref": "#/$defs/subgraph"}}
    whole = {
        **_object({**ABOUT, "graph": _graph(node), "subgraphs": subgraphs}, ["graph"]),
        "allOf": [
            # A workflow that is used as a node may get inputs from outside; the name of a subgraph is a kind.
            {"if": {"not": {"required": ["outputs"]}}, "then": {"properties": {"graph": _graph(complete)}}},
            {"if": {"not": {"required": ["subgraphs"]}}, "then": {"properties": {"graph": _graph(known)}}},
        ],
    }
    return {
        "$schema": DRAFT,
        "title": "Kinograph workflow",
        "if": {"anyOf": [{"required": [name]} for name in ("kinograph", "graph", "$schema")]},
        "then": {"$ref": "#/$defs/document"},
        "else": {"allOf": [_graph(each) for each in (node, known, complete)]},
        "$defs": {
            "document": whole,
            "subgraph": _object({**ABOUT, "graph": _graph(node)}, ["graph"]),
            "node": _node(registry),
            "known": {"properties": {"class_type": {"anyOf": [_kinds(registry), {"pattern": r"\.json$"}]}}},
            "complete": {"if": {"not": INACTIVE}, "then": {"allOf": [*map(_complete, registry.values())]}},
            "link": LINK,
            **{_name(name): _inputs(kind) for name, kind in registry.items()},
        },
    }


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _graph(node: Schema) -> Schema:
    return {"type": "object", "additionalProperties": node}


def _kinds(registry: Registry) -> Schema:
    """The names of kinds, with descriptions for VS Code."""
    return {"enum": [*registry], "enumDescriptions": [kind.spec.help.partition("\n")[0] for kind in registry.values()]}


def _node(registry: Registry) -> Schema:
    class_type = {"description": "The kind of node.", "anyOf": [_kinds(registry), {"type": "string"}]}
    properties = {"class_type": class_type, "inputs": {"type": "object"}, "_meta": META}
    each = [_then(name, {"properties": {"inputs": {"$ref": f"#/$defs/{_name(name)}"}}}) for name in registry]
    return {**_object(properties, ["class_type"]), "allOf": each}


def _then(kind: str, schema: Schema) -> Schema:
    """A schema for nodes of one kind only."""
    return {"if": {"properties": {"class_type": {"const": kind}}, "required": ["class_type"]}, "then": schema}


def _name(kind: str) -> str:
    return f"inputs of {kind}"


def _inputs(kind: type[Node]) -> Schema:
    """The inputs of a kind, including former ones; none is required here."""
    spec, described = kind.spec, _at(json.loads(json.dumps(kind.model_json_schema())), _name(kind.spec.kind))
    properties = {name: _input(socket, described["properties"][name]) for name, socket in spec.inputs.items()}
    for old in sorted(spec.changes.names):
        today = properties.get(spec.changes.today(old), {})
        properties[old] = today | {"description": spec.changes.hint(old), "deprecated": True}
    about = {"description": spec.help, "type": "object", "properties": properties, "additionalProperties": False}
    about |= {"deprecated": True} if spec.deprecated else {}
    return about | ({"$defs": described["$defs"]} if "$defs" in described else {})


def _input(socket: Input, described: Mapping[str, Any]) -> Schema:
    """An input: a constant, which may be wrapped so that it isn't taken for a link, or a link."""
    about = {name: described[name] for name in ("description", "deprecated") if name in described}
    if "default" in described and _is_json(described["default"]):
        about["default"] = described["default"]
    constant = _constants(
        {name: value for name, value in described.items() if name not in (*about, "title", "default")}
    )
    wrapped = _object({"__value__": constant}, ["__value__"])
    return {**about, "anyOf": [constant, *([] if socket.holds else [{"$ref": "#/$defs/link"}]), wrapped]}


def _constants(schema: Any) -> Any:
    """The schema without values that only links carry, such as pictures."""
    if isinstance(schema, dict):
        if isinstance(schema.get("socket"), str):
            return {"not": {}}
        return {name: _constants(value) for name, value in schema.items()}
    return [*map(_constants, schema)] if isinstance(schema, list) else schema


def _at(schema: Any, place: str) -> Any:
    """The schema with references to its own definitions, which lie at `place` in the complete schema."""
    if isinstance(schema, dict):
        moved = {name: _at(value, place) for name, value in schema.items()}
        if isinstance(reference := moved.get("$ref"), str):
            moved["$ref"] = reference.replace("#/$defs/", f"#/$defs/{place}/$defs/")
        return moved
    return [_at(part, place) for part in schema] if isinstance(schema, list) else schema


def _complete(kind: type[Node]) -> Schema:
    """Requires a kind's required inputs, by their present or former names."""
    changes, alternatives = kind.spec.changes, list[Schema]()
    for name in kind.spec.required:
        renamed = [old for old, new in changes.renamed.items() if new == name]
        replaced = [old for old, new in changes.replaced.items() if name in new]
        alternatives.append({"anyOf": [{"required": [each]} for each in (name, *renamed, *replaced)]})
    plain = [name for name, each in zip(kind.spec.required, alternatives, strict=True) if len(each["anyOf"]) == 1]
    others = [each for each in alternatives if len(each["anyOf"]) > 1]
    inputs: Schema = {"required": plain} | ({"allOf": others} if others else {})
    return _then(kind.spec.kind, {"properties": {"inputs": inputs}, "required": ["inputs"]} if alternatives else {})


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
