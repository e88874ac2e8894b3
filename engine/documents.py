"""The workflow that a command is about: found, read, given other inputs, and what models it needs.

It may be a file, standard input, one that ships with Kinograph, or what a picture or video carries: a document, a bare
graph, or what the ecosystem's editors save.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from engine.errors import MissingError, UsageError, WorkflowError, naming, suggestion
from engine.formats import from_ui, is_ui, kinds_in, without_traces
from engine.modes import active
from engine.node import fits
from engine.registry import Registry
from engine.subgraphs import exposed, inlined
from engine.workflow import Workflow, as_constant, json_of

SHIPPED = Path(__file__).resolve().parents[1] / "workflows"
PNG = b"\x89PNG\r\n\x1a\n"
MATROSKA = b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True, slots=True)
class Document:
    """A workflow and where it was found."""

    workflow: Workflow
    name: str
    base: Path | None
    """The folder to which the files it names are relative; None for standard input."""


def shipped() -> dict[str, Path]:
    """The workflows that come with Kinograph, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.json"))}


def shipped_media(name: str) -> list[Path]:
    """The files beside them that one of these workflows reads."""
    text = shipped()[name].read_text(encoding="utf-8")
    return sorted(path for path in SHIPPED.glob("*.png") if f'"{path.name}"' in text)


def parse(data: Any, registry: Registry) -> Workflow:
    """The workflow that JSON data are: a document, a bare graph, or what the ecosystem's editors save (the UI format).

    Raises:
        WorkflowError: with all that is malformed.
    """
    return from_ui(data, registry) if is_ui(data) else Workflow.read(without_traces(data, registry))


def read(name: str, registry: Registry) -> Document:
    """The document that a command line names: a path, `-` for standard input, or the name of a shipped workflow.

    Raises:
        MissingError: there is none of that name.
        UsageError: it is there but cannot be read.
        WorkflowError: it holds no workflow.
    """
    if name == "-":
        workflow = parse(json_of(sys.stdin.buffer.read()), registry)
        return Document(_with_files(workflow, Path.cwd(), registry), "standard input", None)
    with naming(name):
        path = Path(name).expanduser()
        if not path.exists():
            path = shipped().get(name, path)
    try:
        held = _held(path, registry)
    except FileNotFoundError:
        raise MissingError(f"there is no workflow '{name}'", hint=_near(path)) from None
    except OSError as error:
        raise UsageError(f"can't read '{name}': {error.strerror}") from None
    return Document(_with_files(held, path.parent, registry), path.stem, path.parent)


def _near(path: Path) -> str | None:
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return suggestion(path.name, [*shipped(), *(name for name in beside if not name.startswith("."))])


def tags(path: Path) -> Mapping[str, str] | None:
    """The texts that a PNG, WebP, MP4 or WebM carries, of which `workflow` and `prompt` are its workflow.

    None if it is no such file.

    Raises:
        WorkflowError: the file is damaged.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(PNG) or (start[:4], start[8:]) == (b"RIFF", b"WEBP"):
        return _picture_tags(path)
    return _video_tags(path) if start[4:8] == b"ftyp" or start.startswith(MATROSKA) else None


def _held(path: Path, registry: Registry) -> Workflow:
    carried = tags(path)
    return parse(json_of(path.read_bytes()), registry) if carried is None else _embedded(carried, path, registry)


def _with_files(workflow: Workflow, folder: Path, registry: Registry) -> Workflow:
    """The workflow with the files that it uses as nodes, in its folder or below, as subgraphs: it stands by itself."""
    subgraphs = dict(workflow.subgraphs)
    waiting = [workflow, *subgraphs.values()]
    while waiting:
        for entry in waiting.pop().graph.values():
            name = entry.class_type
            if name.endswith(".json") and name not in subgraphs:
                part = _part(name, folder, registry)
                subgraphs[name] = part
                waiting.append(part)
    return workflow.model_copy(update={"subgraphs": subgraphs})


def _part(name: str, folder: Path, registry: Registry) -> Workflow:
    """A file that is used as a node, with its own subgraphs called after it."""
    with naming(name):
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise WorkflowError(f"'{name}' is used as a node, but is not in the workflow's folder or below")
    try:
        part = parse(json_of(path.read_bytes()), registry)
    except OSError:
        raise MissingError(f"there is no workflow '{name}' in {folder} to use as a node", hint=_near(path)) from None
    except WorkflowError as error:
        raise WorkflowError(f"'{name}', used as a node: {error.message}") from None
    if part.subgraphs:
        raise WorkflowError(
            f"'{name}' is used as a node and defines subgraphs itself", hint="put these into files of their own"
        )
    return part


def _embedded(tags: Mapping[str, str], path: Path, registry: Registry) -> Workflow:
    """The document that a file carries; of other programs' the UI format, if all of it can be read, or else the graph.

    These put the former in `workflow`, the latter in `prompt`.
    """
    found = {name: _tag(text, path) for name in ("workflow", "prompt") if (text := tags.get(name))}
    if not found:
        raise WorkflowError(
            f"{path.name} carries no workflow", hint="files that Kinograph saves carry the one that made them"
        )
    if len(found) == 2 and is_ui(found["workflow"]):
        return _whole(found["workflow"], found["prompt"], registry) or parse(found["prompt"], registry)
    return parse(next(iter(found.values())), registry)


def _tag(text: str, path: Path) -> Any:
    """The JSON data in a tag; numbers that JSON doesn't have, as other programs write them, are None."""
    try:
        return from_json(to_json(from_json(text), inf_nan_mode="null"))
    except ValueError as error:
        raise WorkflowError(f"what {path.name} carries as its workflow is not JSON: {error}") from None


