"""The report on a data set: one HTML file to look at, with all it shows inside."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, StrictUndefined

from nodes.dataset.table import Row

SHOWN = 120
"""Clips shown of those that were kept, and of those that were not."""


def report(
    title: str, facts: dict[str, Any], clips: Sequence[Row], videos: Sequence[Row], thumbnails: pa.ChunkedArray
) -> str:
    """The page.

    Args:
        title: what the data set is called.
        facts: its statistics.
        clips: rows of the table `CLIPS`.
        videos: rows of the table `VIDEOS`.
        thumbnails: of all clips, JPEG.
    """
    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    kept = [index for index, clip in enumerate(clips) if not clip["dropped"]]
    dropped = [index for index, clip in enumerate(clips) if clip["dropped"]]
    groups = [(name, _some(of, clips, thumbnails), len(of)) for name, of in (("Kept", kept), ("Dropped", dropped))]
    problems = [video for video in videos if video["problem"]]
    return environment.from_string(template).render(title=title, facts=facts, groups=groups, problems=problems)


def _some(chosen: Sequence[int], clips: Sequence[Row], thumbnails: pa.ChunkedArray) -> list[Row]:
    """As many of the chosen clips as are shown, drawn from all but always the same, in order."""
    shown = sorted(random.Random(0).sample(chosen, min(SHOWN, len(chosen))))
    return [{**clips[i], "picture": b64encode(thumbnails[i].as_py() or b"").decode()} for i in shown]
