"""Where a file is that a request names, however it is spelled: inside one of the server's folders or nowhere.

A name is judged as it is written first, so that a refusal tells nothing of what lies elsewhere; then with all links
followed. It is taken as it is and never decoded: `%2e%2e` that comes this far was encoded twice, and is refused.
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
"""The folders that the protocol knows as the `type` of a file."""

MOST_BYTES = 255
"""Of one part of a path, as file systems have it."""
MOST_PARTS = 32

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:]|[. ]\Z")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)


def beneath(root: Path, *names: str, hidden: bool = False) -> Path:
    """The path that relative names lead to, one after the other, with all links followed. Nothing need be there.

    Args:
        root: the folder that it must be in.
        names: each may lead through folders, `a/b.png`, and may be empty.
        hidden: whether names may start with a dot.

    Raises:
        UsageError: it can't be a name on every system, is hidden, or leads out of the folder.
    """
    parts = [part for name in names for part in _parts(name, hidden)]
    if len(parts) > MOST_PARTS:
        raise UsageError(f"{brief('/'.join(parts))} lies too deep", hint=f"folders may be {MOST_PARTS} deep")
    path = Path(os.path.realpath(root.joinpath(*parts)))
    if not path.is_relative_to(os.path.realpath(root)):
        raise UsageError(f"{brief('/'.join(parts))} leads out of the folder", hint="links may only lead within it")
    return path


def located(folders: Folders, filename: str, subfolder: str = "", type: str = "output") -> Path:
    """Where a file is, or would be, that a request names; arguments as the protocol has them, errors as of `beneath`.

    `filename` may be annotated; the folder that it names goes before `type`.
    """
    roots = {name: path for name, path in folders.roots.items() if name in get_args(Root)}
    bare, root = annotated(filename, roots)
    root_folder = roots.get(root or type)
    if root_folder is None:
        raise UsageError(f"there is no folder {brief(type)}", hint="type is input, output or temp")
    if not _parts(bare, hidden=False):
        raise UsageError("no file is named", hint="give a filename")
    return beneath(root_folder, subfolder, bare)


def found(folders: Folders, filename: str, subfolder: str = "", type: str = "output") -> Path:
    """The file that a request names; raises MissingError if there is none, and as `located` does."""
    return existing(located(folders, filename, subfolder, type), filename)


def existing(path: Path, name: str) -> Path:
    """The path, if an ordinary file is there; raises MissingError if not."""
    if not path.is_file():
        raise MissingError(f"there is no file {brief(name)}")
    return path


@dataclass(frozen=True, slots=True)
class Found:
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


def walk(root: Path) -> Iterator[Found]:
    """All files below a folder that requests can name: no hidden ones, none behind links that lead out."""
    real = os.path.realpath(root)
    waiting = [(real, "")]
    while waiting:
        folder, subfolder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # removed meanwhile, or not ours to read
            continue
        for entry in entries:
            if not _speakable(entry.name, hidden=False):
                continue
            with suppress(OSError):  # removed meanwhile, or a link that leads to itself
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{subfolder}/{entry.name}".lstrip("/")))
                elif entry.is_file() and (not entry.is_symlink() or _leads_below(entry.path, real)):
                    stat = entry.stat()
                    yield Found(Path(entry.path), entry.name, subfolder, stat.st_size, stat.st_mtime_ns)


def _leads_below(link: str, root: str) -> bool:
    return Path(os.path.realpath(link)).is_relative_to(root)


def _parts(name: str, hidden: bool) -> list[str]:
    """A relative path's parts; raises UsageError if it isn't one, on any system and however often it is decoded."""
    spellings = [name]
    while len(spellings) < 5 and (decoded := unquote(spellings[-1])) != spellings[-1]:
        spellings.append(decoded)
    for spelling in spellings:
        if spelling.startswith("/") or not all(_speakable(part, hidden) for part in spelling.split("/") if part):
            hint = "give a relative path, without '..', hidden parts and letters that some systems forbid"
            raise UsageError(f"{brief(name)} can't be the name of a file here", hint=hint)
    return [part for part in name.split("/") if part]


def _speakable(part: str, hidden: bool) -> bool:
    """Whether one part of a path means the same file on every system, and no other folder."""
    try:
        size = len(part.encode())
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    if part in (".", "..") or (part.startswith(".") and not hidden) or size > MOST_BYTES:
        return False
    return not (_FORBIDDEN.search(part) or _RESERVED.fullmatch(part))
