"""Optimisers with a learning-rate schedule, gradient clipping and, if asked for, an average of the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.errors import NodeError
from nodes.lora.training.layers import TEXT
from nodes.lora.training.settings import require

if TYPE_CHECKING:
    from nodes.lora.training.network import Network
    from nodes.lora.training.settings import TrainingSettings


class Descent:
    """The optimiser of a network, and the moving average of its parameters."""

    def __init__(self, network: Network, settings: TrainingSettings) -> None:
        self.settings, self.network = settings, network
        self.parameters = dict(network.named())
        text = [p for name, p in self.parameters.items() if name.partition(".")[2].startswith(TEXT)]
        others = [p for name, p in self.parameters.items() if not name.partition(".")[2].startswith(TEXT)]
        groups = ((others, settings.learning_rate), (text, settings.text_learning_rate))
        self.rates = [rate for group, rate in groups if group]
        self.optimiser = _optimiser([{"params": group, "lr": rate} for group, rate in groups if group], settings)
        self.average: dict[str, Tensor] = {}
        if settings.ema_decay is not None:
            self.average = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def step(self, number: int) -> None:
        """Take a step down the gradients that have gathered; the first has number 0.

        Raises:
            NodeError: the gradients are not finite.
        """
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.max_gradient_norm)
        if not bool(torch.isfinite(norm)):
            raise NodeError(
                f"the gradients are not finite in step {number + 1}",
                hint="lower the learning rate, or compute in another precision",
            )
        share = rate_at(number, self.settings)
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.network.limit()
        self.network.changed()
        self._follow(number)

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _follow(self, number: int) -> None:
        """Move the average towards the parameters: at first at once, as it would else keep to the start for long."""
        decay = self.settings.ema_decay
        if decay is None:
            return
        weight = 1 - min(decay, number / (number + 9))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter, weight)

    @torch.no_grad()
    def finish(self) -> None:
        """Take the average, if there is one, for the parameters."""
        for name, kept in self.average.items():
            self.parameters[name].copy_(kept)
        self.network.changed()

    def state(self) -> tuple[dict[str, Tensor], str]:
        """All that the next steps depend on: tensors on the host, and the rest as JSON."""
        tensors: dict[str, Tensor] = {f"parameter.{name}": parameter for name, parameter in self.parameters.items()}
        tensors |= {f"average.{name}": kept for name, kept in self.average.items()}
        state, rest = self.optimiser.state_dict(), {}
        for index, parts in state["state"].items():
            for name, part in _leaves(parts):
                if isinstance(part, Tensor):
                    tensors[f"state.{index}.{name}"] = part
                else:
                    rest[f"{index}.{name}"] = part
        held = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return held, json.dumps({"rest": rest, "groups": state["param_groups"]})

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], text: str) -> None:
        """Take up a state."""
        said = json.loads(text)
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "parameter":
                self.parameters[rest].copy_(tensor)
            elif kind == "average":
                self.average[rest].copy_(tensor)
            else:
                index, _, part = rest.partition(".")
                _put(state.setdefault(int(index), {}), part, tensor.clone())
        for name, value in said["rest"].items():
            index, _, part = name.partition(".")
            _put(state.setdefault(int(index), {}), part, value)
        self.optimiser.load_state_dict({"state": state, "param_groups": said["groups"]})
        self.network.changed()


def _leaves(parts: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """What an optimiser remembers of a parameter, by path: bitsandbytes has a mapping within it."""
    for name, part in parts.items():
        if isinstance(part, Mapping):
            yield from _leaves(part, f"{start}{name}/")
        else:
            yield f"{start}{name}", part


def _put(parts: dict[str, Any], path: str, value: Any) -> None:
    """Undo `_leaves`."""
    *folders, name = path.split("/")
    for folder in folders:
        parts = parts.setdefault(folder, {})
    parts[name] = value


def rate_at(number: int, settings: TrainingSettings) -> float:
    """What the learning rate is multiplied with in a step; the first has number 0."""
    if number < settings.warmup:
        return number / settings.warmup
    done = (number - settings.warmup) / max(settings.steps - settings.warmup, 1)
    match settings.schedule:
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return 1 - done
        case "constant":
            return 1.0


def _optimiser(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    require(settings.optimiser)
    decay = settings.weight_decay
    made: torch.optim.Optimizer
    match settings.optimiser:
        case "adamw":
            made = torch.optim.AdamW(groups, weight_decay=decay)
        case "adamw8bit":
            from bitsandbytes.optim import AdamW8bit

            made = AdamW8bit(groups, weight_decay=decay)
        case "adafactor":
            from transformers import Adafactor

            # Its own schedule would know nothing of the rates that are given.
            made = Adafactor(groups, weight_decay=decay, scale_parameter=False, relative_step=False)
        case "prodigy":
            from prodigyopt import Prodigy

            made = Prodigy(groups, weight_decay=decay, safeguard_warmup=settings.warmup > 0)
    return made
