"""Random choices, always from a seeded generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    """One of `names`, all equally likely."""
    return names[int(rng.integers(len(names)))]
