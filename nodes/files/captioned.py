"""Folders of pictures, each with its caption in a text of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine import filetypes
from engine.errors import InputError
from engine.node import Found, MayRead, any_file

if TYPE_CHECKING:
    import torch

CAPTIONS = (".txt", ".caption")
"""Endings of the names of captions; the first that is there counts."""
NAMED_SO = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
"""Endings that promise a picture: such a file is read even if it isn't one, so that it is told what is wrong."""
MAX_CAPTION = 10_000
"""Most bytes of a caption."""


class Pair(NamedTuple):
    """A picture, and its caption if there is one."""

    picture: Path
    caption: Path | None


def watched(path: Path, may_read: MayRead = any_file) -> Sequence[Path]:
    """The files that decide what a folder gives: its pictures and the captions, with or without a picture."""
    pictures, texts = _sorted_out(path, may_read)
    return Found([*pictures, *texts])


def pairs(path: Path, may_read: MayRead = any_file) -> list[Pair]:
    """The pictures in a folder and below, in order of their paths, with their captions.

    Endings of names may be in capitals. Hidden files don't count, and what is neither picture nor caption is passed
    over.

    Raises:
        InputError: there is no picture, or a caption has none.
    """
    pictures, texts = _sorted_out(path, may_read)
    if not pictures:
        raise InputError(f"{path} holds no picture", input="folder", hint="put PNG, JPEG or WebP files into it")
    by_stem = {picture.with_suffix("") for picture in pictures}
    if alone := next((text for text in texts if text.with_suffix("") not in by_stem), None):
        raise InputError(
            f"{alone} is a caption without a picture",
            input="folder",
            hint="remove it, or give the picture the same name",
        )
    by_end: dict[tuple[Path, str], Path] = {}
    for text in texts:
        by_end.setdefault((text.with_suffix(""), text.suffix.lower()), text)
    stems = [picture.with_suffix("") for picture in pictures]
    return [
        Pair(picture, next((by_end[stem, end] for end in CAPTIONS if (stem, end) in by_end), None))
        for picture, stem in zip(pictures, stems, strict=True)
    ]


def read_caption(path: Path) -> str:
    """A caption as one line; raises InputError if it isn't text, or far too long."""
    with path.open("rb") as file:
        data = file.read(MAX_CAPTION + 1)
    if len(data) > MAX_CAPTION:
        raise InputError(f"{path} is longer than {MAX_CAPTION:,} bytes", input="folder", hint="shorten the caption")
    try:
        return " ".join(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", input="folder", hint="save it as UTF-8") from error


def read_on_white(path: Path) -> torch.Tensor:
    """A picture, or the first frame of an animated one, (1, 3, H, W), with white where it is transparent."""
    from nodes.files.pictures import read

    pixels, mask = read(path)
    return pixels[:1] * (1 - mask[:1]) + mask[:1]


def _sorted_out(path: Path, may_read: MayRead) -> tuple[list[Path], list[Path]]:
    """The pictures and the captions in a folder and below, sorted."""
    files = sorted(file for file in _below(path) if may_read(file))
    return [file for file in files if _is_picture(file)], [file for file in files if file.suffix.lower() in CAPTIONS]


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in NAMED_SO:
        return True
    try:
        found = filetypes.of(path) if path.is_file() else None
    except OSError:
        return False
    return found is not None and found.group == "picture"
