"""Kinds of node for the steps, without real models."""

from __future__ import annotations

import torch

from engine.node import Context, Node
from engine.values import Video


class Noise(Node, version=1, uses="device"):
    """A video of noise, made where nodes compute."""

    seed: int = 0
    frames: int = 8
    side: int = 64

    def run(self, ctx: Context) -> Video:
        drawn = torch.rand(self.frames, 3, self.side, self.side, generator=torch.Generator().manual_seed(self.seed))
        return Video(drawn.to(ctx.device), 7.0)


class Invert(Node, version=1, uses="device"):
    """The negative of a video."""

    video: Video

    def run(self, ctx: Context) -> Video:
        return Video(1 - self.video.frames.to(ctx.device), self.video.fps)


class WhereIs(Node, version=1, uses="device"):
    """The device on which a video is, as a node that computes there gets it."""

    video: Video

    def run(self, ctx: Context) -> str:
        return self.video.frames.device.type


class WhereIsOnHost(Node, version=1):
    """The device on which a video is, as any other node gets it."""

    video: Video

    def run(self, ctx: Context) -> str:
        return self.video.frames.device.type


class UseModel(Node, version=1, uses="device"):
    """Compute with a model of so many weights, which stands for a real one."""

    model: str
    weights: int
    after: tuple[float, ...] = ()
    """What is to be done before."""

    def run(self, ctx: Context) -> float:
        layer = ctx.models.get(self.model, self._load, ctx.device)
        with torch.inference_mode():
            return float(layer(torch.ones(1, layer.in_features, device=ctx.device)).sum())

    def _load(self) -> torch.nn.Linear:
        side = int(self.weights**0.5)
        layer = torch.nn.utils.skip_init(torch.nn.Linear, side, side, bias=False)
        torch.nn.init.constant_(layer.weight, 1.0)
        return layer


class Allocate(Node, version=1, uses="device"):
    """Hold so many bytes of the device for a moment."""

    nbytes: int

    def run(self, ctx: Context) -> int:
        return torch.empty(self.nbytes, dtype=torch.uint8, device=ctx.device).nbytes


KINDS: tuple[type[Node], ...] = (Noise, Invert, WhereIs, WhereIsOnHost, UseModel, Allocate)
