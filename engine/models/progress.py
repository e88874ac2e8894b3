"""The progress of a download."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with bytes done and in all (0 while unknown), several times a second; an exception ends the download."""
