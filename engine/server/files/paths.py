"""Resolves file names in requests: however a name is spelled, it leads into one of the server's folders or nowhere.

A name is first judged as written, so that a refusal reveals nothing about files elsewhere; then with all links
followed. It is never decoded: a `%2e%2e` that gets here was encoded twice, and is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote

from engine.errors import MissingError, UsageError
from engine.graph.confinement import annotated
from engine.server.http.settings import Folders
from engine.values import brief

Root = Literal["input", "output", "temp"]
"""The folders that the protocol knows, as the `type` of a file."""

MOST_BYTES = 255
"""Of one part of a path, the limit of common file systems."""
MOST_PARTS = 32

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:]|[. ]\Z")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)


def resolve_within(root: Path, *names: str, hidden: bool = False) -> Path:
    """The path of relative names joined below a folder, with all links followed; it needn't exist.

    Args:
        root: the folder that it must be in.
        names: each may contain folders, `a/b.png`, and may be empty.
        hidden: whether names may start with a dot.

    Raises:
        UsageError: it isn't a valid name on every system, is hidden, or leads out of the folder.
    """
    parts = [part for name in names for part in _parts(name, hidden)]
    if len(parts) > MOST_PARTS:
        raise UsageError(f"{brief('/'.join(parts))} is nested too deeply", hint=f"use at most {MOST_PARTS} levels")
    path = Path(os.path.realpath(root.joinpath(*parts)))
    if not path.is_relative_to(os.path.realpath(root)):
        raise UsageError(f"{brief('/'.join(parts))} leads out of its folder", hint="links must stay within the folder")
    return path


def locate(folders: Folders, filename: str, subfolder: str = "", type: str = "output") -> Path:
    """The path of a file that a request names in the protocol's terms; it needn't exist. Raises as `resolve_within`.

    `filename` may be annotated, `a.png [input]`; that folder takes precedence over `type`.
    """
    roots = {name: path for name, path in folders.roots.items() if name in get_args(Root)}
    bare, root = annotated(filename, roots)
    root_folder = roots.get(root or type)
    if root_folder is None:
        raise UsageError(f"there is no folder {brief(type)}", hint="type must be input, output or temp")
    if not _parts(bare, hidden=False):
        raise UsageError("no file is named", hint="give a filename")
    return resolve_within(root_folder, subfolder, bare)


def find_file(folders: Folders, filename: str, subfolder: str = "", type: str = "output") -> Path:
    """The file that a request names; raises MissingError if it doesn't exist, and as `locate`."""
    return require_file(locate(folders, filename, subfolder, type), filename)


def require_file(path: Path, name: str) -> Path:
    """The path, if it is a regular file; otherwise raises MissingError."""
    if not path.is_file():
        raise MissingError(f"there is no file {brief(name)}")
    return path


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file below a folder."""

    path: Path
    filename: str
    subfolder: str
    size: int
    modified_ns: int

    @property
    def modified(self) -> float:
        """Seconds since 1970."""
        return self.modified_ns / 1e9


def walk(root: Path) -> Iterator[FileEntry]:
    """All files below a folder that requests can name: none that are hidden, or behind links that lead out."""
    real = os.path.realpath(root)
    pending = [(real, "")]
    while pending:
        folder, subfolder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # removed meanwhile, or not readable
            continue
        for entry in entries:
            if not _is_portable(entry.name, hidden=False):
                continue
            with suppress(OSError):  # removed meanwhile, or a link to itself
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{subfolder}/{entry.name}".lstrip("/")))
                elif entry.is_file() and (not entry.is_symlink() or _leads_below(entry.path, real)):
                    stat = entry.stat()
                    yield FileEntry(Path(entry.path), entry.name, subfolder, stat.st_size, stat.st_mtime_ns)


def _leads_below(link: str, root: str) -> bool:
    return Path(os.path.realpath(link)).is_relative_to(root)


def _parts(name: str, hidden: bool) -> list[str]:
    """A relative path's parts; raises UsageError unless it is one on every system, however often it is decoded."""
    spellings = [name]
    while len(spellings) < 5 and (decoded := unquote(spellings[-1])) != spellings[-1]:
        spellings.append(decoded)
    for spelling in spellings:
        if spelling.startswith("/") or not all(_is_portable(part, hidden) for part in spelling.split("/") if part):
            hint = "give a relative path, without '..', hidden parts, or characters that some systems forbid"
            raise UsageError(f"{brief(name)} is not a valid file name here", hint=hint)
    return [part for part in name.split("/") if part]


def _is_portable(part: str, hidden: bool) -> bool:
    """Whether one part of a path means the same file on every system, and leads to no other folder."""
    try:
        size = len(part.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    if part in (".", "..") or (part.startswith(".") and not hidden) or size > MOST_BYTES:
        return False
    return not (_FORBIDDEN.search(part) or _RESERVED.fullmatch(part))
