"""A page of thumbnails: what a filter drops and why, and what it keeps."""

from __future__ import annotations

import io
from textwrap import wrap

import numpy as np
import torch
from PIL import Image as Pictures
from PIL import ImageDraw

from engine.values import Image, Table
from nodes.dataset.table import rows, to_arrow

COLUMNS, ROWS = 6, 8
WIDTH, HEIGHT, GAP = 160, 90, 8
LINE, LINES = 12, 3
LETTERS = 27
"""Letters that fit below a thumbnail, in one of `LINES` lines of that height."""
KEPT, DROPPED = (42, 140, 90), (201, 128, 74)


def sheet(table: Table) -> Image:
    """At most 48 evenly spaced rows of a table: green if kept, orange with the reasons if dropped."""
    drawn = np.linspace(0, table.rows - 1, min(table.rows, COLUMNS * ROWS)).round().astype(int)
    listed = rows(to_arrow(table).select(["thumbnail", "dropped"]).take(drawn))
    columns = min(COLUMNS, max(1, len(listed)))
    cell = HEIGHT + LINES * LINE + 10
    page = Pictures.new("RGB", (columns * (WIDTH + GAP), max(1, -(-len(listed) // columns)) * cell), "white")
    draw = ImageDraw.Draw(page)
    for index, row in enumerate(listed):
        left, top = index % columns * (WIDTH + GAP) + GAP // 2, index // columns * cell + GAP // 2
        colour = DROPPED if row["dropped"] else KEPT
        if row["thumbnail"]:
            with Pictures.open(io.BytesIO(row["thumbnail"])) as picture:
                picture.thumbnail((WIDTH, HEIGHT))
                page.paste(picture, (left, top))
                draw.rectangle((left, top, left + picture.width - 1, top + picture.height - 1), outline=colour, width=3)
        reasons = wrap("; ".join(row["dropped"]), LETTERS, max_lines=LINES, placeholder=" ...")
        for line, text in enumerate(reasons):
            draw.text(
                (left, top + HEIGHT + 2 + line * LINE), text.encode("latin-1", "replace").decode("latin-1"), colour
            )
    pixels = torch.from_numpy(np.asarray(page).copy())
    return Image(pixels.movedim(-1, 0)[None].float().div(255))
