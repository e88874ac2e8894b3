"""Read the texts embedded in pictures and videos, among them the workflow that made them.

    kinograph   Kinograph's document
    prompt      the graph alone, in the API format
    workflow    what ComfyUI's editor opens: the workflow in the UI format. Files that Kinograph wrote before it had a
                tag of its own have the document here.

What other programs write, such as ComfyUI, has the last two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic_core import from_json

from engine.errors import WorkflowError

PNG = b"\x89PNG\r\n\x1a\n"
MATROSKA = b"\x1a\x45\xdf\xa3"
DOCUMENT, GRAPH, DRAWN = "kinograph", "prompt", "workflow"
"""The names of the texts that hold workflows."""
LONGEST_COMMENT = 8 << 20
"""Characters of a video's comment; a longer one isn't read as JSON, which would take long."""


UNDECODED = {"max_pixels": "1"}
"""FFmpeg decodes frames of which a file doesn't say all; so it doesn't, as there may be any number of pixels."""
MOST_CHUNKS = 10_000
"""Of a PNG before its pixels; Pillow takes 10 to 20 µs for each."""


def tags(path: Path) -> Mapping[str, str] | None:
    """The texts embedded in a PNG, WebP, MP4 or WebM, by name.

    None for any other file.

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
    """The texts of a picture; other programs write `name:text` into any of a WebP's EXIF tags."""
    from PIL import Image

    if _chunks(path) > MOST_CHUNKS:
        raise WorkflowError(f"{path.name} is not a valid picture: it has too many texts")
    try:
        with Image.open(path) as picture:
            texts = {str(name): text for name, text in picture.info.items() if isinstance(text, str)}
            exif = [text.partition(":") for text in picture.getexif().values() if isinstance(text, str)]
    except Image.DecompressionBombError as error:
        raise WorkflowError(f"{path.name} has too many pixels to be read", hint="give the JSON file") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's for a damaged file
        raise WorkflowError(f"{path.name} is not a valid picture") from error
    return {name: text for name, _, text in exif} | texts


def _chunks(path: Path) -> int:
    """How many parts a PNG has before its pixels, as far as they are counted; 0 for another file."""
    count = 0
    with path.open("rb") as file:
        if file.read(len(PNG)) == PNG:
            while (head := file.read(8))[4:] not in (b"", b"IDAT") and count <= MOST_CHUNKS:
                file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
                count += 1
    return count


def _video_tags(path: Path) -> dict[str, str]:
    """The texts of a video. Matroska has names in capitals; some programs write all texts into a comment, as JSON."""
    import av

    try:
        with av.open(path, options=UNDECODED) as container:
            found = {name.lower(): text for name, text in container.metadata.items()}
    except av.FFmpegError as error:
        raise WorkflowError(f"{path.name} is not a valid video: {error.strerror}") from error
    if len(found.get("comment", "")) > LONGEST_COMMENT:
        return found
    try:
        comment = from_json(found.get("comment", ""))
    except ValueError:
        return found
    texts = comment if isinstance(comment, dict) else {}
    return {name: data if isinstance(data, str) else json.dumps(data) for name, data in texts.items()} | found
