"""Attempts at running a node: again after a pause if its kind allows, and once more after freeing memory."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event as Flag
from typing import Any

from engine.errors import Cancelled, KinographError, NodeError
from engine.events import Event, NodeRetried, problem_of
from engine.graph.graph import Step
from engine.models import HOST, Models, is_out_of_memory
from engine.models.emptying import empty_cache
from engine.node import Context, Node
from engine.run import devices
from engine.run.activations import Activations
from engine.run.computing import Computing, Within
from engine.store.cache import Cache

RETRY_SECONDS = 0.5
"""The pause before a node's second attempt; each further one is twice as long."""


class Attempts:
    """Runs nodes, and reports each further attempt.

    Args:
        device: where nodes compute.
        models: the resident models, which may be moved off the device to make room.
        cache: whose values in memory may be dropped to make room.
        emit: called with each event.
        cancelled: set once the run is cancelled.
        activations: what nodes are known to take of the device.
        within: gives what is entered around each attempt, in the thread that the node runs in.
    """

    def __init__(
        self,
        device: str,
        models: Models,
        cache: Cache,
        emit: Callable[[Event], object],
        cancelled: Flag,
        activations: Activations,
        within: Within,
    ) -> None:
        self._device = device
        self._models = models
        self._cache = cache
        self._emit = emit
        self._cancelled = cancelled
        self._computing = Computing(device, models, activations, within)

    def run(self, step: Step, node: Node, ctx: Context) -> Any:
        """Run a step's node in as many attempts as its kind allows, and one more after freeing memory."""
        allowed, tried, freed = step.kind.spec.retries + 1, 0, False
        while True:
            try:
                return self._computing.run(node, ctx)
            except KinographError:
                raise
            except Exception as error:
                tried += 1
                if devices.unusable(self._device):
                    raise  # no further attempt can succeed
                if is_out_of_memory(error):
                    if freed:
                        raise self._out_of_memory(error) from error
                    allowed, freed, pause = allowed + 1, True, 0.0
                    self._free_memory()
                elif tried < allowed:
                    pause = RETRY_SECONDS * 2 ** (tried - 1)
                else:
                    raise
                self._emit(NodeRetried(step.id, problem_of(step.id, error), tried + 1, allowed, pause))
            if self._cancelled.wait(pause):
                raise Cancelled

    def close(self) -> None:
        """Release what attempts run with, once none runs."""
        self._computing.close()

    def _free_memory(self) -> None:
        """Free all the memory that can be freed where nodes compute."""
        self._models.release()
        if self._device == HOST:
            self._models.clear()
            self._cache.memory.trim(0)
        else:
            self._models.offload_idle()
            self._cache.device.trim(0)
        empty_cache()

    def _out_of_memory(self, error: Exception) -> NodeError:
        """The error for a node that ran out of memory twice."""
        models = self._models.nbytes if self._device == HOST else self._models.device_nbytes
        tier = self._cache.memory if self._device == HOST else self._cache.device
        reason = str(error).partition("\n")[0] or "no memory left"
        return NodeError(
            f"{self._device} is out of memory, even after everything else was moved off it: {reason} "
            f"(models hold {models / 1e9:.1f} GB of it, results {tier.nbytes / 1e9:.1f} GB)",
            hint="ask for a smaller size or fewer frames, load the model in a smaller dtype, or use another device",
        )
