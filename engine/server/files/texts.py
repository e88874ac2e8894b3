"""Uploaded texts, such as lists of prompts: accepted if they are what their names say."""

from __future__ import annotations

import codecs
from pathlib import Path

from engine.errors import UsageError

TEXTS = frozenset((".txt", ".md", ".csv"))
"""File name endings."""
MOST_BYTES = 1_000_000
"""As many as `LoadText` reads."""


def check_text(path: Path) -> None:
    """Raise UsageError unless a file is a text in UTF-8, of a megabyte at most."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UsageError(f"the text is longer than {MOST_BYTES:,} bytes", hint="split it")
    try:
        text = codecs.decode(data, "utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("the file is not text in UTF-8", hint="save it as UTF-8") from None
    if "\0" in text:
        raise UsageError("the file is not text: it has null bytes")
