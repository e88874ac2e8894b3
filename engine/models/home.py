"""The folder in which kinograph keeps what it downloaded or computed."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$KINOGRAPH_HOME`, else `kinograph` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`)."""
    if folder := os.environ.get("KINOGRAPH_HOME"):
        return Path(folder).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinograph"
