"""Bar plots, drawn to be read at their own size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

from engine.values import Image

FONT, ROW, GAP = 13, 20, 12
"""The height of letters, of a bar with the space around it, and the space around the plot, in pixels."""
LENGTH = 420
"""Of the longest bar."""
MOST_ROWS, LONGEST_LABEL, LONGEST_TITLE = 400, 120, 240
"""More bars are left out; longer texts are cut, in characters."""
SMALLEST = 1e-300
"""Values below that are drawn as 0."""
TICKS = 4
"""Lines that the bars are read by, at least about so many."""
PALETTE = ((57, 106, 177), (62, 150, 81), (218, 124, 48), (146, 36, 40), (107, 76, 154))
INK, FAINT, GRID = (34, 34, 34), (110, 110, 110), (218, 218, 218)


class Bar(NamedTuple):
    """A bar; None in place of a value that isn't known."""

    label: str
    value: float | None
    group: str
    """Bars of a group have the same colour."""


def bar_plot(title: str, bars: Sequence[Bar], unknown: str) -> Image:
    """Horizontal bars from the top down with their labels and values; `unknown` stands where there is no value."""
    if len(bars) > MOST_ROWS:
        title = f"{title} (the first {MOST_ROWS} of {len(bars):,})"
        bars = bars[:MOST_ROWS]
    bars = [Bar(_cut(bar.label), _known(bar.value), bar.group) for bar in bars]
    title = _cut(title, LONGEST_TITLE)
    font, bold = ImageFont.load_default(FONT), ImageFont.load_default(FONT + 3)
    texts = [unknown if bar.value is None else f"{bar.value:.3g}" for bar in bars]
    left = GAP + math.ceil(max([font.getlength(bar.label) for bar in bars], default=0)) + GAP
    top = GAP + FONT + 3 + GAP + ROW
    highest = max([bar.value or 0.0 for bar in bars], default=0.0)
    highest = highest if highest > SMALLEST else 1.0
    right = max(
        [font.getlength(text) + (LENGTH * (bar.value or 0) / highest) for text, bar in zip(texts, bars, strict=True)],
        default=0,
    )
    width = max(left + math.ceil(right) + 2 * GAP, left + LENGTH + 3 * GAP, math.ceil(bold.getlength(title)) + 2 * GAP)
    page = Pictures.new("RGB", (width, top + ROW * len(bars) + GAP), "white")
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), title, INK, bold)
    for tick in ticks(highest):
        x = left + round(LENGTH * tick / highest)
        pen.line((x, top - 3, x, top + ROW * len(bars)), GRID)
        pen.text((x, top - 4), f"{tick:g}", FAINT, font, anchor="mb")
    groups = list(dict.fromkeys(bar.group for bar in bars))
    for number, (bar, text) in enumerate(zip(bars, texts, strict=True)):
        y = top + ROW * number
        pen.text((left - GAP // 2, y + ROW // 2), bar.label, INK, font, anchor="rm")
        end = left + round(LENGTH * (bar.value or 0.0) / highest)
        if bar.value is not None:
            colour = PALETTE[groups.index(bar.group) % len(PALETTE)]
            pen.rectangle((left, y + 3, max(end, left + 1), y + ROW - 4), colour)
        box = pen.textbbox((end + 5, y + ROW // 2), text, font, anchor="lm")
        pen.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), "white")
        pen.text((end + 5, y + ROW // 2), text, FAINT if bar.value is None else INK, font, anchor="lm")
    pen.line((left, top - 3, left, top + ROW * len(bars)), FAINT)
    return Image(torch.from_numpy(np.asarray(page).copy()).movedim(-1, 0)[None].float().div(255))


def _cut(text: str, longest: int = LONGEST_LABEL) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _known(value: float | None) -> float | None:
    """A value, unless it isn't finite."""
    return value if value is not None and math.isfinite(value) else None


def ticks(highest: float) -> list[float]:
    """Round values from 0 to the highest, a few of them: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(highest / TICKS))
    step = max(size * power for size in (1, 2, 5) if size * power <= highest / TICKS)
    return [step * number for number in range(int(highest / step * (1 + 1e-9)) + 1)]
