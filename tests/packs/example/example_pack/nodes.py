"""Nodes that find the colours of pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from example_pack.values import Palette
from kinograph import Context, Image, Node


class FindColours(Node, version=1, category="colour"):
    """Find the mean colour of each of a batch of pictures."""

    images: Image
    """The pictures."""
    most: Annotated[int, Field(ge=1, le=256)] = 8
    """How many colours at most."""

    def run(self, ctx: Context) -> Palette:
        means = self.images.pixels[: self.most].mean((2, 3)).tolist()
        return Palette(tuple((red, green, blue) for red, green, blue in means))


class NameColours(Node, version=1, category="colour", uses="io"):
    """Write a palette as a text."""

    palette: Palette
    """The colours."""
    form: Literal["hex", "percent"] = "hex"
    """How each is written: `#ff8000`, or `100% 50% 0%`."""

    def run(self, ctx: Context) -> str:
        return " ".join(map(_hex if self.form == "hex" else _percent, self.palette.colours))


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)


def _percent(colour: tuple[float, float, float]) -> str:
    return " ".join(f"{part:.0%}" for part in colour)
