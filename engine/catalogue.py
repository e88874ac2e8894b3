"""The kinds of node as JSON data, for programs and the editor."""

from __future__ import annotations

from typing import Any

from engine.node import Node
from engine.spec import name_of


def as_data(kind: type[Node]) -> dict[str, Any]:
    """A kind of node as JSON data: what it is, its sockets, and the JSON schema of its inputs."""
    spec = kind.spec
    return {
        "kind": spec.kind,
        "version": spec.version,
        "category": spec.category,
        "pack": spec.pack.name if spec.pack else None,
        "deprecated": spec.deprecated,
        "help": spec.help,
        "uses": spec.uses,
        "saves": spec.saves or None,
        "temporary": spec.temporary,
        "volatile": spec.volatile,
        "libraries": list(spec.libraries),
        "inputs": [
            {"name": name, "type": name_of(socket.type), "required": socket.required, "help": socket.help}
            | ({} if socket.required else {"default": socket.default})
            | ({"holds": socket.holds} if socket.holds else {})
            | ({"deprecated": socket.deprecated} if socket.deprecated else {})
            for name, socket in spec.inputs.items()
        ],
        "outputs": [{"name": output.name, "type": name_of(output.type)} for output in spec.outputs],
        "schema": kind.model_json_schema(),
    }
