"""Guesses that can't be wrong: what a grammar leaves no choice about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nodes.text.decoding.loop import Drafter, Step
from nodes.text.decoding.tree import Tree


class WithForced:
    """A drafter that first drafts what must come, and then what another one guesses after that.

    Args:
        others: the other drafter.
        forced: the tokens that must come after a text, as far as they are known.
    """

    MOST = 64
    """Tokens of them that one pass reads."""

    def __init__(self, others: Drafter, forced: Callable[[Sequence[int]], list[int]]) -> None:
        self.others = others
        self.forced = forced
        self.wants_hidden = others.wants_hidden
        self._text: list[int] = []
        self._certain: set[int] = set()

    def begin(self, text: Sequence[int]) -> None:
        self._text = list(text)
        self.others.begin(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        tree.must(self.forced(self._text)[: self.MOST])
        self._certain = {*tree.certain}
        return self.others.plant(tree)

    def method_of(self, node: int) -> str:
        return "grammar" if node in self._certain else self.others.method_of(node)

    def learn(self, step: Step) -> None:
        self._text += step.written
        self.others.learn(step)
