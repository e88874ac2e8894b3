"""From a document to a graph that can run: checked, and its models fetched."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.document.prepared import models_of
from engine.document.reading import Document
from engine.errors import Cancelled, MissingError, Problem
from engine.graph.check import check
from engine.graph.graph import Graph
from engine.models import can_fetch, find, resolve
from engine.registry import Registry
from engine.run.cancelling import Stop
from engine.run.reporter import Reporter


def ready(
    document: Document,
    registry: Registry,
    shown: Reporter,
    stop: Stop,
    targets: Sequence[str] | None,
    roots: Mapping[str, Path] | None = None,
) -> Graph:
    """The checked graph, with its models fetched; `targets` and `roots` are those of `check`."""
    needed, base = models_of(document.workflow, registry), roots["models"] if roots else document.base
    try:
        graph = check(document.workflow, registry, base=document.base, targets=targets, roots=roots)
    except MissingError as error:
        fetchable = {place for source, places in needed.items() if can_fetch(source) for place in places}
        if any((problem.node, problem.input) not in fetchable for problem in error.problems):
            raise  # nothing is fetched for a run that can't be
        fetch_models(needed, base, shown, stop)
        return check(document.workflow, registry, base=document.base, targets=targets, roots=roots)
    fetch_models(needed, base, shown, stop)
    return graph


def fetch_models(needed: Mapping[str, list[tuple[str, str]]], base: Path | None, shown: Reporter, stop: Stop) -> None:
    """Fetch the models that are not here; raises MissingError with all that cannot be had, and who needs them."""
    one_at_a_time = threading.Lock()
    problems: list[Problem] = []
    for source, places in needed.items():

        def progress(done: int, total: int, source: str = source) -> None:
            if stop.stopped:
                raise Cancelled
            with one_at_a_time:
                shown.download(source, done, total)

        try:
            if find(source, base=base) is None:
                shown.downloaded(source, resolve(source, base=base, progress=progress))
        except MissingError as error:
            named = [replace(p, node=node, input=socket) for p in error.problems for node, socket in places]
            problems += named or error.problems
    if problems:
        raise MissingError.of(problems)
