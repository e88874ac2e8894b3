"""A grid of runs: one workflow with every combination of several inputs' values, as one graph.

Nodes with equal keys are one step of a plan, so what combinations share is computed once, and all else side by side.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import product
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import Any

from engine.document.reading import Document
from engine.document.settings import with_setting, with_value
from engine.document.workflow import split_id
from engine.errors import UsageError
from engine.events import Event, NodeFailed, NodeResult, NodeSaved, NodeSkipped, RunFinished, Status
from engine.graph.graph import Gathered, Graph, Source
from engine.run.contact_sheet import Tile, contact_sheet
from engine.run.saving import write_new

MAX_COMBINATIONS = 1000
"""How many combinations a sweep may have."""
LABEL_CHARACTERS = 48
"""Characters of a value that a label shows."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An input, `node.input` or a name that the workflow exposes, and the values that it takes, as written."""

    name: str
    values: tuple[str, ...]
    constants: tuple[Any, ...] | None = None
    """The values as JSON data, if they are given as such instead of as text."""
    option: str = "axis"
    """What messages call it."""

    @classmethod
    def of(cls, name: str, constants: Sequence[Any]) -> Axis:
        """An axis of constants, which are JSON data.

        Raises:
            UsageError: there are none, or two have the same text.
        """
        if not constants:
            raise UsageError(f"axis {name}: there are no values")
        return cls(name, _distinct(map(_text, constants), f"axis {name}"), tuple(constants))

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Axis:
        """From `data`, or as earlier versions wrote it: with texts as on the command line, `{"name", "values"}`."""
        if "constants" in data:
            return cls.of(data["name"], data["constants"])
        return cls(data["name"], tuple(data["values"]))

    def data(self) -> dict[str, Any]:
        """An axis of constants as JSON data, `{"name", "constants"}`."""
        return {"name": self.name, "constants": list(self.constants or ())}

    @classmethod
    def parse(cls, text: str) -> Axis:
        """From `node.input=a,b,c`, where a value with a comma in it is quoted, or `node.input=[…]`, a JSON list.

        Raises:
            UsageError: it is written otherwise, or gives a value twice.
        """
        name, equals, listed = text.partition("=")
        values = _values(listed)
        if not (name and equals and values):
            raise UsageError(f"--axis {text}: there are no values", hint="write --axis node.input=a,b,c")
        return cls(name, _distinct(values, f"--axis {text}"), option="--axis")


def _distinct(values: Iterable[str], where: str) -> tuple[str, ...]:
    """The values; raises UsageError if one is given twice."""
    given = tuple(values)
    for value, times in Counter(given).items():
        if times > 1:
            raise UsageError(f"{where}: {value} is given twice")
    return given


