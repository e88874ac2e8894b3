"""Leaves absolute paths out of errors that go to other machines: they tell account names, and what is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SEPARATORS = re.compile(r"[/\\]")
_WINDOWS = r"[A-Za-z]:[\\/]"


class Hiding:
    """Replaces absolute paths in texts: `/srv/films/output/a.png` by `output/a.png`, any other by `…/a.png`.

    Args:
        roots: folders by the names that they are known by.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        named = {str(path): name for name, path in roots.items()}
        self._names = named | {os.path.realpath(path): name for path, name in named.items()}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._known = re.compile(f"(?:{'|'.join(map(re.escape, longest_first))})(?![\\w.-])") if named else None
        top = "|".join(sorted(map(re.escape, _top_folders())))
        start = rf"(?:/(?:{top})/|{_WINDOWS})"
        before = r"(?<![\w/\\.…-])"
        self._quoted = re.compile(rf"""(?<=(['"])){start}[^'"\n]*(?=\1)""")
        self._bare = re.compile(rf"""{before}{start}[^\s'"<>|;,()\[\]{{}}]*""")

    def text(self, text: str) -> str:
        """The text without absolute paths."""
        if self._known:
            text = self._known.sub(lambda found: self._names[found[0]], text)
        return self._bare.sub(_last_part, self._quoted.sub(_last_part, text))

    def data(self, data: Any) -> Any:
        """JSON data without absolute paths in its texts."""
        match data:
            case str():
                return self.text(data)
            case dict():
                return {name: self.data(value) for name, value in data.items()}
            case list() | tuple():
                return [self.data(value) for value in data]
        return data


def _last_part(found: re.Match[str]) -> str:
    """What is left of a path; punctuation at its end belongs to the sentence."""
    path = found[0].rstrip(".:!?/\\")
    rest = found[0][len(path) :].strip("/\\")
    return f"…/{_SEPARATORS.split(path)[-1]}{rest}"


def _top_folders() -> list[str]:
    """The folders that absolute paths start with on this machine; routes start with a slash too, but with others."""
    try:
        return [path.name for path in Path("/").iterdir()]
    except OSError:
        return []
