"""The sheet of a filter shows what it keeps and what it drops, and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.values import Table
from nodes.dataset.save.sheet import COLUMNS, DROPPED, GAP, HEIGHT, KEPT, LINE, LINES, ROWS, WIDTH, sheet
from nodes.dataset.table import CLIPS, thumbnail, to_table

CELL = HEIGHT + LINES * LINE + 10


def clips(*shades: int, dropped: tuple[str, ...] = ()) -> Table:
    """Clips of even grey, as large as a cell's picture."""
    pictures = (np.full((HEIGHT, WIDTH, 3), shade, np.uint8) for shade in shades)
    return to_table([{"thumbnail": thumbnail(picture), "dropped": list(dropped)} for picture in pictures], CLIPS)


def cells(table: Table) -> list[torch.Tensor]:
    """The cells of a sheet from left to right, line by line: the bytes of each pixel (H, W, 3)."""
    pixels = (sheet(table).pixels[0].movedim(0, -1) * 255).round().to(torch.uint8)
    lines = pixels.split(CELL)
    return [cell for line in lines for cell in line.split(WIDTH + GAP, dim=1)]


def shades(table: Table) -> list[int]:
    """The grey in the middle of each cell's picture."""
    return [int(cell[HEIGHT // 2, WIDTH // 2, 0]) for cell in cells(table)]


def test_thumbnails_stand_in_rows_in_their_order() -> None:
    greys = [10 * index for index in range(COLUMNS + 1)]
    found = shades(clips(*greys))
    assert found[: len(greys)] == pytest.approx(greys, abs=3)
    assert found[len(greys) :] == [255] * (COLUMNS - 1)


@pytest.mark.parametrize(("dropped", "colour"), [((), KEPT), (("motion 0 is below 1",), DROPPED)])
def test_the_frame_says_whether_a_clip_is_kept(dropped: tuple[str, ...], colour: tuple[int, int, int]) -> None:
    (cell,) = cells(clips(128, dropped=dropped))
    top = left = GAP // 2
    for y, x in ((top, left), (top + HEIGHT - 1, left + WIDTH - 1), (top + HEIGHT // 2, left + 2)):
        assert tuple(cell[y, x].tolist()) == colour
    assert cell[top + 4, left + 4].tolist() == pytest.approx([128] * 3, abs=3)


def test_the_reasons_stand_below_a_clip_in_three_lines_at_most() -> None:
    def inked(*dropped: str) -> list[bool]:
        below = cells(clips(128, dropped=dropped))[0][GAP // 2 + HEIGHT + 2 :]
        return [bool((line < 255).any()) for line in below.split(LINE)][: LINES + 1]

    assert inked() == [False, False, False, False]
    assert inked("caption") == [True, False, False, False]
    assert inked("motion 0 is below 1", "text_area 0.5 is above 0.07", "shows the same as a.mp4#0", "x " * 90) == [
        *[True] * LINES,
        False,
    ]


def test_of_many_clips_evenly_spaced_ones_are_shown_the_first_and_the_last_among_them() -> None:
    most = COLUMNS * ROWS
    found = shades(clips(0, *range(40, 40 + 2 * most), 220))
    assert len(found) == most
    assert [found[0], found[-1]] == pytest.approx([0, 220], abs=3)
    steps = np.diff(found[1:-1])
    assert steps.min() >= 1
    assert steps.max() <= 4


def test_nothing_is_an_empty_page() -> None:
    pixels = sheet(to_table([], CLIPS)).pixels
    assert pixels.shape == (1, 3, CELL, WIDTH + GAP)
    assert (pixels == 1).all()


def test_a_clip_without_a_thumbnail_still_says_why_it_was_dropped() -> None:
    (cell,) = cells(to_table([{"thumbnail": None, "dropped": ["has no motion"]}], CLIPS))
    assert (cell[: GAP // 2 + HEIGHT] == 255).all()
    assert (cell < 255).any()
