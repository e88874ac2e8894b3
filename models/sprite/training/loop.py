"""The training loop of the whole family: resumable, seeded by step, with EMA, warm-up and cosine decay."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.atomic import replacing

M = TypeVar("M", bound=nn.Module)

CHECKPOINTS = Path(os.environ.get("KINOGRAPH_TRAIN", ".train"))
"""Where the checkpoints of training are kept."""
CHECKPOINT_SECONDS = 120.0
"""Seconds of work that an interruption may cost."""
PARTS = CHECKPOINTS / "parts"
"""Finished parts that later members of the family are trained on."""


@dataclass(frozen=True)
class Step:
    """A step's own random generators: the same step draws the same data, also after a restart."""

    index: int
    rng: np.random.Generator
    noise: torch.Generator
    """On the model's device."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train. `ema` is the decay of the averaged weights, which are the result."""

    name: str
    steps: int
    learning_rate: float
    warmup: int = 100
    ema: float = 0.999
    weight_decay: float = 0.01

    def rate_at(self, step: int) -> float:
        """Factor on the learning rate: linear warm-up, then a cosine to 2 %."""
        ramp = min(1.0, (step + 1) / self.warmup)
        return ramp * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def train(model: M, loss_of: Callable[[Step], Tensor], recipe: Recipe) -> M:
    """Train `model` on its device, and return the averaged copy of it, in evaluation mode.

    `loss_of(step)` computes one step's loss. Checkpoints are saved in `CHECKPOINTS` regularly; the same call resumes
    from the last one.
    """
    device = next(model.parameters()).device
    average = copy.deepcopy(model).eval().requires_grad_(False)
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        wanted, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.99), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate_at)
    checkpoint = CHECKPOINTS / f"{recipe.name}.pt"
    first, before = _restore(checkpoint, model, average, optimizer, schedule)
    model.train()
    started, saved, recent = time.monotonic(), time.monotonic(), []
    for index in range(first, recipe.steps):
        noise = torch.Generator(device).manual_seed(index * 7919 + 1)
        step = Step(index, np.random.default_rng((0, index)), noise)
        with _attention(device):
            loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(wanted, 1.0)
        optimizer.step()
        schedule.step()
        _update_average(average, model, min(recipe.ema, (index + 1) / (index + 10)))
        recent.append(loss.detach())
        if (index + 1) % 50 == 0 or index + 1 == recipe.steps:
            pace = (time.monotonic() - started) / (index + 1 - first)
            left = pace * (recipe.steps - index - 1)
            mean = torch.stack(recent).mean().item()
            print(
                f"{recipe.name} {index + 1}/{recipe.steps} loss {mean:.4f} {pace:.2f} s/step {left / 60:.1f} min left",
                flush=True,
            )
            recent = []
        if time.monotonic() - saved > CHECKPOINT_SECONDS or index + 1 == recipe.steps:
            seconds = before + time.monotonic() - started
            _store(checkpoint, index + 1, seconds, device, model, average, optimizer, schedule)
            saved = time.monotonic()
    return average


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Attention by matrix products on a CPU, where flash attention's backward pass would take a third of all time."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    ours: list[Tensor] = [*average.parameters()]
    theirs: list[Tensor] = [*model.parameters()]
    torch._foreach_lerp_(ours, theirs, 1 - decay)


def run_name(name: str, device: torch.device) -> str:
    """The name of a run on a device: a GPU's courses don't resume from a CPU's checkpoints."""
    return f"{name}-{device.type}"


def machine(device: torch.device) -> str:
    """The device's description for the model's card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "one thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"


class _Stateful(Protocol):
    """A module, an optimizer or a schedule."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object: ...


def _store(path: Path, step: int, seconds: float, device: torch.device, *parts: _Stateful) -> None:
    states = [part.state_dict() for part in parts]
    progress = {"step": step, "seconds": seconds, "machine": machine(device)}
    with replacing(path, durable=True) as part:
        torch.save(progress | {"parts": states}, part)


def _restore(path: Path, *parts: _Stateful) -> tuple[int, float]:
    """The step to resume at, and the seconds spent before it."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location="cpu")
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)
    return int(state["step"]), float(state["seconds"])


@dataclass(frozen=True)
class Run:
    """A finished training run: its steps, its duration without interruptions, and the machine."""

    name: str
    steps: int
    batch: int
    seconds: float
    machine: str


def finished(name: str, batch: int) -> Run:
    """The training run of that name, from its last checkpoint."""
    state = torch.load(CHECKPOINTS / f"{name}.pt", weights_only=True, mmap=True)
    return Run(name, int(state["step"]), batch, float(state["seconds"]), str(state["machine"]))
