"""The group of media that a file belongs to, judging by its name, and its location in the terms of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Literal

MediaGroup = Literal["images", "videos", "texts", "tables", "files"]
GROUPS: Mapping[str, MediaGroup] = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif"), "images"),
    **dict.fromkeys((".mp4", ".webm", ".mov", ".mkv"), "videos"),
    **dict.fromkeys((".txt", ".md"), "texts"),
    **dict.fromkeys((".csv", ".json"), "tables"),
}


def media_group(path: PurePath) -> MediaGroup:
    """The name under which the protocol lists files like this."""
    return GROUPS.get(path.suffix.lower(), "files")


def location_of(path: Path, roots: Mapping[str, Path]) -> dict[str, str]:
    """A file below one of the folders, as `filename`, `subfolder` and `type`, the folder's name.

    Raises:
        ValueError: it is in none of them.
    """
    for name, root in roots.items():
        if path.is_relative_to(root):
            inner = path.relative_to(root)
            return {"filename": inner.name, "subfolder": inner.parent.as_posix().removeprefix("."), "type": name}
    raise ValueError(f"{path} is in none of the folders")
