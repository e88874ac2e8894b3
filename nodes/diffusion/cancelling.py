"""Ending a pipeline's work between two blocks of its models, as a step or a decoded video may take minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from engine.errors import Cancelled

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from engine.node import Context


@contextmanager
def cancellable(ctx: Context, pipeline: DiffusionPipeline) -> Iterator[None]:
    """Raise Cancelled before the next block of any of the pipeline's models once the run is cancelled.

    The caller has the models to itself meanwhile (`nodes.diffusion.adapters.applied`).
    """

    def check(module: nn.Module, inputs: Any) -> None:
        if ctx.cancelled():
            raise Cancelled

    with ExitStack() as stack:
        for model in pipeline.components.values():
            for block in _blocks(model) if isinstance(model, nn.Module) else ():
                stack.callback(block.register_forward_pre_hook(check).remove)
        yield


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The members of all lists of layers in a model."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            yield from module
