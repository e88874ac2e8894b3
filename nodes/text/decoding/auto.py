"""Decoding that decides before each pass how much to guess, by what passes cost and which guesses have been right.

A pass over a tree of T tokens costs L(T), and writes a token more than it had right guesses in a row. Guesses are
added, the likeliest first, as long as the tokens expected for the time grow; where they don't, none are made, and
decoding is greedy. As on some devices a larger pass is the quicker one, a tree is filled up to the cheapest size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nodes.text.decoding.costs import Costs
from nodes.text.decoding.lookahead import Window
from nodes.text.decoding.loop import Step
from nodes.text.decoding.suffix import Branch, Memory
from nodes.text.decoding.tree import Tree

UNLIKELY = 0.01
"""Guesses of a lower probability aren't considered."""
WINDOWS = ((5, 3, 1.12), (7, 4, 1.18), (15, 5, 1.28))
"""W and N of the windows that may be used, with the gain in tokens that is expected before any is seen."""
USUAL = 4
"""Tokens of a usual pass without a window, to compare costs with."""


class Auto:
    """The drafter that adapts itself: guesses from the text, and a lookahead window while it pays.

    Args:
        costs: what passes cost.
        seed: of the window's first guesses.
    """

    wants_hidden = False

    def __init__(self, costs: Costs, seed: int = 0) -> None:
        self.costs = costs
        self.memory = Memory()
        self.window = WindowWhilePaying(costs, seed)
        self._from_text: set[int] = set()

    def begin(self, text: Sequence[int]) -> None:
        self.memory.begin(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        last_row = self.window.plant(tree, self.memory.text.text)
        self._from_text = set()
        for branch in self._worthwhile(len(tree.tokens), tree.ahead):
            node = tree.draft_chain(branch.path)[-1]
            if branch.source == 0:
                self._from_text.add(node)
        size, _ = self.costs.cheapest(len(tree.tokens))
        for _ in range(size - len(tree.tokens)):
            tree.guess(tree.root, tree.tokens[tree.root])
        return [*last_row, *tree.drafts.values()]

    def _worthwhile(self, size: int, ahead: Sequence[int]) -> list[Branch]:
        """The guesses after what must come that give the most tokens for the time.

        Args:
            size: how many tokens are read anyhow.
            ahead: those of them that must come.
        """
        found: list[Branch] = []
        expected = 1.0 + len(ahead)
        best, count = expected / self.costs.cheapest(size)[1], 0
        for branch in self.memory.branches(ahead):
            if branch.probability < UNLIKELY or size + len(found) >= max(self.costs.most, size + 1):
                break
            found.append(branch)
            expected += branch.probability
            rate = expected / self.costs.cheapest(size + len(found))[1]
            if rate >= best:
                best, count = rate, len(found)
        return found[:count]

    def learn(self, step: Step) -> None:
        self.memory.learn(step)
        for grams in self.window.learn(step, {*self._from_text, *step.tree.certain}):
            self.memory.predict(grams)

    def method_of(self, node: int) -> str:
        return "suffix" if node in self._from_text else "prediction"


class WindowWhilePaying:
    """A lookahead window that is read while the tokens it gives are worth their time, and tried again later.

    Args:
        costs: what passes cost.
        seed: of the window's first guesses.
    """

    TRIAL = 24
    """Passes after which it is judged, again and again."""
    PAUSE = 96
    """Passes without it after it didn't pay; each time twice as many."""

    def __init__(self, costs: Costs, seed: int) -> None:
        worth = [(gain / self._price(costs, *size), size) for *size, gain in WINDOWS]
        promise, (self.columns, self.ngram) = max(worth)
        self.price = self._price(costs, self.columns, self.ngram)
        self.seed = seed
        self.pause = self.PAUSE if promise > 1 else None
        """None: it can't pay here, and is never read."""
        self._last_row: list[int] = []
        self._start()

    @staticmethod
    def _price(costs: Costs, columns: int, ngram: int) -> float:
        """How many times as long a pass takes with a window."""
        return costs(USUAL + (ngram - 1) * columns) / costs(USUAL)

    def _start(self) -> None:
        self.resting = 0
        self._passes = self._written = self._without = 0
        self._window: Window | None = None

    def plant(self, tree: Tree, text: Sequence[int]) -> Sequence[int]:
        """Add the window to a tree, if it is read now; returns the nodes of its last row."""
        self._last_row = []
        if self.pause is not None and not self.resting:
            self._window = self._window or Window(self.columns, self.ngram, text, self.seed)
            self._last_row = self._window.plant(tree)
        return self._last_row

    def learn(self, step: Step, others: set[int]) -> Iterator[list[int]]:
        """Take in a pass, in which `others` were guessed without the window; yields the n-grams that it completed."""
        if self.pause is None:
            return
        if self.resting:
            self.resting -= 1
            return
        if self._window is not None:
            yield from self._window.advance(step.tree, [step.picks[node] for node in self._last_row])
        self._passes += 1
        self._written += len(step.written)
        self._without += 1 + next((at for at, node in enumerate(step.path) if node not in others), len(step.path))
        if self._passes == self.TRIAL:
            pays = self._written / self._without > self.price
            self._passes = self._written = self._without = 0
            if not pays:
                self._start()
                self.resting, self.pause = self.pause, 2 * self.pause
