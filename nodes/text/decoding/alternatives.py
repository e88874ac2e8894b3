"""Guesses where what was looked up may be wrong, or nothing was found: what the model has thought likely, besides.

After a token come the tokens that the model found likely after it the last time, as in Luo et al., "Turning Trash into
Treasure: Accelerating Inference of Large Language Models with Token Recycling", arXiv:2408.08696. In the place of the
next token come those that nearly took the place before it, as words that are passed over often follow soon, and the
commonest tokens of the text.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

LIKELY = 4
"""Tokens that are known of each place, the one that was written among them."""
COMMON = 8
"""Tokens that are tried as they are common."""

Likely = Sequence[tuple[int, float]]
"""Tokens with their probabilities, the likeliest first."""


def likeliest(rows: Sequence[Tensor]) -> list[Likely]:
    """The `LIKELY` likeliest tokens of each row of logits, (vocabulary,)."""
    if not rows:
        return []
    found = torch.stack([*rows]).float().softmax(-1).topk(min(LIKELY, len(rows[0])))
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return [[*zip(tokens, shares, strict=True)] for tokens, shares in pairs]


class Rates:
    """How often things of some sort turn out as expected; what was is forgotten by and by.

    Args:
        weight: how much has to be expected of a sort, until what was seen counts as much as the prior.
        fading: what is left of the earlier with each further thing of the same sort.
    """

    def __init__(self, weight: float, fading: float) -> None:
        self.weight, self.fading = weight, fading
        self._seen: dict[Hashable, tuple[float, float]] = {}

    def __call__(self, sort: Hashable, prior: float) -> float:
        """How many times as often as expected."""
        right, expected = self._seen.get(sort, (0.0, 0.0))
        return (right + self.weight * prior) / (expected + self.weight)

    def learn(self, sort: Hashable, expected: float, right: bool) -> None:
        """Take in a thing that was expected with a probability."""
        before = self._seen.get(sort, (0.0, 0.0))
        self._seen[sort] = before[0] * self.fading + right, before[1] * self.fading + expected


class Alternative(NamedTuple):
    token: int
    sort: tuple[str, int]
    """Where it comes from, and roughly its rank there."""
    share: float
    """How likely it was there; 1 where that says nothing."""


class Alternatives:
    """What may come where all that was looked up is wrong."""

    PRIOR: Final = {"after": 0.6, "passed over": 0.03, "common": 0.02}
    """Of each sort, how many times as often it is right as its share says, before anything is known."""

    def __init__(self) -> None:
        self._rates = Rates(weight=20.0, fading=0.99)
        self._after: dict[int, Likely] = {}
        self._passed_over: Likely = ()
        self._counts: Counter[int] = Counter()
        self._common: list[int] = []

    def begin(self, text: Sequence[int]) -> None:
        """Take in the prompt."""
        self._count(text)

    def _count(self, tokens: Sequence[int]) -> None:
        self._counts.update(tokens)
        self._common = heapq.nlargest(COMMON, {*self._common, *tokens}, key=lambda token: (self._counts[token], token))

    def _all(self, last: int, *, is_next: bool) -> Iterator[Alternative]:
        for rank, (token, share) in enumerate(self._after.get(last, ())):
            yield Alternative(token, ("after", rank), share)
        for rank, (token, _) in enumerate(self._passed_over if is_next else ()):
            yield Alternative(token, ("passed over", rank), 1.0)
        for rank, token in enumerate(self._common):
            yield Alternative(token, ("common", rank // 2), 1.0)

    def after(self, last: int, known: dict[int, float], *, is_next: bool) -> Iterator[tuple[int, float]]:
        """Tokens that may come after a token, with the probability of each.

        Args:
            last: the token before.
            known: tokens that are tried already, with their probabilities; the others are added to it.
            is_next: whether they would be the next of the text, and not a later one.
        """
        left = max(1.0 - sum(known.values()), 0.0)
        for token, sort, share in self._all(last, is_next=is_next):
            if token not in known:
                known[token] = min(share * self._rates(sort, self.PRIOR[sort[0]]), 1.0) * left
                left -= known[token]
                yield token, known[token]

    def learn(self, last: int, looked_up: set[int], token: int, likely: Likely) -> None:
        """Take in the next token of the text.

        Args:
            last: the token before.
            looked_up: those that were tried without this.
            token: the next one.
            likely: those that the model found likely in its place; empty if that isn't known.
        """
        tried = set(looked_up)
        for other, sort, share in self._all(last, is_next=True):
            if token in tried:
                break
            if other not in tried:
                self._rates.learn(sort, share, other == token)
                tried.add(other)
        if likely:
            self._after[last] = likely
        self._passed_over = [pair for pair in likely if pair[0] != token]
        self._count([token])
