"""From a document to a run: models fetched, budgets set, events shown."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from engine.cache import Cache
from engine.commands import Stop, parsed_size
from engine.console import Reporter
from engine.costs import Costs
from engine.disk import Disk
from engine.documents import Document, models_of
from engine.errors import Cancelled, MissingError, Problem, UsageError
from engine.events import Event
from engine.execute import Execution
from engine.graph import Graph, check
from engine.models import Models, can_fetch, find, home, resolve
from engine.registry import Registry

COSTS = "costs.json"
"""Where, in Kinograph's folder, it is kept what nodes take."""


@dataclass(frozen=True)
class Limits:
    """Where results are kept, and what they may take in bytes; None is what the machine suggests."""

    folder: Path | None
    device: int | None
    host: int | None
    disk: int | None
    keep: bool
    """Whether results outlive the run."""

    @classmethod
    def parsed(cls, out: Path, folder: Path | None, device: str, host: str, disk: str, no_cache: bool) -> Limits:
        """From the options of a command; raises UsageError if they make no sense."""
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is not a folder")
        if no_cache and (folder or disk):
            raise UsageError(f"--no-cache and {'--cache-dir' if folder else '--cache-disk'} exclude each other")
        sizes = {"--cache-device": device, "--cache-host": host, "--cache-disk": disk}
        on_device, on_host, on_disk = (parsed_size(name, text) if text else None for name, text in sizes.items())
        return cls(folder, on_device, on_host, on_disk, keep=not no_cache)


def opened(folder: Path | None, budget: int | None = None) -> Disk:
    """The results on disk, in the folder given or the usual one."""
    folder = folder or home() / "cache"
    try:
        return Disk(folder, budget)
    except OSError as error:
        raise UsageError(
            f"results can't be kept in {folder}: {error.strerror}", hint="--cache-dir or --no-cache"
        ) from error


class Workshop(NamedTuple):
    """What the runs of a process share."""

    device: str
    cache: Cache
    models: Models
    costs: Costs

    def execution(self, graph: Graph, out: Path, **how: Any) -> Execution:
        """A run of the graph, `how` as `Execution` takes it."""
        return Execution(
            graph, cache=self.cache, out=out, device=self.device, models=self.models, costs=self.costs, **how
        )


@contextmanager
def workshop(limits: Limits, device: str) -> Iterator[Workshop]:
    """Results and models share the device's memory. Leaving waits until results are on disk."""
    models = Models(device_budget=limits.device)
    disk = opened(limits.folder, limits.disk) if limits.keep else None
    with Cache(limits.host, disk, device=lambda: models.device_budget(device) - models.device_nbytes) as cache:
        models.on_move = cache.device.trim
        yield Workshop(device, cache, models, Costs(home() / COSTS))


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


def events_of(execution: Execution, shown: Reporter, stop: Stop) -> Iterator[Event]:
    """Run it, and show and hand on its events."""
    stop.execution = execution
    if stop.stopped:  # by a signal that a library took for an error of its own
        raise Cancelled
    for event in execution:
        shown.event(event)
        yield event
    stop.execution = None
