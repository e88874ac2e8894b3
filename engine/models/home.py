"""The folder in which Kinograph keeps what it downloaded or computed."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def home() -> Path:
    """`$KINOGRAPH_HOME`, else `kinograph` where the system wants users' caches (`~/.cache` on Linux)."""
    if folder := os.environ.get("KINOGRAPH_HOME"):
        return Path(folder).expanduser().absolute()
    return user_cache_path("kinograph", appauthor=False)
