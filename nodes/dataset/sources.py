"""Which videos a path stands for: a folder, a pattern, a list, a table, or one video."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from glob import has_magic
from pathlib import Path
from typing import NamedTuple

from engine import filetypes
from engine.errors import InputError
from engine.node import Found, MayRead, any_file
from nodes.dataset import extra

COLUMNS = ("video", "path", "file", "file_name")
"""The columns in which a table may name its videos; the first that it has counts."""
SOUND_NAMES = frozenset((".m4a", ".m4b", ".mka", ".wma", ".oga", ".ogg", ".opus", ".3ga"))
"""Endings of names that promise sound, in containers that may hold a video: they are opened to tell."""
HIDDEN, SOUND = "is hidden", "has sound, no video"


class Skipped(NamedTuple):
    """A file, or a folder, that isn't taken for a video."""

    path: Path
    reason: str
    """As it follows the name: "is a PDF document"."""


class Sources(NamedTuple):
    """What a path stands for."""

    videos: Sequence[Path]
    """In order. Some may prove not to be videos when they are opened."""
    skipped: Sequence[Skipped] = ()
    """In order, what is hidden last."""


def find(path: Path, may_read: MayRead = any_file) -> Sequence[Path]:
    """The videos of `survey`."""
    return survey(path, may_read).videos


def survey(path: Path, may_read: MayRead = any_file) -> Sources:
    """The videos that a path stands for, and what is skipped with the reasons; no videos if nothing is found.

    A folder stands for all videos in it and below, except hidden ones; a pattern (`raw/**/*.mp4`) for those that match.
    Both take every file that holds a video, whatever its name, and every file that is named as a video, so that it is
    listed with what is wrong; but not TypeScript, whose files end in `.ts` as transport streams do. A `.txt` file
    stands for the paths it lists, one a line, and a `.parquet` file for those in its column `video` or `path`, all
    relative to it, whatever they are, including files that don't exist. Links to files are followed, and a link to a
    folder if it is the path itself; links to folders below it are skipped, so that no video appears twice.

    Raises:
        InputError: a list names a file that may not be read, or a table has no column of paths.
    """
    if path.is_dir():
        return _sorted_out(_below(path), may_read)
    if path.suffix in (".txt", ".parquet") and path.is_file() and not _holds_video(path):
        listed = [path.parent / name for name in (_lines if path.suffix == ".txt" else _column)(path)]
        if outside := next((file for file in listed if not may_read(file)), None):
            raise InputError(
                f"{path.name} names {outside}, which leads out of the folders that may be read",
                hint="list only files within them",
            )
        return Sources(list(dict.fromkeys(listed)))
    if path.is_file():
        return Sources([path])
    if has_magic(str(path)):
        absolute = path.absolute()
        found = Path(absolute.anchor).glob(str(absolute.relative_to(absolute.anchor)))
        return _sorted_out((Skipped(file, "") for file in found if not file.is_dir()), may_read)
    return Sources([])


def watched(path: Path, may_read: MayRead = any_file) -> Sequence[Path]:
    """The files that decide a path's results: its videos, and the list itself if it names some that don't exist.

    What else is there decides what is said to be skipped, except hidden files: other programs change these at any time.
    """
    videos, skipped = survey(path, may_read)
    there, folder = [file for file in videos if file.is_file()], root(path)
    besides = (f"{name(file, folder)} {reason}" for file, reason in skipped if reason != HIDDEN)
    return Found(there if len(there) == len(videos) else [path, *there], besides)


def explained(skipped: Iterable[Skipped]) -> Iterator[Skipped]:
    """What is skipped, where sounds are opened to tell whether they have a cover picture."""
    for path, reason in skipped:
        yield Skipped(path, (reason == SOUND and _without_video(path)) or reason)


def name(file: Path, folder: Path) -> str:
    """A file as it is named in tables: relative to the `root` of the path that was given, and valid UTF-8."""
    named = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)
    return printable(named)


def printable(name: str) -> str:
    """A file's name as valid UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def root(path: Path) -> Path:
    """The folder that a path's videos are named relative to."""
    if path.is_dir():
        return path
    if path.is_file() or not has_magic(str(path)):
        return path.parent
    return next(parent for parent in path.parents if not has_magic(str(parent)))


def _sorted_out(found: Iterable[Skipped], may_read: MayRead) -> Sources:
    """Files, each with a reason for skipping it or "", as videos and others."""
    videos, skipped = list[Path](), list[Skipped]()
    for file, known in found:
        if reason := known or _reason(file, may_read):
            skipped.append(Skipped(file, reason))
        else:
            videos.append(file)
    return Sources(sorted(videos), sorted(skipped, key=lambda each: (each.reason == HIDDEN, each.path)))


def _below(folder: Path) -> Iterator[Skipped]:
    """All files in a folder and below, and the folders that are left out, with the reasons."""
    unread = list[Skipped]()

    def note(error: OSError) -> None:
        unread.append(Skipped(Path(error.filename), _unreadable(error)))

    for root, folders, files in os.walk(folder, onerror=note):
        for name in folders:
            if name.startswith("."):
                yield Skipped(Path(root, name), HIDDEN)
            elif Path(root, name).is_symlink():
                yield Skipped(Path(root, name), "is a link to a folder")
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Skipped(Path(root, name), "") for name in files)
    yield from unread


def _reason(path: Path, may_read: MayRead) -> str:
    """Why a file isn't taken for a video; "" if it is."""
    if path.name.startswith("."):
        return HIDDEN
    if not may_read(path):
        return "is a link that leads out of the folders that may be read"
    if not path.exists():
        return "is a link to a file that isn't there"
    if not path.is_file():
        return "is not a regular file"
    is_named_so = filetypes.promises_video(path.name)
    try:
        found = filetypes.of(path)
        if found == filetypes.TEXT and path.suffix.lower() == ".ts":  # TypeScript
            return f"is {found.name}"
        if found is None:
            empty = path.stat().st_size == 0
            return "" if is_named_so else "is empty" if empty else "is of no type that is known to hold a video"
    except OSError as error:
        return "" if is_named_so else _unreadable(error)
    if found.group == "video" and path.suffix.lower() in SOUND_NAMES:
        return _without_video(path)
    if found.group == "video" or is_named_so:
        return ""
    return SOUND if found.group == "sound" else f"is {found.name}"


def _without_video(path: Path) -> str:
    """Why a file isn't a video, judging by its streams; "" if it is one."""
    from nodes.files.footage import Footage

    try:
        Footage(path)
    except InputError as error:
        return error.message.removeprefix(str(path)).strip()
    return ""


def _unreadable(error: OSError) -> str:
    return "may not be read" if isinstance(error, PermissionError) else f"can't be read: {error.strerror}"


def _holds_video(path: Path) -> bool:
    """Whether a file that is named as a list or a table is a video."""
    found = filetypes.of(path)
    return found is not None and found.group == "video"


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