def _whole(data: Any, graph: Any, registry: Registry) -> Workflow | None:
    """A workflow in the UI format, unless it can't be read whole, as the graph that was made of it tells."""
    made = kinds_in(graph)
    try:
        workflow = from_ui(data, registry)
        flat = inlined(workflow, registry).workflow
    except WorkflowError:
        return None
    known = {kind for kind in made if kind in registry}
    runs = {entry.class_type for entry in active(flat, registry).graph.values()}
    has = {entry.class_type for entry in flat.graph.values()}
    return workflow if known <= has and {kind for kind in runs if kind not in registry} <= made else None


def _picture_tags(path: Path) -> dict[str, str]:
    """Of a WebP, other programs write `name:text` into whatever EXIF tags they like."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            texts = {str(name): text for name, text in picture.info.items() if isinstance(text, str)}
            noted = [text.partition(":") for text in picture.getexif().values() if isinstance(text, str)]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for a damaged file
        raise WorkflowError(f"{path.name} is not a sound picture") from error
    return {name: text for name, _, text in noted} | texts


def _video_tags(path: Path) -> dict[str, str]:
    """Matroska writes names in capitals. Some programs put all that they have to say into a comment, as JSON."""
    import av

    try:
        with av.open(path) as container:
            found = {name.lower(): text for name, text in container.metadata.items()}
    except av.FFmpegError as error:
        raise WorkflowError(f"{path.name} is not a sound video: {error.strerror}") from error
    try:
        comment = from_json(found.get("comment", ""))
    except ValueError:
        return found
    told = comment if isinstance(comment, dict) else {}
    return {name: data if isinstance(data, str) else json.dumps(data) for name, data in told.items()} | found


def with_setting(
    workflow: Workflow, registry: Registry, setting: str, option: str = "--set", *, from_here: bool = True
) -> Workflow:
    """The workflow with one input changed.

    Args:
        workflow: the workflow.
        registry: the kinds of node, which tell what an input takes.
        setting: `node.input=value`, or `name=value` for a name that the workflow exposes. The value is JSON, unless the
            input takes a text or the value is not JSON.
        option: what it was given with, for the message.
        from_here: whether a file is sought where people are, before the workflow's folder.

    Raises:
        UsageError: the workflow has no such input.
    """
    name, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"{option} {setting}: there is no '='", hint=f"write {option} node.input=value")
    node, _, place = workflow.inputs.get(name, name).rpartition(".")
    inner = exposed(workflow, node, place)
    entry = inlined(workflow, registry).workflow.graph.get(inner[0]) if inner else None
    kind = registry.get(entry.class_type) if entry else None
    if inner is None or entry is None or (kind and inner[1] not in kind.spec.inputs):
        hint = _near_input(name, workflow, registry)
        raise UsageError(f"{option} {name}: the workflow has no such input", hint=hint)
    socket = kind.spec.inputs[inner[1]] if kind else None
    if socket and socket.file:
        file = _from_here(text, socket.file.find or Path.exists) if from_here else text
        return workflow.with_input(node, place, file)
    return workflow.with_input(node, place, text if socket and fits(str, socket.type) else _json_or_text(text))


def up_to(document: Document, node: str) -> Document:
    """The part of a document that leads to one of its nodes; raises UsageError if there is no such node."""
    graph = document.workflow.graph
    if node not in graph:
        raise UsageError(f"the workflow has no node '{node}'", hint=suggestion(node, graph))
    return replace(document, workflow=document.workflow.up_to(node))


def _from_here(name: str, find: Callable[[Path], object]) -> str:
    """The path of a file that is there, seen from where people are, else the name as it is."""
    with naming(name):
        path = Path(name).expanduser().absolute()
        return str(path) if name and find(path) else name


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _near_input(name: str, workflow: Workflow, registry: Registry) -> str | None:
    known = list(workflow.inputs)
    for node, entry in workflow.graph.items():
        kind, subgraph = registry.get(entry.class_type), workflow.subgraphs.get(entry.class_type)
        sockets = kind.spec.inputs if kind else subgraph.inputs if subgraph else ()
        known += [f"{node}.{socket}" for socket in sockets]
    return suggestion(name, known)


def models_of(workflow: Workflow, registry: Registry) -> dict[str, list[tuple[str, str]]]:
    """The model sources that a workflow names where it isn't muted or bypassed, with the nodes and inputs that do."""
    sources: dict[str, list[tuple[str, str]]] = {}
    for node, entry in active(inlined(workflow, registry).workflow, registry).graph.items():
        kind = registry.get(entry.class_type)
        for socket in kind.spec.inputs.values() if kind else ():
            value = as_constant(entry.inputs.get(socket.name, None if socket.required else socket.default))
            if socket.holds == "model" and isinstance(value, str):
                sources.setdefault(value, []).append((node, socket.name))
    return sources
