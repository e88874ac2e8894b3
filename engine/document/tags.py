"""The texts that pictures and videos carry, among them the workflow that made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic_core import from_json

from engine.errors import WorkflowError

PNG = b"\x89PNG\r\n\x1a\n"


MATROSKA = b"\x1a\x45\xdf\xa3"


def tags(path: Path) -> Mapping[str, str] | None:
    """The texts that a PNG, WebP, MP4 or WebM carries, of which `workflow` and `prompt` are its workflow.

    None if it is no such file.

    Raises:
        WorkflowError: the file is damaged.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(PNG) or (start[:4], start[8:]) == (b"RIFF", b"WEBP"):
        return _picture_tags(path)
    return _video_tags(path) if start[4:8] == b"ftyp" or start.startswith(MATROSKA) else None


def _picture_tags(path: Path) -> dict[str, str]:
    """Of a WebP, other programs write `name:text` into whatever EXIF tags they like."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            texts = {str(name): text for name, text in picture.info.items() if isinstance(text, str)}
            noted = [text.partition(":") for text in picture.getexif().values() if isinstance(text, str)]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's for a damaged file
        raise WorkflowError(f"{path.name} is not a sound picture") from error
    return {name: text for name, _, text in noted} | texts


def _video_tags(path: Path) -> dict[str, str]:
    """Matroska writes names in capitals. Some programs put all that they have to say into a comment, as JSON."""
    import av

    try:
        with av.open(path) as container:
            found = {name.lower(): text for name, text in container.metadata.items()}
    except av.FFmpegError as error:
        raise WorkflowError(f"{path.name} is not a sound video: {error.strerror}") from error
    try:
        comment = from_json(found.get("comment", ""))
    except ValueError:
        return found
    told = comment if isinstance(comment, dict) else {}
    return {name: data if isinstance(data, str) else json.dumps(data) for name, data in told.items()} | found