def _text(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _values(listed: str) -> tuple[str, ...]:
    try:
        values: Any = json.loads(listed)
    except ValueError:
        values = None
    if isinstance(values, list):
        return tuple(map(_text, values))
    return tuple(value.strip() for row in csv.reader([listed], skipinitialspace=True) for value in row)


def combinations(document: Document, axes: Sequence[Axis], *, from_cwd: bool) -> dict[tuple[str, ...], Document]:
    """The document with every combination of the axes' values, the last axis fastest.

    Args:
        document: the workflow.
        axes: the inputs and their values.
        from_cwd: whether files are looked for in the working folder before the workflow's folder.

    Raises:
        UsageError: the workflow has no such input, an axis is given twice, or there are too many combinations.
    """
    names = [axis.name for axis in axes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{axes[0].option} {twice} is given twice", hint="give all of its values at once")
    if (count := prod(len(axis.values) for axis in axes)) > MAX_COMBINATIONS:
        raise UsageError(f"these are {count:,} combinations, and at most {MAX_COMBINATIONS:,} can be run at once")
    made: dict[tuple[str, ...], Document] = {}
    for places in product(*(range(len(axis.values)) for axis in axes)):
        workflow = document.prepared
        for axis, place in zip(axes, places, strict=True):
            if axis.constants is None:
                setting = f"{axis.name}={axis.values[place]}"
                workflow = with_setting(workflow, setting, axis.option, from_cwd=from_cwd)
            else:
                where = f"{axis.option} {axis.name}"
                workflow = with_value(workflow, axis.name, axis.constants[place], where, from_cwd=from_cwd)
        values = tuple(axis.values[place] for axis, place in zip(axes, places, strict=True))
        made[values] = replace(document, prepared=workflow)
    return made


def joined(graphs: Sequence[Graph]) -> Graph:
    """Graphs side by side as one; the ids of the i-th one's nodes are prefixed with `i:`."""
    steps = {
        f"{part}:{node}": step._replace(
            id=f"{part}:{node}",
            links={name: _moved(link, part) for name, link in step.links.items()},
        )
        for part, graph in enumerate(graphs)
        for node, step in graph.steps.items()
    }
    order = tuple(f"{part}:{node}" for part, graph in enumerate(graphs) for node in graph.order)
    targets = tuple(f"{part}:{node}" for part, graph in enumerate(graphs) for node in graph.targets)
    parts = {f"{part}:{node}": (graph, node) for part, graph in enumerate(graphs) for node in graph.targets}
    first = graphs[0]
    return Graph(first.workflow, steps, order, targets, parts, confinement=first.confinement, warnings=first.warnings)


def _moved(link: Source | Gathered, part: int) -> Source | Gathered:
    if isinstance(link, Gathered):
        return Gathered(tuple(source._replace(node=f"{part}:{source.node}") for source in link.sources))
    return link._replace(node=f"{part}:{link.node}")


def label_of(axes: Sequence[Axis], values: Sequence[str]) -> str:
    """The label of a combination: "seed 1, steps 20"."""
    names = (axis.name.rpartition(".")[2] for axis in axes)
    shortened = (shorten(value, LABEL_CHARACTERS, placeholder="…") for value in values)
    return ", ".join(f"{name} {value}" for name, value in zip(names, shortened, strict=True))


@dataclass(slots=True)
class Outcome:
    """The outcome of one combination."""

    values: tuple[str, ...]
    targets: frozenset[str]
    """The nodes that it is for, by their ids in the joined graph."""
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """The files that each of them wrote; none for a node that returns values."""
    status: Status = "cancelled"


def outcomes(graph: Graph, combinations: Iterable[tuple[str, ...]]) -> list[Outcome]:
    """An outcome to be filled in for each combination of a joined graph."""
    targets: dict[int, set[str]] = {}
    for target in graph.targets:
        targets.setdefault(int(target.partition(":")[0]), set()).add(target)
    return [Outcome(values, frozenset(targets.get(part, ()))) for part, values in enumerate(combinations)]


def record(outcomes: Sequence[Outcome], event: Event) -> None:
    """Record what an event says about the outcomes."""
    match event:
        case NodeSaved(node, files):
            target = split_id(node)[0]
            files_of = outcomes[int(node.partition(":")[0])].files
            files_of[target] = files_of.get(target, ()) + files
        case NodeResult(node):
            outcomes[int(node.partition(":")[0])].files.setdefault(split_id(node)[0], ())
        case NodeFailed(node) | NodeSkipped(node):
            outcomes[int(node.partition(":")[0])].status = "failed"
        case RunFinished(status):
            for outcome in outcomes:
                if outcome.status == "cancelled" and outcome.files.keys() == outcome.targets:
                    outcome.status = "done"
                elif outcome.status == "cancelled" and status != "cancelled":
                    outcome.status = "failed"  # the failure was reported for another combination that shares the node


def table(axes: Sequence[Axis], outcomes: Iterable[Outcome], folder: Path) -> str:
    """CSV: a column for each axis, how it ended, and the files in `folder`."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(axis.name for axis in axes), "status", "files"])
    for outcome in outcomes:
        written = [path for paths in outcome.files.values() for path in paths if path.is_relative_to(folder)]
        files = [path.relative_to(folder).as_posix() for path in written]
        writer.writerow([*outcome.values, outcome.status, " ".join(files)])
    return text.getvalue()


def save(axes: Sequence[Axis], outcomes: Sequence[Outcome], folder: Path) -> tuple[Path, Path]:
    """Write the contact sheet, the last axis across, and the table; returns their paths.

    Raises:
        NodeError: one of them can't be written, as the disk is full.
    """
    tiles = [Tile(label_of(axes, outcome.values), _first_picture(outcome)) for outcome in outcomes]
    text = table(axes, outcomes, folder).encode()
    listing = write_new(folder / "sweep_00001.csv", lambda part: part.write_bytes(text))
    sheet = write_new(folder / "sweep_00001.png", contact_sheet(tiles, columns=len(axes[-1].values)).save)
    return sheet, listing


def _first_picture(outcome: Outcome) -> Path | None:
    files = [path for paths in outcome.files.values() for path in paths]
    return next((path for path in files if path.suffix in (".png", ".mp4")), None)
