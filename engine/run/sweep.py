"""A grid of runs: one workflow with every combination of several inputs' values, as one graph.

Nodes with equal keys are one step of a plan, so what combinations share is computed once, and all else side by side.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import product
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import Any

from engine.document.reading import Document
from engine.document.settings import with_setting
from engine.document.workflow import split_id
from engine.errors import UsageError
from engine.events import Event, NodeFailed, NodeSaved, NodeSkipped, RunFinished, Status
from engine.graph.graph import Gathered, Graph, Source
from engine.run.contact_sheet import Tile, contact_sheet
from engine.run.saving import claim

MOST = 1000
"""Combinations that a sweep may have."""
LABEL = 48
"""Letters of a value that a label shows."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An input, `node.input` or a name that the workflow exposes, and the values that it takes, as written."""

    name: str
    values: tuple[str, ...]

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
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise UsageError(f"--axis {text}: {twice} is there twice")
        return cls(name, values)


def _values(listed: str) -> tuple[str, ...]:
    try:
        values: Any = json.loads(listed)
    except ValueError:
        values = None
    if isinstance(values, list):
        return tuple(value if isinstance(value, str) else json.dumps(value) for value in values)
    return tuple(value.strip() for row in csv.reader([listed], skipinitialspace=True) for value in row)


def combinations(
    document: Document, axes: Sequence[Axis], *, by_command: bool = False
) -> dict[tuple[str, ...], Document]:
    """The document with every combination of the axes' values, the last axis fastest.

    Args:
        document: the workflow.
        axes: the inputs and their values.
        by_command: whether they were given with `--axis`, by someone who names files as seen from where they are.

    Raises:
        UsageError: the workflow has no such input, an axis is there twice, or there are too many combinations.
    """
    option = "--axis" if by_command else "axis"
    names = [axis.name for axis in axes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{option} {twice} is there twice", hint="give all of its values at once")
    if (count := prod(len(axis.values) for axis in axes)) > MOST:
        raise UsageError(f"these are {count:,} combinations, and at most {MOST:,} can be run at once")
    made: dict[tuple[str, ...], Document] = {}
    for values in product(*(axis.values for axis in axes)):
        workflow = document.prepared
        for name, value in zip(names, values, strict=True):
            workflow = with_setting(workflow, f"{name}={value}", option, from_here=by_command)
        made[values] = replace(document, prepared=workflow)
    return made


def joined(graphs: Sequence[Graph]) -> Graph:
    """Graphs side by side as one, the nodes of the i-th called `i:…`."""
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


def in_short(axes: Sequence[Axis], values: Sequence[str]) -> str:
    """A combination as a label: "seed 1, steps 20"."""
    names = (axis.name.rpartition(".")[2] for axis in axes)
    told = (shorten(value, LABEL, placeholder="…") for value in values)
    return ", ".join(f"{name} {value}" for name, value in zip(names, told, strict=True))


@dataclass(slots=True)
class Outcome:
    """What became of one combination."""

    values: tuple[str, ...]
    targets: frozenset[str]
    """Its nodes that save, as they are called in the joined graph."""
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """What each of them wrote."""
    status: Status = "cancelled"


def outcomes(graph: Graph, combinations: Iterable[tuple[str, ...]]) -> list[Outcome]:
    """An outcome to be filled in for each combination of a joined graph."""
    targets: dict[int, set[str]] = {}
    for target in graph.targets:
        targets.setdefault(int(target.partition(":")[0]), set()).add(target)
    return [Outcome(values, frozenset(targets.get(part, ()))) for part, values in enumerate(combinations)]


def note(made: Sequence[Outcome], event: Event) -> None:
    """Take note of what an event tells of the outcomes."""
    match event:
        case NodeSaved(node, files):
            target = split_id(node)[0]
            files_of = made[int(node.partition(":")[0])].files
            files_of[target] = files_of.get(target, ()) + files
        case NodeFailed(node) | NodeSkipped(node):
            made[int(node.partition(":")[0])].status = "failed"
        case RunFinished(status):
            for outcome in made:
                if outcome.status == "cancelled" and outcome.files.keys() == outcome.targets:
                    outcome.status = "done"
                elif outcome.status == "cancelled" and status != "cancelled":
                    outcome.status = "failed"  # what stopped it was told of another that shares it


def table(axes: Sequence[Axis], made: Iterable[Outcome], folder: Path) -> str:
    """CSV: a column for each axis, how it ended, and the files in `folder`."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(axis.name for axis in axes), "status", "files"])
    for outcome in made:
        written = [path for paths in outcome.files.values() for path in paths if path.is_relative_to(folder)]
        files = [path.relative_to(folder).as_posix() for path in written]
        writer.writerow([*outcome.values, outcome.status, " ".join(files)])
    return text.getvalue()


def save(axes: Sequence[Axis], made: Sequence[Outcome], folder: Path) -> tuple[Path, Path]:
    """Write the contact sheet, the last axis across, and the table; returns their paths."""
    tiles = [Tile(in_short(axes, outcome.values), _first_picture(outcome)) for outcome in made]
    folder.mkdir(parents=True, exist_ok=True)
    sheet, listing = claim(folder / "sweep_00001.png"), claim(folder / "sweep_00001.csv")
    contact_sheet(tiles, columns=len(axes[-1].values)).save(sheet)
    listing.write_text(table(axes, made, folder), encoding="utf-8")
    return sheet, listing


def _first_picture(outcome: Outcome) -> Path | None:
    files = [path for paths in outcome.files.values() for path in paths]
    return next((path for path in files if path.suffix in (".png", ".mp4")), None)
