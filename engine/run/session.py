"""From a document to a run: models fetched, budgets set, events shown."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import Cancelled, UsageError
from engine.events import Event
from engine.graph.graph import Graph
from engine.models import Models, home
from engine.run.cancelling import Cancellation
from engine.run.costs import Costs
from engine.run.execute import Execution
from engine.run.reporter import Reporter
from engine.store.cache import Cache
from engine.store.disk import Disk
from engine.store.sizes import parsed_size

COSTS = "costs.json"
"""Where, in Kinograph's folder, it is kept what nodes take."""


@dataclass(frozen=True)
class CacheLimits:
    """Where results are kept, and what they may take in bytes; None is what the machine suggests."""

    folder: Path | None
    device: int | None
    host: int | None
    disk: int | None
    keep: bool
    """Whether results outlive the run."""

    @classmethod
    def parsed(cls, out: Path, folder: Path | None, device: str, host: str, disk: str, no_cache: bool) -> CacheLimits:
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


class Session(NamedTuple):
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
def open_session(limits: CacheLimits, device: str) -> Iterator[Session]:
    """Results and models share the device's memory. Leaving waits until results are on disk."""
    models = Models(device_budget=limits.device)
    disk = opened(limits.folder, limits.disk) if limits.keep else None
    with Cache(limits.host, disk, device=lambda: models.device_budget(device) - models.device_nbytes) as cache:
        models.on_move = cache.device.trim
        yield Session(device, cache, models, Costs(home() / COSTS))


def events_of(execution: Execution, shown: Reporter, stop: Cancellation) -> Generator[Event, None, None]:
    """Run it, and show and hand on its events; who stops listening ends it in good order."""
    stop.execution = execution
    if stop.stopped:  # by a signal that a library took for an error of its own
        raise Cancelled
    for event in execution:
        shown.event(event)
        yield event
    stop.execution = None
