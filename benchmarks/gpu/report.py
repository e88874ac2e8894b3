"""The report of a run: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.gpu.running import Outcome

LIBRARIES = ("torch", "diffusers", "transformers")


def machine(device: str) -> dict[str, Any]:
    """When and on what the steps ran."""
    found: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "device": device, "cores": os.cpu_count()}
    if device.startswith("cuda"):
        about = torch.cuda.get_device_properties(device)
        found |= {"gpu": about.name, "gpu memory in GB": round(about.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return found | {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def as_json(about: dict[str, Any], outcomes: Iterable[Outcome]) -> str:
    """An object with `machine`, as it was given, and `steps`: a list of outcomes, each with the fields of Outcome."""
    return json.dumps({"machine": about, "steps": [asdict(outcome) for outcome in outcomes]}, indent=1) + "\n"


def as_markdown(about: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """A table by part: each step's claim, whether it holds, and what was measured."""
    held = sum(not outcome.problem for outcome in outcomes)
    lines = ["# Seen on a GPU" if "gpu" in about else "# Tried without a GPU", ""]
    lines += [", ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
    lines += [f"{held} of {len(outcomes)} claims hold."]
    for part in dict.fromkeys(outcome.part for outcome in outcomes):
        lines += ["", f"## {part}", "", "| claim | holds | measured | seconds |", "|---|---|---|---|"]
        lines += [_row(outcome) for outcome in outcomes if outcome.part == part]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> str:
    figures = "; ".join(f"{name} {_figure(value)}" for name, value in outcome.figures.items())
    holds = f"**no**: {outcome.problem}" if outcome.problem else "yes"
    cells = (outcome.claim, holds, figures, f"{outcome.seconds:.1f}")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
