"""The model card that lies beside each model: what it knows, how it was made, how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from models.sprite import world


def write_card(folder: Path, description: str, recipe: Mapping[str, int], vocabulary: bool = False) -> None:
    """Write `card.json`; `vocabulary` says that the model reads prompts and lists the words that it knows."""
    card: dict[str, object] = {"description": description, "size": [world.SIZE, world.SIZE], "training": dict(recipe)}
    if vocabulary:
        card["vocabulary"] = {slot: list(words) for slot, words in world.VOCABULARY.items()}
        card["phrases"] = world.PHRASES
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
