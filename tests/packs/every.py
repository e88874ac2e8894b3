"""A pack's module with every kind of input and output; tests install it as `every`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from engine.node import Context, FileContents, FilePrefix, InputFile, Lazy, MayRead, ModelFile, Node, any_file
from engine.values import Files, Image, LoRA, Media, Value, Video
from nodes.inputs import Prefix, Seed, Side


class Mask(Value):
    """A value of the pack's own."""

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        return 1


class SoftMask(Mask):
    """One that fits where a mask does, and is never stored."""

    __slots__ = ()
    storable = False


@dataclass(frozen=True, eq=False, slots=True)
class Depth(Image):
    """One that fits where a picture does."""


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


def _even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


def _halved(number: Any) -> Any:
    return int(number / 2)


def of_dates(path: Path, may_read: MayRead = any_file) -> list[Path]:
    """Files by a way of naming them that only this pack knows: `2024@folder`."""
    year, _, folder = path.name.rpartition("@")
    return sorted(filter(may_read, (path.parent / folder).glob(f"{year}*")))


class Outputs(NamedTuple):
    masks: tuple[Mask, ...]
    depth: Depth
    text: str


class Every(
    Node, version=3, category="every/kind", uses="device", retries=2, volatile=True, libraries=("pydantic", "absent")
):
    """Take all that there is.

    Over several lines.
    """

    picture: Image
    """A picture."""
    model: ModelFile
    lora: Annotated[str, FileContents("model", categories=("loras",), takes=("safetensors", "folder"))] = "sprite/loras"
    source: InputFile | None = None
    dated: Annotated[str, FileContents("files", of_dates)] = "2024@here"
    text: Annotated[
        str, Field(min_length=1, max_length=9, pattern="^[a-z]+$", json_schema_extra={"widget": "multiline"})
    ]
    lower: Annotated[str, StringConstraints(to_lower=True, max_length=4)] = "abcd"
    steps: Annotated[int, Field(ge=1, le=100)] = 20
    """How many steps.

    More take longer.
    """
    size: Side = 64
    part: Annotated[float, Field(gt=0, lt=1)] = 0.5
    free: float = 0.5
    endless: float = float("inf")
    seed: Seed = 0
    flag: bool = True
    mode: Literal["fast", "good", 3, None] = "good"
    weights: tuple[Annotated[float, Field(ge=0)], ...] = (1.0, 2.0)
    pair: tuple[int, str] = (1, "a")
    names: list[str] = ["a"]  # noqa: RUF012
    words: dict[str, tuple[str, ...]] = {"a": ("b",)}  # noqa: RUF012
    many: tuple[Video, ...] = ()
    either: Image | Video | None = None
    perhaps: LoRA | None = None
    limit: Annotated[int, Field(ge=2)] | None = None
    mask: Mask | None = None
    soft: tuple[SoftMask, ...] = ()
    even: Annotated[int, AfterValidator(_even), Field(le=8)] = 2
    halved: Annotated[int, BeforeValidator(_halved), Field(le=8)] = 2
    speed: Speed | None = None
    copy: Any = None
    anything: Annotated[Any, Lazy()] = None
    prefix: Annotated[str, FilePrefix()] = "every"

    def run(self, ctx: Context) -> Outputs:
        raise NotImplementedError


class MakeMask(Node, version=1, category="every", uses="io"):
    """Make a mask."""

    def run(self, ctx: Context) -> SoftMask:
        return SoftMask()


class SaveEvery(Node, version=1, category="every", saves="every", temporary=True):
    """Save something."""

    text: str
    """What to save."""
    prefix: Prefix = "every"

    def run(self, ctx: Context) -> Files:
        return Files((Media(self.text.encode(), "txt", self.prefix),))
