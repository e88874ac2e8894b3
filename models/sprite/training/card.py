"""The machine-readable card beside a model's weights: the words that it knows, and how it was trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from models.sprite import world
from models.sprite.training.loop import Run


def write_card(folder: Path, description: str, runs: Sequence[Run], vocabulary: bool = False) -> None:
    """Write `card.json`. `runs` are the training runs behind the weights, in order.

    `vocabulary` says that the model reads prompts, and lists the words that it knows.
    """
    listed = [
        {
            "name": run.name,
            "steps": run.steps,
            "batch": run.batch,
            "minutes": round(run.seconds / 60, 1),
            "machine": run.machine,
        }
        for run in runs
    ]
    training = {"seed": 0, "runs": listed}
    card: dict[str, object] = {"description": description, "size": [world.SIZE, world.SIZE], "training": training}
    if vocabulary:
        card["vocabulary"] = {slot: list(words) for slot, words in world.VOCABULARY.items()}
        card["phrases"] = world.PHRASES
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
