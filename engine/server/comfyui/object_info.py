"""Descriptions of the kinds of node, for ComfyUI's clients and for Kinograph's editor.

`engine.document.sockets` says how types are named. A list of values is its items' type with `output_is_list`, and
a picture to choose a list of the input folder's files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import JsonValue

from engine.catalogue import as_data
from engine.document.sockets import PRIMITIVES, choices, has_control, has_widget, type_name
from engine.node import Node
from engine.registry import Registry
from engine.server.files.paths import walk
from engine.server.files.pictures import FILMS, PICTURES
from engine.server.files.texts import TEXTS
from engine.server.http.routes import OWN, Answer, Routes
from engine.server.http.settings import REGISTRY, SETTINGS, Folders
from engine.spec import Input, linkable, name_of
from engine.values import Video

routes = Routes("nodes")

MOST_WHOLE = 2**53 - 1
"""The largest integer that JavaScript represents exactly; sent to clients where an input has no limit."""
MOST_FLOAT = 1e9

Spec = list[JsonValue]
"""A type, or a list of choices; and an object with default, limits and tooltip."""


class Links(Answer):
    """Which types may be linked."""

    links: dict[str, list[str]]
    """For each output type, the input types that it may be linked to."""


@routes.get("/object_info")
async def object_info(request: web.Request) -> dict[str, dict[str, JsonValue]]:
    """All kinds of node, in ComfyUI's format."""
    return await asyncio.to_thread(_all_info, request.app[REGISTRY], request.app[SETTINGS].folders)


@routes.get("/object_info/{kind}")
async def object_info_of(request: web.Request, kind: str) -> dict[str, dict[str, JsonValue]]:
    """One kind of node, in ComfyUI's format; an empty object if there is no such kind."""
    found = request.app[REGISTRY].get(kind)
    return {kind: await asyncio.to_thread(info, found, request.app[SETTINGS].folders)} if found else {}


@routes.get(f"{OWN}/nodes")
async def nodes(request: web.Request) -> dict[str, dict[str, JsonValue]]:
    """All kinds of node, with inputs, outputs, and the JSON schema of the inputs."""
    registry = request.app[REGISTRY]
    return await asyncio.to_thread(lambda: {name: as_data(kind) for name, kind in registry.items()})


@routes.get(f"{OWN}/types")
async def types(request: web.Request) -> Links:
    """Which inputs an output may be linked to, by the names of their types."""
    return Links(links=await asyncio.to_thread(links, request.app[REGISTRY]))


def links(registry: Registry) -> dict[str, list[str]]:
    """For each output type, the input types that it may be linked to."""
    specs = [kind.spec for kind in registry.values()]
    given = {name_of(output.type): output.type for spec in specs for output in spec.outputs}
    taken = {name_of(socket.type): socket.type for spec in specs for socket in spec.inputs.values()}
    return {
        output: sorted(name for name, annotation in taken.items() if linkable(given[output], annotation))
        for output in sorted(given)
    }


def info(kind: type[Node], folders: Folders, media: Media | None = None) -> dict[str, JsonValue]:
    """One kind as an entry of /object_info."""
    spec, media = kind.spec, media or Media(folders)
    properties = kind.model_json_schema()["properties"]
    entries: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
    for name, socket in spec.inputs.items():
        entries["required" if socket.required else "optional"][name] = _input(kind, socket, properties[name], media)
    return {
        "input": {**entries, "hidden": {}},
        "input_order": {part: list(sockets) for part, sockets in entries.items()},
        "is_input_list": False,
        "output": [type_name(output.type) for output in spec.outputs],
        "output_is_list": [output.item is not None for output in spec.outputs],
        "output_name": [output.name for output in spec.outputs],
        "output_tooltips": [name_of(output.type) for output in spec.outputs],
        "name": spec.kind,
        "display_name": spec.kind,
        "description": spec.help,
        "python_module": kind.__module__,
        "category": spec.category,
        "output_node": bool(spec.saves),
        "deprecated": bool(spec.deprecated),
        "volatile": spec.volatile,
        "experimental": False,
    }


class Media:
    """The selectable files of the input folder, listed once, when first needed."""

    def __init__(self, folders: Folders) -> None:
        self._root = folders.input
        self._names: list[str] | None = None

    def ending_in(self, suffixes: Sequence[str]) -> list[JsonValue]:
        if self._names is None:
            self._names = sorted(f"{file.subfolder}/{file.filename}".lstrip("/") for file in walk(self._root))
        return [name for name in self._names if name.lower().endswith(tuple(suffixes))]


def _all_info(registry: Registry, folders: Folders) -> dict[str, dict[str, JsonValue]]:
    media = Media(folders)
    return {name: info(kind, folders, media) for name, kind in registry.items()}


def _input(kind: type[Node], socket: Input, schema: Mapping[str, Any], media: Media) -> Spec:
    """The specification of one input."""
    about: dict[str, Any] = {"tooltip": socket.help}
    if not socket.required:
        about["default"] = socket.default
    if socket.lazy:
        about["lazy"] = True
    if socket.holds == "media":
        given = {output.type for output in kind.spec.outputs}
        if given == {str}:
            return [media.ending_in([*TEXTS]), about]
        upload, suffixes = ("video_upload", FILMS) if Video in given else ("image_upload", PICTURES)
        return [media.ending_in([*suffixes]), about | {upload: True}]
    if (chosen := choices(socket.type)) and has_widget(socket):
        return [[*chosen], about]
    name = type_name(socket.type)
    if name in PRIMITIVES.values():
        about |= dict(_widget(name, _constraints(schema)))
        if not has_widget(socket):
            about["forceInput"] = True
            about.pop("default", None)
        if has_control(socket):  # said, so that the editor counts its value among those of the widgets
            about["control_after_generate"] = True
    return [name, about]


def _widget(name: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, JsonValue]]:
    """The options of a number's or a text's widget."""
    whole = name == "INT"
    if whole or name == "FLOAT":
        step = schema.get("multipleOf", 1 if whole else 0.01)
        most = MOST_WHOLE if whole else MOST_FLOAT
        low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        yield "min", schema.get("minimum", -most if low is None else low + step)
        yield "max", schema.get("maximum", most if high is None else high - step)
        yield "step", step
    if name == "STRING":
        yield "multiline", schema.get("widget") == "multiline"
        yield "dynamicPrompts", False


def _constraints(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of an input's JSON schema with its limits, also for an optional type."""
    parts = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    return {**schema, **(parts[0] if parts else {})}
