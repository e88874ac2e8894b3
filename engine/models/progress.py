"""The progress of fetching a model."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with bytes done and in all (0 while unknown), several times a second; an exception ends the download.

Both grow when a downloaded package is unpacked: by the bytes unpacked so far, and by those that will be."""
