"""Describe kinds of node as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from textwrap import indent
from typing import Any

from engine.node import Node
from engine.registry import Registry
from engine.spec import Input, name_of

LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"} | {
    "multipleOf": "a multiple of {}",
    "maxLength": "at most {} characters",
    "minLength": "at least {} characters",
}


def in_short(kinds: Iterable[type[Node]]) -> str:
    """A line for each kind, by category: its name and the first sentence of its help."""
    by_category: dict[str, list[type[Node]]] = {}
    for kind in kinds:
        by_category.setdefault(kind.spec.category, []).append(kind)
    width = max(len(kind.spec.kind) for members in by_category.values() for kind in members)
    return "\n\n".join(
        "\n".join([category or "other", *(f"  {kind.spec.kind:{width}}  {_in_line(kind)}" for kind in members)])
        for category, members in sorted(by_category.items())
    )


def problems_of_packs(registry: Registry) -> list[str]:
    """A warning for each pack that can't be used."""
    return [f"warning: {offer} {offer.problem}" for offer in registry.packs if offer.problem]


def in_full(kind: type[Node]) -> str:
    """Everything about a kind, as a page of text."""
    spec, properties = kind.spec, kind.model_json_schema()["properties"]
    about = [spec.category or "other", f"version {spec.version}", *([f"of the pack {spec.pack}"] if spec.pack else [])]
    lines = [f"{spec.kind} ({', '.join(about)})", "", spec.help, ""]
    lines += [f"Deprecated: {spec.deprecated}", ""] if spec.deprecated else []
    lines += ["Volatile: it runs in every run, and so does what depends on it.", ""] if spec.volatile else []
    libraries = f"It is computed anew with another version of {' or '.join(spec.libraries)}."
    lines += [libraries, ""] if spec.libraries else []
    lines += ["Inputs"]
    for name, socket in spec.inputs.items():
        lines += [f"  {name}: {', '.join(_facts(socket, properties[name]))}", indent(socket.help, "      ")]
    lines += ["", "Outputs", *(f"  {output.name}: {name_of(output.type)}" for output in spec.outputs)]
    return "\n".join(lines)


def _in_line(kind: type[Node]) -> str:
    """The first line of its help, its pack, and whether it is deprecated or volatile."""
    marks = [str(kind.spec.pack)] if kind.spec.pack else []
    marks += [mark for mark in ("deprecated", "volatile") if getattr(kind.spec, mark)]
    return kind.spec.help.partition("\n")[0] + (f"  [{', '.join(marks)}]" if marks else "")


def _facts(socket: Input, schema: Mapping[str, Any]) -> Iterator[str]:
    if choices := schema.get("enum"):
        yield f"one of {' | '.join(map(repr, choices))}"
    else:
        yield name_of(socket.type)
    yield from (text.format(schema[name]) for name, text in LIMITS.items() if name in schema)
    yield "required" if socket.required else f"default {socket.default!r}"
    if socket.deprecated:
        yield f"deprecated: {socket.deprecated}"
