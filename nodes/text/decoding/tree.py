"""The tokens that one pass reads: the end of the text, and guesses at what comes next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Tree:
    """Tokens to be read in one forward pass: a chain, the last of which is the root of the branches.

    A token sees the cache, its ancestors and itself; its position is one after its parent's.
    """

    def __init__(self, chain: Sequence[int]) -> None:
        self.tokens = list(chain)
        self.parents = list(range(-1, len(chain) - 1))
        self.root = len(chain) - 1
        self.certain: list[int] = []
        """Nodes of tokens that must follow the root, as far as they are known: guesses begin after them."""
        self.drafts: dict[tuple[int, int], int] = {}
        """Nodes that a walk may take, by parent and token."""

    @property
    def start(self) -> int:
        """The node that guesses begin below: the last one that must come."""
        return self.certain[-1] if self.certain else self.root

    @property
    def ahead(self) -> list[int]:
        """The tokens that must follow the root, as far as they are known."""
        return [self.tokens[node] for node in self.certain]

    def must(self, tokens: Sequence[int]) -> None:
        """Tokens that must follow the root; called once, before anything is guessed."""
        self.certain = self.draft_chain(tokens)

    def draft(self, parent: int, token: int) -> int:
        """The child of `parent` with `token`, shared by all branches with the same beginning."""
        if (parent, token) not in self.drafts:
            self.drafts[parent, token] = self.guess(parent, token)
        return self.drafts[parent, token]

    def draft_chain(self, tokens: Sequence[int]) -> list[int]:
        """Nodes below `start` with these tokens, each the child of the one before."""
        node, nodes = self.start, []
        for token in tokens:
            node = self.draft(node, token)
            nodes.append(node)
        return nodes

    def guess(self, parent: int, token: int) -> int:
        """A child of `parent` that no walk takes."""
        self.tokens.append(token)
        self.parents.append(parent)
        return len(self.tokens) - 1

    def branch(self, node: int) -> list[int]:
        """The tokens from the root to a node below it."""
        tokens = [self.tokens[node]]
        while node != self.root:
            node = self.parents[node]
            tokens.append(self.tokens[node])
        return tokens[::-1]

    def depths(self) -> list[int]:
        """The depth of each token; 0 is the first of the chain."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    def visible(self) -> Tensor:
        """Bool (T, T): whether row's token sees column's, that is, itself and its ancestors."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return torch.from_numpy(sees)
