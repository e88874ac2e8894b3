"""Decoding that decides before each pass how much to guess, by what passes cost and which guesses have been right.

A pass over a tree of T tokens costs L(T), and writes a token more than it had right guesses in a row. Guesses are
added, the likeliest first, as long as the tokens expected for the time grow; where they don't, none are made, and
decoding is greedy. As on some devices a larger pass is the quicker one, a tree is filled up to the cheapest size.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodes.text.decoding.costs import Costs
from nodes.text.decoding.lookahead import Pool, Window
from nodes.text.decoding.loop import Step
from nodes.text.decoding.suffix import Chance, Contexts, branches, watch
from nodes.text.decoding.tree import Tree

UNLIKELY = 0.01
"""Guesses of a lower probability aren't considered."""
WINDOWS = ((5, 3, 5, 1.12), (7, 4, 7, 1.18), (15, 5, 15, 1.28))
"""W, N and G of the windows that may be used, with the gain in tokens that is expected before any is seen."""
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
        self.contexts = Contexts()
        self.chance = Chance()
        self.window = WindowWhilePaying(costs, seed)
        self._from_text: set[int] = set()

    def begin(self, text: Sequence[int]) -> None:
        self.contexts.add(text)
        self.window.begin(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        wanted = self.window.plant(tree)
        self._from_text = {node for path in self._paths(len(tree.tokens)) for node in tree.draft_chain(path)}
        size, _ = self.costs.cheapest(len(tree.tokens))
        for _ in range(size - len(tree.tokens)):
            tree.guess(tree.root, tree.tokens[tree.root])
        return wanted

    def _paths(self, size: int) -> list[tuple[int, ...]]:
        """The guesses that give the most tokens for the time, on top of `size` tokens that are read anyhow."""
        paths: list[tuple[int, ...]] = []
        expected, best, count = 1.0, 1.0 / self.costs.cheapest(size)[1], 0
        for branch in branches(self.contexts.end, [(self.contexts, self.chance)]):
            if branch.probability < UNLIKELY or size + len(paths) >= max(self.costs.most, size + 1):
                break
            paths.append(branch.path)
            expected += branch.probability
            rate = expected / self.costs.cheapest(size + len(paths))[1]
            if rate >= best:
                best, count = rate, len(paths)
        return paths[:count]

    def learn(self, step: Step) -> None:
        self.window.learn(step, self._from_text)
        watch(self.contexts, self.chance, step.written)

    def method_of(self, node: int) -> str:
        return "suffix" if node in self._from_text else "lookahead"


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
        worth = [(gain / self._price(costs, size), size) for *size, gain in WINDOWS]
        promise, (self.columns, self.ngram, self.candidates) = max(worth)
        self.price = self._price(costs, [self.columns, self.ngram, self.candidates])
        self.seed = seed
        self.pause = self.PAUSE if promise > 1 else None
        """None: it can't pay here, and is never read."""
        self._text: list[int] = []
        self._last_row: list[int] = []
        self._start()

    @staticmethod
    def _price(costs: Costs, size: Sequence[int]) -> float:
        """How many times as long a pass takes with a window; of its candidates a third is there on the mean."""
        columns, ngram, candidates = size
        return costs(USUAL + (ngram - 1) * (columns + candidates // 3)) / costs(USUAL)

    def _start(self) -> None:
        self.resting = 0
        self._passes = self._written = self._without = 0
        self._window: Window | None = None
        self._pool = Pool(self.ngram, self.candidates)

    def begin(self, text: Sequence[int]) -> None:
        self._text = list(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        self._last_row = []
        if self.pause is None or self.resting:
            return ()
        self._window = self._window or Window(self.columns, self.ngram, self._text, self.seed)
        self._last_row = self._window.plant(tree)
        for candidate in self._pool.after(tree.tokens[tree.root]):
            tree.draft_chain(candidate)
        return self._last_row

    def learn(self, step: Step, others: set[int]) -> None:
        """Take in a pass; `others` are the nodes that were drafted without the window."""
        self._text += step.written
        if self.pause is None:
            return
        if self.resting:
            self.resting -= 1
            return
        if self._window is not None:
            for grams in self._window.advance(step.tree, [step.picks[node] for node in self._last_row]):
                self._pool.add(grams)
        self._passes += 1
        self._written += len(step.written)
        self._without += 1 + next((at for at, node in enumerate(step.path) if node not in others), len(step.path))
        if self._passes == self.TRIAL:
            pays = self._written / self._without > self.price
            self._passes = self._written = self._without = 0
            if not pays:
                self._start()
                self.resting, self.pause = self.pause, 2 * self.pause
