"""The report on a data set: one HTML file to look at, with all it shows inside."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from nodes.dataset.table import Row

SHOWN = 120
"""Clips shown of those that were kept, and of those that were not."""


def report(title: str, facts: dict[str, Any], clips: Sequence[Row], videos: Sequence[Row]) -> str:
    """The page.

    Args:
        title: what the data set is called.
        facts: its statistics.
        clips: rows of the table `CLIPS`.
        videos: rows of the table `VIDEOS`.
    """
    template = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    kept = [clip for clip in clips if not clip["dropped"]]
    dropped = [clip for clip in clips if clip["dropped"]]
    groups = [("Kept", _some(kept), len(kept)), ("Dropped", _some(dropped), len(dropped))]
    problems = [video for video in videos if video["problem"]]
    return environment.from_string(template).render(title=title, facts=facts, groups=groups, problems=problems)


def _some(clips: Sequence[Row]) -> list[Row]:
    """As many as are shown, drawn from all but always the same, in order."""
    chosen = sorted(random.Random(0).sample(range(len(clips)), min(SHOWN, len(clips))))
    return [{**clips[i], "picture": b64encode(clips[i]["thumbnail"] or b"").decode()} for i in chosen]
