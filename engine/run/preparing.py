"""Turn a document into a graph that can run: packs imported, checked, and with its models fetched."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.document.prepared import Socket
from engine.document.reading import Document
from engine.errors import Cancelled, MissingError, Problem
from engine.graph.check import check, examine
from engine.graph.graph import Graph
from engine.models import can_fetch, find, resolve
from engine.run.cancelling import Cancellation
from engine.run.reporter import Reporter


def runnable_graph(
    document: Document,
    reporter: Reporter,
    cancellation: Cancellation,
    targets: Sequence[str] | None,
    roots: Mapping[str, Path] | None = None,
) -> Graph:
    """The checked graph, with its packs imported and its models fetched; `targets` and `roots` are those of `check`."""
    workflow = document.prepared.imported()
    found = examine(workflow, base=document.base, targets=targets, roots=roots, folders=document.folders)
    if not found.can_run:
        raise found.error()  # nothing is fetched for a run that can't start
    fetched = {source: sockets for source, sockets in workflow.models.items() if can_fetch(source)}
    fetch_models(fetched, reporter, cancellation)
    return found.graph or check(workflow, base=document.base, targets=targets, roots=roots, folders=document.folders)


def fetch_models(needed: Mapping[str, Iterable[Socket]], reporter: Reporter, cancellation: Cancellation) -> None:
    """Fetch the models that are not on this machine, of sources beyond it.

    Raises:
        MissingError: listing every model that can't be fetched, with the inputs that need it.
    """
    one_at_a_time = threading.Lock()
    problems: list[Problem] = []
    for source, sockets in needed.items():

        def progress(done: int, total: int, source: str = source) -> None:
            if cancellation.cancelled:
                raise Cancelled
            with one_at_a_time:
                reporter.download(source, done, total)

        try:
            if find(source) is None:
                reporter.downloaded(source, resolve(source, progress=progress))
        except MissingError as error:
            named = [replace(p, node=node, input=socket) for p in error.problems for node, socket in sockets]
            problems += named or error.problems
    if problems:
        raise MissingError.of(problems)
