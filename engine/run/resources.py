"""What the runs of a process share, and running a graph with its events reported."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from engine.errors import Cancelled, UsageError
from engine.events import Event
from engine.graph.graph import Graph
from engine.models import Models, home
from engine.run.activations import Activations
from engine.run.cancelling import Cancellation
from engine.run.computing import Within
from engine.run.costs import Costs
from engine.run.deliveries import Claims
from engine.run.execute import Execution
from engine.run.reporter import Reporter
from engine.store.cache import Cache
from engine.store.disk import Disk

COSTS = "costs.json"
"""The file in Kinograph's folder that holds how long nodes take."""
ACTIVATIONS = "activations.json"
"""The file there that holds how much of a device's memory nodes take."""


@dataclass(frozen=True)
class CacheLimits:
    """Where results are kept, and how many bytes they may take; None: by the size of the machine or container."""

    folder: Path | None = None
    device: int | None = None
    host: int | None = None
    disk: int | None = None
    keep: bool = True
    """Whether results outlive the run."""


def open_disk(folder: Path | None, budget: int | None = None) -> Disk:
    """The results on disk, in the folder given or the usual one."""
    folder = folder or home() / "cache"
    try:
        return Disk(folder, budget)
    except OSError as error:
        raise UsageError(
            f"results can't be kept in {folder}: {error.strerror}", hint="choose another folder for the cache"
        ) from error


class Resources(NamedTuple):
    """What the runs of a process share."""

    device: str
    cache: Cache
    models: Models
    costs: Costs
    activations: Activations

    def execution(
        self,
        graph: Graph,
        out: Path,
        *,
        temp: Path | None = None,
        alone: bool = False,
        claims: Claims | None = None,
        on_start: Callable[[str, str], None] | None = None,
        within: Within = nullcontext,
        wants_preview: Callable[[], bool] = lambda: False,
    ) -> Execution:
        """A run of the graph; the arguments are those of `Execution`."""
        return Execution(
            graph,
            cache=self.cache,
            out=out,
            device=self.device,
            models=self.models,
            costs=self.costs,
            activations=self.activations,
            temp=temp,
            claims=claims,
            on_start=on_start,
            within=within,
            wants_preview=wants_preview,
            alone=alone,
        )


@contextmanager
def open_resources(limits: CacheLimits, device: str) -> Iterator[Resources]:
    """Resources whose results and models share the device's memory; leaving waits until results are on disk."""
    models = Models(device_budget=limits.device)
    disk = open_disk(limits.folder, limits.disk) if limits.keep else None
    with Cache(limits.host, disk, device=lambda: models.device_budget(device) - models.device_nbytes) as cache:
        models.share(device=cache.device, host=cache.memory)
        yield Resources(device, cache, models, Costs(home() / COSTS), Activations(home() / ACTIVATIONS))


def stream_events(execution: Execution, reporter: Reporter, cancellation: Cancellation) -> Generator[Event, None, None]:
    """Run the execution; report its events and yield them. A caller that stops iterating cancels it."""
    cancellation.execution = execution
    if cancellation.cancelled:  # by a signal that a library took for an error of its own
        raise Cancelled
    for event in execution:
        reporter.event(event)
        yield event
    cancellation.execution = None
