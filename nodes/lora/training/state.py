"""What is kept of a training, so that one that was interrupted goes on to the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from engine.values import Value

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import ImageModel
    from nodes.lora.training.optimisers import Descent
    from nodes.lora.training.pictures import Example

STAGES = 20
"""How often a training measures its loss, and may keep its state."""


@dataclass(frozen=True, eq=False, slots=True)
class State(Value):
    """A training after some steps: parameters, their average, and all that the optimiser remembers."""

    tensors: Mapping[str, Tensor]
    rest: str
    """What isn't tensors, as JSON."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to_tensors(self) -> tuple[Mapping[str, Tensor], dict[str, str]]:
        return self.tensors, {"rest": self.rest}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(dict(tensors), metadata["rest"])


class Kept:
    """The states of one training.

    Args:
        identity: what identifies the training, among all that there may be.
        steps: how many it has.
    """

    def __init__(self, ctx: Context, identity: str, steps: int) -> None:
        self._ctx = ctx
        self._name = f"training {hashlib.sha256(identity.encode()).hexdigest()}"
        self._last: str | None = None
        """The name of the state that was kept or taken up last."""
        self.boundaries = sorted({steps * stage // STAGES for stage in range(1, STAGES + 1)} - {0})
        """After how many steps a state may be kept."""

    def resume(self, descent: Descent) -> int:
        """Take up the latest state; returns how many steps it has done."""
        for step in reversed(self.boundaries):
            kept = self._ctx.recall(name := f"{self._name} {step}")
            if kept:
                self._last = name
                descent.restore(kept[0].tensors, kept[0].rest)
                return step
        return 0

    def keep(self, descent: Descent, step: int, seconds: float) -> None:
        """Keep the state after so many steps, instead of the one before, since which these seconds have passed."""
        name, before = f"{self._name} {step}", [self._last] if self._last else []
        self._ctx.keep(name, (State(*descent.state()),), seconds, instead_of=before)
        self._last = name


def identity_of(model: ImageModel, examples: Sequence[Example]) -> str:
    """What identifies a model with its parts, its schedule and its adapters, and pictures with their captions."""
    settings = sorted(model.schedule.items())
    digest = hashlib.sha256(repr((model.made_of, model.family, settings)).encode())
    for adapter in model.adapters:
        tensors, about = adapter.to_tensors()
        digest.update(repr(about).encode())
        for name, tensor in sorted(tensors.items()):
            _add(digest, name, tensor)
    for example in examples:
        _add(digest, repr((example.lead, example.caption)), example.pixels)
    return digest.hexdigest()


def _add(digest: Any, name: str, tensor: Any) -> None:
    """Add a tensor, which may have any type, with what names it."""
    import torch

    digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
