"""Jacobi decoding: a block of guesses, each replaced by what the model predicts after the one before.

Santilli et al., "Accelerating Transformer Inference for Translation via Parallel Decoding", arXiv:2305.10427.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from nodes.text.decoding.loop import Step
from nodes.text.decoding.tree import Tree


class Jacobi:
    """The drafter of Jacobi decoding: the guesses that a pass didn't confirm are its predictions in their places.

    Args:
        block: how many tokens are guessed at once, at least 1.
        seed: of the first guesses, drawn from the prompt.
    """

    wants_hidden = False

    def __init__(self, block: int = 8, seed: int = 0) -> None:
        if block < 1:
            raise ValueError(f"need a block of at least 1 token, not {block}")
        self.block = block
        self._draw = random.Random(seed)
        self._text: Sequence[int] = ()
        self._guesses: list[int] = []
        self._nodes: list[int] = []

    def begin(self, text: Sequence[int]) -> None:
        self._text = text
        self._guesses = self._drawn(self.block)

    def plant(self, tree: Tree) -> Sequence[int]:
        self._nodes = tree.draft_chain(self._guesses)
        return self._nodes

    def method_of(self, node: int) -> str:
        return "jacobi"

    def learn(self, step: Step) -> None:
        predicted = [step.picks[node] for node in self._nodes]
        kept = predicted[max(len(step.written) - 1 - len(step.tree.certain), 0) :]
        self._guesses = kept + self._drawn(self.block - len(kept))

    def _drawn(self, count: int) -> list[int]:
        return [self._draw.choice(self._text) for _ in range(count)]
