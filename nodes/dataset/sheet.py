"""A page of thumbnails: what a filter drops and why, and what it leaves."""

from __future__ import annotations

import io
from textwrap import shorten

import numpy as np
import torch
from PIL import Image as Pictures
from PIL import ImageDraw

from engine.values import Image, Table
from nodes.dataset.table import rows

COLUMNS, ROWS = 6, 8
WIDTH, HEIGHT, LINE = 160, 90, 12
LETTERS = 27
"""Letters that fit below a thumbnail."""
KEPT, DROPPED = (42, 140, 90), (201, 128, 74)


def sheet(table: Table) -> Image:
    """At most 48 rows of a table, evenly drawn: green those that stay, orange those that go, with up to two reasons."""
    listed = rows(table, ["thumbnail", "dropped"])
    if len(listed) > COLUMNS * ROWS:
        listed = [listed[i] for i in np.linspace(0, len(listed) - 1, COLUMNS * ROWS).round().astype(int)]
    columns = min(COLUMNS, max(1, len(listed)))
    cell = HEIGHT + 2 * LINE + 6
    page = Pictures.new("RGB", (columns * (WIDTH + 4), max(1, -(-len(listed) // columns)) * cell), "white")
    draw = ImageDraw.Draw(page)
    for index, row in enumerate(listed):
        left, top = index % columns * (WIDTH + 4) + 2, index // columns * cell + 2
        draw.rectangle((left - 2, top - 2, left + WIDTH + 1, top + HEIGHT + 1), DROPPED if row["dropped"] else KEPT)
        if row["thumbnail"]:
            with Pictures.open(io.BytesIO(row["thumbnail"])) as picture:
                picture.thumbnail((WIDTH, HEIGHT))
                page.paste(picture, (left + (WIDTH - picture.width) // 2, top + (HEIGHT - picture.height) // 2))
        for line, reason in enumerate(row["dropped"][:2]):
            text = shorten(reason, LETTERS, placeholder="…").encode("latin-1", "replace").decode("latin-1")
            draw.text((left, top + HEIGHT + 2 + line * LINE), text, DROPPED)
    pixels = torch.from_numpy(np.asarray(page).copy())
    return Image(pixels.movedim(-1, 0)[None].float().div(255))
