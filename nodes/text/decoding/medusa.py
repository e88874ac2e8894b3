"""Guesses by Medusa heads: several tokens from the one state that the last written token was predicted from.

Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads", arXiv:2401.10774.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nodes.text.decoding.loop import Step
from nodes.text.decoding.tree import Tree
from nodes.text.medusa.heads import Guesser, Path, likeliest


class Medusa:
    """The drafter of Medusa decoding: a tree of the branches that are most often right, of a fixed size.

    The first pass has no guesses, since no state has been read before it.

    Args:
        guesser: the heads.
        size: how many tokens are drafted for a pass, at most; at least 1.
    """

    wants_hidden = True

    def __init__(self, guesser: Guesser, size: int = 8) -> None:
        if size < 1:
            raise ValueError(f"need drafts of at least 1 token, not {size}")
        self.guesser, self.size = guesser, size
        self._hidden: Tensor | None = None
        self._branches: dict[int, list[Path]] = {}

    def begin(self, text: Sequence[int]) -> None:
        self._hidden = None

    def branches(self, first: int = 0) -> list[Path]:
        """The branches that are most often right, of the heads from one on, counted from 0."""
        if first not in self._branches:
            self._branches[first] = likeliest(self.guesser.accuracies[first:], self.size)
        return self._branches[first]

    def plant(self, tree: Tree) -> Sequence[int]:
        first = len(tree.certain)  # heads before it guess what is known
        branches = self.branches(first)
        if self._hidden is not None and branches:
            heads = first + max(map(len, branches))
            ranks = 1 + max(rank for branch in branches for rank in branch)
            (guesses,) = self.guesser.ranked(self._hidden[None], ranks, heads).tolist()
            nodes: dict[Path, int] = {(): tree.start}
            for branch in branches:
                token = guesses[first + len(branch) - 1][branch[-1]]
                nodes[branch] = tree.draft(nodes[branch[:-1]], token)
        return ()

    def method_of(self, node: int) -> str:
        return "medusa"

    def learn(self, step: Step) -> None:
        self._hidden = step.hidden
