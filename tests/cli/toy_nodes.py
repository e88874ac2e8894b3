"""Nodes that the tests of the command add with `--nodes`."""

import random
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from engine.node import Context, Figure, InputFile, ModelFile, Node
from engine.values import Files, Image, Media


class Shout(Node, version=1, category="toy"):
    """Say it loud.

    The more marks, the louder.
    """

    text: str
    """What to say."""
    marks: Annotated[int, Field(ge=0, le=9)] = 1
    """How many exclamation marks."""
    manner: Literal["upper", "title"] = "upper"
    """How to write it."""

    def run(self, ctx: Context) -> str:
        return getattr(self.text, self.manner)() + "!" * self.marks


class Slow(Node, version=1, category="toy"):
    """Take a hundred small steps."""

    text: str
    """What to pass on."""

    def run(self, ctx: Context) -> str:
        for step in range(100):
            ctx.progress(step, 100)
            time.sleep(0.1)
        return self.text


class Deaf(Node, version=1, category="toy"):
    """Take one step that is too long."""

    text: str
    """What to pass on."""

    def run(self, ctx: Context) -> str:
        ctx.text("deaf")
        time.sleep(60)
        return self.text


class Write(Node, version=1, category="toy"):
    """Write a text word by word."""

    text: str
    """What to write."""

    def run(self, ctx: Context) -> str:
        for done, word in enumerate(words := self.text.split(), 1):
            ctx.text(f"{word} ")
            ctx.progress(done, len(words), unit="word")
        ctx.report({"words": len(words), "letters a word": len(self.text) / len(words), "ink": Figure(0.25, "ml")})
        return self.text


class Fail(Node, version=1, category="toy"):
    """Fail."""

    text: str
    """Why."""

    def run(self, ctx: Context) -> str:
        raise ValueError(self.text)


class Draw(Node, version=1, category="toy"):
    """A grey picture."""

    grey: Annotated[int, Field(ge=0, le=255)]
    """How light."""

    def run(self, ctx: Context) -> Image:
        import torch

        return Image(torch.full((1, 3, 8, 8), self.grey / 255))


class Picky(Node, version=1, category="toy"):
    """Fail with a bad text."""

    text: str
    """What to pass on."""

    def run(self, ctx: Context) -> str:
        if self.text == "bad":
            raise ValueError("not with me")
        return self.text


class Weigh(Node, version=1, category="toy"):
    """The size of a model in bytes."""

    model: ModelFile
    """The model, a single file."""

    def run(self, ctx: Context) -> int:
        from engine.models import resolve

        return Path(resolve(self.model)).stat().st_size


class Keep(Node, version=1, category="toy", saves="text"):
    """Save a text."""

    text: str
    """The text."""

    def run(self, ctx: Context) -> Files:
        return Files((Media(self.text.encode(), "txt", "note"),))


class KeepNumber(Node, version=1, category="toy", saves="number"):
    """Save a number."""

    number: int
    """The number."""

    def run(self, ctx: Context) -> Files:
        return Files((Media(str(self.number).encode(), "txt", "number"),))


class Whisper(Node, version=2, category="toy", deprecated="use Shout instead", renamed={"words": "text"}):
    """Say it quietly."""

    text: str
    """What to say."""

    def run(self, ctx: Context) -> str:
        return self.text.lower()


class Roll(Node, version=1, category="toy", volatile=True):
    """Roll a die."""

    def run(self, ctx: Context) -> int:
        return random.randrange(6)


class Wear(Node, version=1, category="toy"):
    """Read a file that someone else replaces meanwhile, if it is new."""

    file: InputFile
    """The file."""

    def run(self, ctx: Context) -> str:
        if Path(self.file).read_text() == "new":
            Path(self.file).write_text("worn")
        return Path(self.file).read_text()
