"""The pictures of a training: brought to sizes that the model takes, encoded once, and drawn in batches.

Which pictures are in a batch, and how each is shown there, depends on the seed and the batch's number alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from engine.errors import InputError
from nodes.lora.training.chance import chance, shuffled
from nodes.scaling import scaled

if TYPE_CHECKING:
    from nodes.lora.training.family import Family
    from nodes.lora.training.settings import TrainingSettings

SMALLEST = 8
"""The least pixels of a picture's side."""
GRID = 16
"""A bucket's sides are multiples of the resolution by this, as far as the model takes them."""
WIDEST = 4
"""The most that one side of a bucket is longer than the other."""


@dataclass(frozen=True, slots=True)
class Example:
    """A picture, (3, H, W) in [0, 1], and its caption."""

    pixels: Tensor
    caption: str
    lead: str = ""
    """What comes before the caption, and stays there when its parts are shuffled."""


class Framing(NamedTuple):
    """What a denoiser is told of a picture's sizes, in pixels."""

    height: int
    width: int
    """The picture's own."""
    top: int
    left: int
    """How much was cut off, of the picture as it was scaled."""


class Batch(NamedTuple):
    """Some pictures of one size."""

    latents: Tensor
    """(n, C, h, w) in the denoiser's units."""
    framings: Sequence[Framing]
    captions: Sequence[str]


class Encoded(NamedTuple):
    """A picture's latents as the autoencoder gives them: mean and standard deviation, (C, h, w)."""

    mean: Tensor
    deviation: Tensor


def check_examples(examples: Sequence[Example]) -> None:
    """Raise InputError for pictures that can't be trained on."""
    if not examples:
        raise InputError("there are no pictures to train on", input="images", hint="give at least one")
    for number, example in enumerate(examples, 1):
        shape = tuple(example.pixels.shape)
        if len(shape) != 3 or shape[0] != 3:
            raise InputError(f"picture {number} has shape {shape}, not (3, H, W)", input="images")
        if min(shape[1:]) < SMALLEST:
            raise InputError(
                f"picture {number} has {shape[2]} × {shape[1]} pixels, fewer than {SMALLEST} on a side",
                input="images",
                hint="leave it out, or give a larger one",
            )
        if not torch.isfinite(example.pixels).all():
            raise InputError(f"picture {number} has values that are not finite", input="images")


