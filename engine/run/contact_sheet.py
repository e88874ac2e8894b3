"""A labelled contact sheet of files: the first picture of each, or the middle frame of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

SIDE = 256
"""The largest width and height of a tile, in pixels; smaller pictures stay as they are."""
GAP, LINE = 8, 18


class Tile(NamedTuple):
    """A file with its label; None stands for one that was not made."""

    label: str
    file: Path | None


def contact_sheet(tiles: Sequence[Tile], columns: int) -> Image.Image:
    """The tiles in rows, each below its label."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = [_picture(tile.file) for tile in tiles]
    font = ImageFont.load_default(13)
    widest = max(font.getlength(tile.label) for tile in tiles)
    cell = max(*(picture.width for picture in pictures), int(widest) + 1), max(picture.height for picture in pictures)
    width, height = cell[0] + GAP, cell[1] + LINE + GAP
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    pen = ImageDraw.Draw(page)
    for index, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        x, y = GAP + index % columns * width, GAP + index // columns * height
        pen.text((x, y), tile.label, fill="black", font=font)
        page.paste(picture, (x, y + LINE))
    return page


def _picture(file: Path | None) -> Image.Image:
    """The file's picture, no larger than a tile; a grey square for a file without one, or that was not made."""
    from PIL import Image

    if file is None or file.suffix not in (".png", ".mp4"):
        return Image.new("RGB", (SIDE // 4, SIDE // 4), "lightgrey")
    picture = _middle_frame(file) if file.suffix == ".mp4" else _opened(file)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _opened(file: Path) -> Image.Image:
    from PIL import Image

    with Image.open(file) as picture:
        return picture.convert("RGB")


def _middle_frame(file: Path) -> Image.Image:
    import av
    from PIL import Image

    with av.open(str(file)) as container:
        middle = container.streams.video[0].frames // 2
        frame = next(frame for index, frame in enumerate(container.decode(video=0)) if index == middle)
        return Image.fromarray(frame.to_ndarray(format="rgb24"))
