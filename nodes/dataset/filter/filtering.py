"""Filtering tables and videos by rules."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa

from engine.errors import InputError
from engine.values import Table, Video
from nodes.dataset.filter.judging import reasons
from nodes.dataset.filter.rules import parse
from nodes.dataset.scan.motion import flow_map, grey, motion
from nodes.dataset.scan.quality import quality
from nodes.dataset.table import CLIPS, Row, of_arrow, rows, thumbnail, to_arrow, to_table, with_columns
from nodes.files.footage import Picture, small

FRAMES = pa.schema(
    [
        ("frame", pa.int32()),
        ("time", pa.float64()),  # seconds
        *(CLIPS.field(name) for name in ("motion", "sharpness", "brightness", "clipped")),
        *(CLIPS.field(name) for name in ("duplicate_of", "thumbnail", "dropped")),
    ]
)
"""The frames of a video."""
SAME = 2
"""Levels of 255 by which two frames may differ everywhere and still be the same."""


def filtered(table: Table, rules: str, *, again: bool = True) -> Table:
    """The table with the reasons why rows are dropped.

    Args:
        table: has the columns that the rules are about, and `dropped`.
        rules: one per line.
        again: also judge rows that were dropped before; else they keep their reasons, and only the others are judged.

    Raises:
        InputError: the table has no column `dropped`, or a rule is malformed or can't be judged.
    """
    arrow = to_arrow(table)
    wanted = [name for name in arrow.column_names if name not in ("thumbnail", "fingerprint", "embedding")]
    listed = rows(table, wanted if "dropped" in wanted else ["dropped"])
    judged = [row for row in listed if again or not row["dropped"]]
    found = iter(reasons(judged, parse(rules)))
    dropped = [next(found) if again or not row["dropped"] else row["dropped"] for row in listed]
    return of_arrow(with_columns(arrow, {"dropped": dropped}))


def kept(table: Table) -> Table:
    """The rows that are not dropped."""
    arrow = to_arrow(table)
    return of_arrow(arrow.filter(pa.array([not row["dropped"] for row in rows(table, ["dropped"])], pa.bool_())))


def frames_of(video: Video) -> Table:
    """The frames of a video as a table `FRAMES`, none of them dropped."""
    found: list[Row] = []
    before: Picture | None = None
    first, last = 0, np.zeros(0, np.uint8)
    for index, frame in enumerate(video.frames):
        picture = np.ascontiguousarray((frame * 255 + 0.5).byte().movedim(0, -1).cpu().numpy()[..., ::-1])
        reduced = small(picture)
        look, moved = quality(reduced), 0.0
        if before is not None:
            moved = motion([flow_map(grey(before), grey(reduced), 1 / video.fps)]).total
        same = before is not None and int(cv2.absdiff(reduced, last).max()) <= SAME
        if not same:
            first, last = index, reduced
        found.append(
            {
                "frame": index,
                "time": index / video.fps,
                "motion": moved,
                "sharpness": look.sharpness,
                "brightness": look.brightness,
                "clipped": look.clipped,
                "duplicate_of": f"frame {first}" if same else None,
                "thumbnail": thumbnail(picture),
                "dropped": [],
            }
        )
        before = reduced
    return to_table(found, FRAMES)


def kept_frames(video: Video, table: Table) -> Video:
    """The frames of a video that its table does not drop; raises InputError if it drops all."""
    stay = [index for index, row in enumerate(rows(table, ["dropped"])) if not row["dropped"]]
    if not stay:
        raise InputError("every frame was dropped", input="rules", hint="loosen the rules, or leave some out")
    return Video(video.frames[stay], video.fps)
