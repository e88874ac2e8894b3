"""Which videos a path stands for: a folder, a pattern, a list, a table, or one video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from engine.errors import InputError
from engine.node import MayRead, any_file
from nodes.dataset import extra

VIDEOS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .mts .flv .wmv .ogv .3gp .mxf .gif".split()  # noqa: SIM905
)
COLUMNS = ("video", "path", "file", "file_name")
"""The columns in which a table may name its videos; the first that it has counts."""


def find(path: Path, may_read: MayRead = any_file) -> Sequence[Path]:
    """The videos that a path stands for, in order; none if nothing is found.

    A folder stands for all videos in it and below, except hidden ones; a pattern (`raw/**/*.mp4`) for what matches; a
    `.txt` file for the paths it lists, one a line, and a `.parquet` file for those in its column `video` or `path`, all
    relative to it, including files that don't exist. Links to files are followed, and a link to a folder if it is the
    path itself; links to folders below it are skipped, so that no video appears twice.

    Raises:
        InputError: a list names a file that may not be read, or a table has no column of paths.
    """
    if path.is_dir():
        return sorted(filter(may_read, _below(path)))
    if path.suffix in (".txt", ".parquet") and path.is_file():
        listed = [path.parent / name for name in (_lines if path.suffix == ".txt" else _column)(path)]
        if outside := next((file for file in listed if not may_read(file)), None):
            raise InputError(
                f"{path.name} names {outside}, which leads out of the folders that may be read",
                hint="list only files within them",
            )
        return list(dict.fromkeys(listed))
    if path.is_file():
        return [path]
    if has_magic(str(path)):
        absolute = path.absolute()
        found = Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor)))
        return sorted(file for file in found if is_video(file) and may_read(file))
    return []


def watched(path: Path, may_read: MayRead = any_file) -> Sequence[Path]:
    """The files that decide a path's results: its videos, and the list itself if it names some that don't exist."""
    found = find(path, may_read)
    there = [file for file in found if file.is_file()]
    return there if len(there) == len(found) else [path, *there]


def root(path: Path) -> Path:
    """The folder that a path's videos are named relative to."""
    if path.is_dir():
        return path
    if path.is_file() or not has_magic(str(path)):
        return path.parent
    return next(parent for parent in path.parents if not has_magic(str(parent)))


def is_video(path: Path) -> bool:
    """Whether a file is taken for a video, by its name."""
    return path.suffix.lower() in VIDEOS and not path.name.startswith(".") and path.is_file()


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for name in files if is_video(path := Path(root, name)))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", hint="save the list as UTF-8") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _column(path: Path) -> list[str]:
    extra.require()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} can't be read as a table: {reason}", hint="give a Parquet file") from error
    column = next((name for name in COLUMNS if name in names), None)
    if column is None:
        raise InputError(f"{path} has no column of paths", hint=f"call it {' or '.join(COLUMNS[:2])}")
    listed = pq.read_table(path, columns=[column])[column].to_pylist()
    if strange := next((name for name in listed if not isinstance(name, str | None)), None):
        raise InputError(f"{path} names {strange!r} in its column {column}, which is not a path", hint="give texts")
    return [name for name in listed if name is not None]
