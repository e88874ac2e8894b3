"""The key of a node's outputs: a digest of everything that determines them, and of nothing else.

    sha256(format, kind, version, constants with defaults filled in, files' contents, {input: (producer's key, output)},
           for a kind from a file: the file's contents, from a pack: its name and version, from `__main__`: its code,
           for a kind that runs on a device: the device's kind, how exactly it computes, and versions of `LIBRARIES`,
           for a kind that names further libraries: their versions,
           for a volatile kind: the node's id, since two such nodes give different values)

Titles and positions never enter, nor do other nodes' ids. Tensors are never hashed: a value is named by how it is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

from engine.graph.code import code_digest
from engine.graph.graph import Gathered, Graph, Source, Step
from engine.models.precision import PRECISION
from engine.node import Node
from engine.registry import FILE_MODULE

FORMAT = 2
"""Raised when keys, or the values stored under them, change their meaning."""

LIBRARIES = ("torch", "diffusers", "transformers")
"""Whatever runs on a device depends on these; what else a kind depends on it names itself (`Spec.libraries`)."""

Key = str
"""64 hexadecimal digits."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def node_keys(graph: Graph, device: str) -> dict[str, Key]:
    """The key of every node, by id, for a run on that device ("cpu", "cuda:0")."""
    kinds = {step.kind for step in graph.steps.values()}
    identities = {kind: _identity(kind, device) for kind in kinds}  # once a run: code may change until the next
    keys: dict[str, Key] = {}
    for node in graph.order:
        step = graph.steps[node]
        keys[node] = _step_key(step, keys, identities[step.kind])
    return keys


def step_key(step: Step, keys: Mapping[str, Key], device: str) -> Key:
    """The key of one node, from the keys of those it links to."""
    return _step_key(step, keys, _identity(step.kind, device))


def _step_key(step: Step, keys: Mapping[str, Key], identity: str) -> Key:
    lines = [identity]
    if step.kind.spec.volatile:
        lines.append(f"volatile {step.id}")
    for name, default in _defaults(step.kind).items():
        # One line per input, by name; JSON holds no line breaks, so different inputs can't give the same text.
        if name in step.links:
            lines.append(f"{name}<{_linked(step.links[name], keys)}")
        elif name in step.contents:
            lines.append(f"{name}#{step.contents[name]}")
        elif name in step.constants:
            lines.append(f"{name}={_encode(step.constants[name])}")
        else:
            lines.append(default)
    return sha256("\n".join(lines).encode()).hexdigest()


def part_key(kind: type[Node], name: str, device: str | None) -> Key:
    """The key of a part of a node's work, from a name that states everything that determines it.

    Device and libraries enter as in a step's key. The device is None for a part that depends neither on it nor on
    `LIBRARIES`; the libraries that the kind names enter all the same.
    """
    return sha256(f"{_identity(kind, device)}\npart {name}".encode()).hexdigest()


def _identity(kind: type[Node], device: str | None) -> str:
    """What identifies a kind, its code included where that may change."""
    return _head(kind, device) + _code(kind)


def _linked(link: Source | Gathered, keys: Mapping[str, Key]) -> str:
    if isinstance(link, Gathered):
        return " ".join(["list", *(_linked(source, keys) for source in link.sources)])
    item = "" if link.item is None else f"[{link.item}]"
    return f"{link.output}{item} {keys[link.node]}"


@cache
def _head(kind: type[Node], device: str | None) -> str:
    spec = kind.spec
    file = f" {kind.__module__}" if kind.__module__.startswith(FILE_MODULE) else ""  # edited without a new version
    pack = f" {spec.pack.name}=={spec.pack.version} {spec.pack.state}".rstrip() if spec.pack else ""
    on_device = [_arithmetic(device), *map(_versioned, LIBRARIES)] if device and spec.uses == "device" else []
    own = [_versioned(name) for name in spec.libraries if not (on_device and name in LIBRARIES)]
    return " ".join([f"{FORMAT} {spec.kind} {spec.version}{file}{pack}", *on_device, *own])


def _code(kind: type[Node]) -> str:
    """A digest of the code of a kind that is defined in a notebook, a script or at a prompt, where it may change."""
    return f" {code_digest(kind)}" if kind.__module__ == "__main__" else ""


def _arithmetic(device: str) -> str:
    """The kind of device, and how it computes where that can be set."""
    kind = device.partition(":")[0]
    return f"{kind} {PRECISION}" if kind == "cuda" else kind


@cache
def _versioned(library: str) -> str:
    try:
        return f"{library}={version(library)}"
    except PackageNotFoundError:
        return f"{library}=none"


@cache
def _defaults(kind: type[Node]) -> Mapping[str, str]:
    """The line of each input that isn't given, in the order of the inputs' names."""
    sockets = sorted(kind.spec.inputs.values(), key=lambda socket: socket.name)
    return {socket.name: "" if socket.required else f"{socket.name}={_encode(socket.default)}" for socket in sockets}
