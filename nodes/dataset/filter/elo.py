"""Ratings of settings, from votes between two of them at a time.

Blattmann et al. (2023, arXiv 2311.15127, section 3.3) chose in this way how much to filter: models were trained on
what each percentage leaves, people voted between pairs of their videos, and the highest Elo rating won.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from engine.errors import InputError

START = 1000.0
K = 4.0
"""The most that a vote changes a rating. It is small and there are many rounds, so that the ratings hardly depend on
the order of the votes."""
ROUNDS = 200


class Vote(NamedTuple):
    """One setting was preferred to another."""

    winner: str
    loser: str


def parse(text: str) -> list[Vote]:
    """Votes written as `25 > 12.5`, one per line; raises InputError for any other line."""
    votes = []
    for line in filter(None, map(str.strip, text.splitlines())):
        winner, sign, loser = (part.strip() for part in line.partition(">"))
        if not (winner and sign and loser) or winner == loser:
            raise InputError(f"'{line}' is not a vote", input="votes", hint="write '25 > 12.5': the winner first")
        votes.append(Vote(winner, loser))
    if not votes:
        raise InputError("there are no votes", input="votes", hint="write '25 > 12.5' on a line for each")
    return votes


def ratings(votes: Sequence[Vote], seed: int = 0) -> dict[str, float]:
    """The Elo rating of each setting, the best first; 400 points are odds of ten to one.

    The votes are processed in many random orders, and the ratings of the second half are averaged.
    """
    rng, order = random.Random(seed), list(votes)
    rating = {name: START for vote in votes for name in vote}
    late: dict[str, list[float]] = {name: [] for name in rating}
    for index in range(ROUNDS):
        rng.shuffle(order)
        for winner, loser in order:
            expected = 1 / (1 + 10 ** ((rating[loser] - rating[winner]) / 400))
            rating[winner] += K * (1 - expected)
            rating[loser] -= K * (1 - expected)
        if index >= ROUNDS // 2:
            for name, value in rating.items():
                late[name].append(value)
    return dict(sorted(((name, fmean(values)) for name, values in late.items()), key=lambda item: -item[1]))