class Pictures:
    """Encoded pictures, in buckets of one size each.

    Args:
        tag: tells these pictures' random numbers from those of others.
        tick: called after each picture is encoded; may raise to stop.
    """

    def __init__(
        self,
        family: Family,
        examples: Sequence[Example],
        settings: TrainingSettings,
        tag: str,
        tick: Callable[[], None],
    ) -> None:
        self.settings, self.tag, self.examples = settings, tag, examples
        side = settings.resolution or family.side
        if side < family.multiple:
            raise InputError(
                f"the resolution {side} is below {family.multiple}, the least that this model takes",
                input="resolution",
                hint="raise it, or give 0 for the model's own",
            )
        self.framings: list[Framing] = []
        self.encoded: list[tuple[Encoded, ...]] = []
        sizes: dict[tuple[int, int], list[int]] = {}
        for index, example in enumerate(examples):
            height, width = example.pixels.shape[1:]
            size = bucket(width, height, side, family.multiple) if settings.buckets else _square(side, family.multiple)
            pixels, framing = framed(example.pixels, *size)
            shown = [pixels, pixels.flip(-1)] if settings.flip else [pixels]
            self.encoded.append(tuple(Encoded(*family.encode_picture(each)) for each in shown))
            self.framings.append(framing)
            sizes.setdefault(size, []).append(index)
            tick()
        self.buckets = list(sizes.values())
        self.sizes = list(sizes)

    def batch(self, number: int) -> Batch:
        """The pictures of a batch: latents drawn anew from the autoencoder's posterior, captions as they are shown."""
        rows = self._rows(number)
        generator = chance(self.settings.seed, self.tag, "pictures", number)
        latents, captions = [], []
        for row in rows:
            mirrored = int(torch.rand((), generator=generator) < 0.5)
            mean, deviation = self.encoded[row][mirrored if self.settings.flip else 0]
            latents.append(mean + deviation * torch.randn(mean.shape, generator=generator).to(mean))
            captions.append(self._caption(self.examples[row], generator))
        return Batch(torch.stack(latents), [self.framings[row] for row in rows], captions)

    def plain(self, row: int) -> Batch:
        """One picture as it is, with its whole caption."""
        example = self.examples[row]
        return Batch(self.encoded[row][0].mean[None], [self.framings[row]], [full_caption(example)])

    def captions(self) -> list[str]:
        """The whole caption of each picture."""
        return [full_caption(example) for example in self.examples]

    def _caption(self, example: Example, generator: torch.Generator) -> str:
        dropped = float(torch.rand((), generator=generator)) < self.settings.caption_dropout
        order = torch.rand(64, generator=generator).tolist()
        if dropped:
            return ""
        if not self.settings.shuffle_captions:
            return full_caption(example)
        parts = [part.strip() for part in example.caption.split(",")]
        places = sorted(range(len(parts)), key=lambda place: order[place % len(order)])
        return full_caption(Example(example.pixels, ", ".join(parts[place] for place in places), example.lead))

    def _rows(self, number: int) -> list[int]:
        """Which pictures a batch has.

        A round has as many batches as there are pictures, of each bucket as many as it has. A bucket's pictures come
        one after another, each once in a new order before any is repeated, over all batches.
        """
        turn, place = divmod(number, len(self.examples))
        owners = [bucket for bucket, rows in enumerate(self.buckets) for _ in rows]
        order = [owners[slot] for slot in shuffled(len(owners), self.settings.seed, self.tag, "buckets", turn)]
        which = order[place]
        rows = self.buckets[which]
        first = (turn * len(rows) + order[:place].count(which)) * self.settings.batch
        return [self._row(which, rows, at) for at in range(first, first + self.settings.batch)]

    def _row(self, which: int, rows: Sequence[int], at: int) -> int:
        turn, place = divmod(at, len(rows))
        return rows[shuffled(len(rows), self.settings.seed, self.tag, "order", which, turn)[place]]


def full_caption(example: Example) -> str:
    return ", ".join(part for part in (example.lead, example.caption) if part)


def bucket(width: int, height: int, side: int, multiple: int) -> tuple[int, int]:
    """The height and width for a picture: nearest to its proportions among those of at most side² pixels."""
    grid = max(multiple, side // GRID // multiple * multiple)
    return min(_sizes(side, grid), key=lambda size: abs(math.log(size[1] / size[0]) - math.log(width / height)))


def _square(side: int, multiple: int) -> tuple[int, int]:
    side = side // multiple * multiple
    return side, side


def _sizes(side: int, grid: int) -> Iterator[tuple[int, int]]:
    """Heights and widths on the grid: a square, and for each shorter side the longest other one."""
    square = side // grid * grid  # which is none of the others where the side is no multiple
    yield square, square
    for short in range(grid, side + 1, grid):
        long = side * side // short // grid * grid
        if long <= WIDEST * short:
            yield short, long
            yield long, short


def framed(pixels: Tensor, height: int, width: int) -> tuple[Tensor, Framing]:
    """A picture scaled to cover this size, and cut evenly on both sides."""
    own_height, own_width = pixels.shape[1:]
    factor = max(height / own_height, width / own_width)
    to_height, to_width = max(height, round(own_height * factor)), max(width, round(own_width * factor))
    if (to_height, to_width) != (own_height, own_width):
        pixels = scaled(pixels[None], to_width, to_height, "lanczos")[0]
    top, left = (to_height - height) // 2, (to_width - width) // 2
    cut = pixels[:, top : top + height, left : left + width].contiguous()
    return cut, Framing(own_height, own_width, top, left)


def enlarged(pictures: Pictures) -> int:
    """How many pictures are smaller than the model is shown them."""
    count = 0
    for size, rows in zip(pictures.sizes, pictures.buckets, strict=True):
        for row in rows:
            framing = pictures.framings[row]
            count += framing.height < size[0] or framing.width < size[1]
    return count
