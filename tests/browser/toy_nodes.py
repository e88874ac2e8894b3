"""Nodes that need no model, for the tests of the editor."""

import time
from typing import Annotated, Literal

from pydantic import Field

from engine.errors import InputError
from engine.node import Context, Figure, Node
from engine.values import Image

PACE = 0.05


class Paint(Node, version=1, category="toys"):
    """Paint a picture row by row, and show it meanwhile."""

    hue: Literal["red", "green", "blue"] = "red"
    """The colour."""
    rows: Annotated[int, Field(ge=1, le=200)] = 8
    """How many rows."""
    seed: Annotated[int, Field(ge=0, lt=2**64, json_schema_extra={"widget": "seed"})] = 0
    """Seed of the grain."""

    def run(self, ctx: Context) -> Image:
        import torch

        side = 8 * self.rows
        channel = ("red", "green", "blue").index(self.hue)
        pixels = torch.full((1, 3, side, side), 0.2)
        for row in range(self.rows):
            pixels[:, channel, 8 * row : 8 * row + 8] = 0.9
            ctx.progress(row + 1, self.rows, unit="row", preview=lambda: Image(pixels.clone()))
            time.sleep(PACE)
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        return Image((pixels + 0.1 * torch.rand(pixels.shape, generator=generator)).clamp(0, 1))


class Refuse(Node, version=1, category="toys"):
    """Take no number above three."""

    number: int = 5
    """A number."""

    def run(self, ctx: Context) -> int:
        if self.number > 3:
            raise InputError("is too large", input="number", hint="choose one up to 3")
        return self.number


class Digits(Node, version=1, category="toys"):
    """Write a seed out in digits."""

    seed: Annotated[int, Field(ge=0, lt=2**64, json_schema_extra={"widget": "seed"})] = 0
    """The seed."""

    def run(self, ctx: Context) -> str:
        digits = str(self.seed)
        zeros = Figure(100 * digits.count("0") / len(digits), "%")
        ctx.report({"seed": self.seed, "digits": len(digits), "zeros": zeros, "first": digits[0], "last": digits[-1]})
        return digits
