"""Running a node on a device: room is made for what its kind takes there, and what it takes is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from engine.models import HOST, Models, is_out_of_memory
from engine.models.precision import exact_float32
from engine.models.usage import User
from engine.node import Context, Node
from engine.run.activations import Activations, size_of
from engine.run.threads import set_torch_threads
from engine.run.turns import user_of

Within = Callable[[], AbstractContextManager[object]]
"""Gives what is entered while a node runs."""


class Computing:
    """Runs nodes that compute on a device, one at a time, and in one thread, as CUDA's libraries keep memory there for
    each; only while a node has lent the device do others run in another.

    Args:
        device: where they compute.
        models: the resident models, which share the device with results.
        activations: what nodes are known to take beside these.
        within: gives what is entered around each run of a node, in the thread that it runs in.
    """

    def __init__(self, device: str, models: Models, activations: Activations, within: Within) -> None:
        self._device = device
        self._models = models
        self._activations = activations
        self._within = within
        self._idle: list[ThreadPoolExecutor] = []
        """Threads that no node runs in, one each."""

    def run(self, node: Node, ctx: Context) -> Any:
        """Run a node once."""
        on_device = node.spec.uses == "device"
        if not on_device or self._device == HOST:
            set_torch_threads(ctx.cores if on_device else 1)
            with self._within():
                return node.run(ctx)
        try:
            thread = self._idle.pop()
        except IndexError:
            thread = ThreadPoolExecutor(1, "kinograph-device")
        try:
            return thread.submit(self._run, node, ctx).result()
        finally:
            self._idle.append(thread)

    def close(self) -> None:
        """End the thread, once no node runs."""
        while self._idle:
            self._idle.pop().shutdown()

    def _run(self, node: Node, ctx: Context) -> Any:
        set_torch_threads(ctx.cores)
        user = user_of(node.spec.kind, self._device, (getattr(node, name) for name in node.spec.inputs))
        kind, size = user.kind, size_of(node)
        exact = ExitStack()
        ctx = replace(ctx, lend_device=partial(self._lend, user, size, exact, ctx.lend_device))
        self._models.begin(self._device, user, self._activations.of(kind, size))
        try:
            with exact, self._within():
                exact.enter_context(exact_float32())
                returned = node.run(ctx)
        except Exception as error:
            if is_out_of_memory(error):
                taken = self._models.end(self._device)
                self._activations.record_failure(kind, size, taken or self._models.kept_free(self._device))
            raise
        else:
            self._end(kind, size)
            return returned
        finally:
            self._models.release()

    def _end(self, kind: str, size: str) -> None:
        if (taken := self._models.end(self._device)) is not None:
            self._activations.record(kind, size, taken)

    @contextmanager
    def _lend(
        self, user: User, size: str, exact: ExitStack, lend: Callable[[], AbstractContextManager[object]]
    ) -> Iterator[None]:
        """Leave the device to other nodes for a while: the models may be moved, and what is taken is the others'.

        How exactly it computes is set anew afterwards, since nodes that lend it needn't end in order.
        """
        exact.close()
        self._end(user.kind, size)
        self._models.release()
        try:
            with lend():
                yield
        finally:  # after an error too, of which the node may make something
            exact.enter_context(exact_float32())
            self._models.begin(self._device, user, self._activations.of(user.kind, size))
