"""Files and values as self-contained HTML for notebooks."""

from __future__ import annotations

import base64
import sys
import warnings
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from engine.store.sizes import human_size
from engine.values import Image, Video, brief

MOST_BYTES = 32 << 20
"""The largest file that is embedded in a notebook; for larger ones only the path is shown."""
MOST_LETTERS = 2000
"""The most characters of a text that are shown."""
MOST_ITEMS = 24
"""The most pictures, or items of a list, that are shown."""
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
VIDEOS = ("video/mp4", "video/webm")
ROW = "display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start"


def html_of_results(summary: str, files: Mapping[str, Iterable[tuple[Path, str]]], values: Mapping[str, Any]) -> str:
    """A run's files (path and media type, by node) and values, each below its name."""
    parts = [(node, [html_of_file(*file) for file in found]) for node, found in files.items()]
    parts += [(name, [html_of_value(value)]) for name, value in values.items()]
    return f"<p>{escape(summary)}</p>" + "".join(
        f"<p><b>{escape(name)}</b></p><div style='{ROW}'>{''.join(shown)}</div>" for name, shown in parts
    )


def html_of_file(path: Path, media_type: str) -> str:
    """A picture, video or text in full; for any other file, its path."""
    named = f"<code>{escape(str(path))}</code>"
    if not path.is_file():
        return named
    size = path.stat().st_size
    shown = media_type in (*PICTURES, *VIDEOS) or media_type.startswith("text/") or media_type == "application/json"
    if not shown or size > MOST_BYTES:
        return f"{named} ({human_size(size)})"
    if media_type in (*PICTURES, *VIDEOS):
        return _embedded(path.read_bytes(), media_type, path.name)
    return _text(path.read_text("utf-8", errors="replace"))


def html_of_value(value: Any) -> str:
    """Pictures, videos and texts in full, anything else abridged."""
    match value:
        case Image():
            from nodes.files.media import encode_png

            shown = [_embedded(encode_png(picture), "image/png", str(value)) for picture in value.pixels[:MOST_ITEMS]]
            return _row(shown, len(value.pixels))
        case Video():
            from nodes.files.media import encode_mp4

            return _embedded(encode_mp4(value.frames, value.fps), "video/mp4", str(value))
        case str():
            return _text(value)
        case tuple() if fields := getattr(value, "_fields", ()):
            return "".join(
                f"<p>{escape(name)}: {html_of_value(part)}</p>" for name, part in zip(fields, value, strict=True)
            )
        case tuple():
            return _row([html_of_value(item) for item in value[:MOST_ITEMS]], len(value))
    return f"<code>{escape(brief(value))}</code>"


def show_values() -> None:
    """Have IPython, if this runs in it, display `Image` and `Video` values."""
    if shell := shell_of_ipython():
        for kind in (Image, Video):
            shell.display_formatter.formatters["text/html"].for_type(kind, html_of_value)
        # Libraries warn that their own progress bars need widgets; Kinograph's bars replace them.
        warnings.filterwarnings("ignore", message="IProgress not found")


def shell_of_ipython() -> Any:
    """The shell of the IPython that this runs in; None in plain Python."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


def _embedded(data: bytes, media_type: str, name: str) -> str:
    source = f"src='data:{media_type};base64,{base64.b64encode(data).decode()}' title='{escape(name)}'"
    if media_type in VIDEOS:
        return f"<video {source} controls loop muted style='max-width:100%'></video>"
    return f"<img {source} alt='{escape(name)}' style='max-width:100%'>"


def _text(text: str) -> str:
    cut = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"
    return f"<pre style='white-space:pre-wrap'>{escape(cut)}</pre>"


def _row(shown: list[str], count: int) -> str:
    more = f"<p>and {count - len(shown)} more</p>" if count > len(shown) else ""
    return f"<div style='{ROW}'>{''.join(shown)}</div>{more}"
