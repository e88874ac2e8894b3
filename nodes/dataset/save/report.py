"""The report on a data set: one self-contained HTML file."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, StrictUndefined

from nodes.dataset.save.statistics import about_damage, lasting
from nodes.dataset.table import Row

SHOWN = 120
"""Most clips shown of those kept, and of those dropped."""


def report(
    title: str, facts: dict[str, Any], clips: Sequence[Row], videos: Sequence[Row], thumbnails: pa.ChunkedArray
) -> str:
    """The report's page.

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
    page = environment.from_string(template)
    damage = about_damage(facts)
    return page.render(title=title, facts=facts, damage=damage, groups=groups, problems=problems, lasting=lasting)


def _some(chosen: Sequence[int], clips: Sequence[Row], thumbnails: pa.ChunkedArray) -> list[Row]:
    """At most `SHOWN` of the chosen clips, drawn at random but always the same, in order."""
    shown = sorted(random.Random(0).sample(chosen, min(SHOWN, len(chosen))))
    return [{**clips[i], "picture": b64encode(thumbnails[i].as_py() or b"").decode()} for i in shown]
