"""A pack's kinds of node as JSON data: everything that is known of them without running them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from platform import python_implementation, python_version
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.node import Node
from engine.packs.annotations import ClassData, Encoder
from engine.spec import Input, Uses

FORMAT = 3
"""Raised when the form of descriptions changes."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputData(_Data):
    name: str
    type: Any
    """As `engine.packs.annotations` encodes it."""
    required: bool
    default: Any = None
    help: str = ""


class OutputData(_Data):
    name: str
    type: Any


class KindData(_Data):
    """A kind of node."""

    kind: str
    module: str
    version: int
    category: str
    uses: Uses
    saves: str
    temporary: bool
    retries: int
    volatile: bool
    libraries: tuple[str, ...]
    deprecated: str
    renamed: dict[str, str]
    removed: dict[str, str]
    replaced: dict[str, tuple[str, ...]]
    help: str
    inputs: tuple[InputData, ...]
    outputs: tuple[OutputData, ...]
    named: bool
    """Whether its outputs are a NamedTuple."""
    input_schema: dict[str, Any]
    """The JSON schema of its inputs."""


class Description(_Data):
    """A pack's kinds and the classes in their annotations, or why the pack can't be described."""

    kinds: tuple[KindData, ...] = ()
    classes: dict[str, ClassData] = {}
    problem: str | None = None


def made_with() -> str:
    """What a description depends on besides its pack."""
    return f"{FORMAT} {version('kinograph')} {python_implementation()} {python_version()}"


def describe(kinds: Iterable[type[Node]]) -> Description:
    """The description of these classes.

    Raises:
        ValueError: a default is not a JSON value.
    """
    encoder = Encoder()
    described = tuple(_kind(kind, encoder) for kind in kinds)
    return Description(kinds=described, classes=encoder.classes)


def _kind(kind: type[Node], encoder: Encoder) -> KindData:
    spec = kind.spec
    return KindData(
        kind=spec.kind,
        module=kind.__module__,
        version=spec.version,
        category=spec.category,
        uses=spec.uses,
        saves=spec.saves,
        temporary=spec.temporary,
        retries=spec.retries,
        volatile=spec.volatile,
        libraries=spec.libraries,
        deprecated=spec.deprecated,
        renamed=dict(spec.changes.renamed),
        removed=dict(spec.changes.removed),
        replaced=dict(spec.changes.replaced),
        help=spec.help,
        inputs=tuple(_input(spec.kind, socket, encoder) for socket in spec.inputs.values()),
        outputs=tuple(OutputData(name=each.name, type=encoder.encode(each.type)) for each in spec.outputs),
        named=spec.named,
        input_schema=kind.model_json_schema(),
    )


def _input(kind: str, socket: Input, encoder: Encoder) -> InputData:
    default = None if socket.required else socket.default
    try:
        default = json.loads(json.dumps(default))
    except (TypeError, ValueError):
        raise ValueError(f"the default of {kind}'s input '{socket.name}' is not a JSON value") from None
    marked: Any = Annotated[socket.field.annotation, Field(), *socket.field.metadata]
    return InputData(
        name=socket.name, type=encoder.encode(marked), required=socket.required, default=default, help=socket.help
    )
