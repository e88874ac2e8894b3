"""Statistics of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isclose, isfinite
from typing import Any

import numpy as np

from nodes.dataset.table import Row

SCORES = (
    "seconds",
    "motion",
    "camera_motion",
    "object_motion",
    "text_area",
    "sharpness",
    "brightness",
    "clipped",
    "aesthetics",
    "caption_similarity",
)
UNCUT = "can't be cut out of its video"
"""How the reason begins if a clip is left out since its footage is wrong."""
BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def statistics(clips: Sequence[Row], videos: Sequence[Row]) -> dict[str, Any]:
    """Counts, lengths, what each filter drops, and the spread of every score, as JSON data.

    Args:
        clips: rows of the table `CLIPS`, including dropped ones with their reasons.
        videos: rows of the table `VIDEOS`.
    """
    kept = [clip for clip in clips if not clip["dropped"]]
    reasons = Counter(about(reason) for clip in clips for reason in {about(r): r for r in clip["dropped"]}.values())
    alone = Counter(about(clip["dropped"][0]) for clip in clips if len({about(r) for r in clip["dropped"]}) == 1)
    return {
        "videos": len(videos),
        "videos_with_problems": sum(bool(video["problem"]) for video in videos),
        "video_hours": sum(video["seconds"] or 0 for video in videos) / 3600,
        "clips": len(clips),
        "clips_kept": len(kept),
        "hours_kept": sum(clip["seconds"] or 0 for clip in kept) / 3600,
        "mean_seconds_kept": float(np.mean([clip["seconds"] or 0 for clip in kept])) if kept else 0.0,
        "damaged": {
            "left_out": reasons["damaged"],
            "kept": sum(bool(clip.get("damaged")) for clip in kept),
        },
        "dropped_by": {name: {"clips": count, "alone": alone[name]} for name, count in sorted(reasons.items())},
        "scores": {name: spread for name in SCORES if (spread := _spread(clips, name))},
    }


def lasting(hours: float) -> str:
    """A time in words, in the unit that suits it: "2.50 hours", "12.0 minutes", "8.0 seconds"."""
    if hours >= 1:
        return f"{hours:.2f} hours"
    return f"{hours * 60:.1f} minutes" if hours >= 1 / 60 else f"{hours * 3600:.1f} seconds"


def about_damage(facts: Mapping[str, Any]) -> str:
    """What is said of clips that lie where their videos are damaged; "" if there are none."""
    left_out, kept = facts["damaged"]["left_out"], facts["damaged"]["kept"]
    said = [f"{_clips(left_out)} left out, since {_videos(left_out)} damaged there."] if left_out else []
    said += [f"{_clips(kept)} kept though {_videos(kept)} damaged there: see the column `damaged`."] if kept else []
    return " ".join(said)


def _clips(count: int) -> str:
    return f"{count:,} clips were" if count != 1 else "1 clip was"


def _videos(count: int) -> str:
    return "their videos are" if count != 1 else "its video is"


def about(reason: str) -> str:
    """What a reason for dropping a clip is about: the column, "duplicates", "damaged", or "cutting"."""
    if reason.startswith(UNCUT):
        return "cutting"
    if reason.startswith("shows the same as"):
        return "duplicates"
    if reason.startswith("is damaged"):
        return "damaged"
    return reason.removeprefix("has no ").partition(" ")[0]


def _spread(clips: Sequence[Row], column: str) -> dict[str, Any] | None:
    """Quantiles, and histograms of all clips and of the kept ones; None if there are no values."""
    there = [clip for clip in clips if (value := clip.get(column)) is not None and isfinite(value)]
    if not there:
        return None
    values = np.array([clip[column] for clip in there], np.float64)
    quantiles = np.quantile(values, QUANTILES)
    if isclose(values.min(), values.max(), rel_tol=1e-9, abs_tol=1e-12):
        values[:] = quantiles[len(QUANTILES) // 2]  # Between values that differ by rounding alone no bins have room.
    edges = np.histogram_bin_edges(values, BINS)
    kept = values[[not clip["dropped"] for clip in there]]
    return {
        "quantiles": {f"{share:.0%}": float(value) for share, value in zip(QUANTILES, quantiles, strict=True)},
        "edges": edges.tolist(),
        "all": np.histogram(values, edges)[0].tolist(),
        "kept": np.histogram(kept, edges)[0].tolist(),
    }
