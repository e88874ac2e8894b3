"""Guesses from the text itself: what followed its last tokens before, by the longest match.

Oliaro, Jia, Campos, Qiao, "SuffixDecoding: Extreme Speculative Decoding for Emerging AI Applications",
arXiv:2411.04975; its suffix tree is a table of contexts of bounded length here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from nodes.text.decoding.alternatives import Alternatives, Rates, likeliest
from nodes.text.decoding.loop import Step
from nodes.text.decoding.tree import Tree

LONGEST = 6
"""Tokens of the longest context that is looked up."""
MOST = 4
"""Tokens that are tried after one context."""
LEAST = 0.001
"""Paths of guesses that are less likely aren't followed."""
_TOKEN_BITS = 24
"""More than any vocabulary needs."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A token that may come next, as the table of contexts has it."""

    token: int
    matched: int
    """Tokens of the context in which it was found, 1 to `LONGEST`."""
    share: float
    """Of the times that the context was seen, the share in which this token followed."""
    seen: int
    """How often the context was seen."""


class Contexts:
    """What followed each sequence of 1 to `LONGEST` tokens of a text, and how often.

    Of a long text only the end is looked up: what is known of a token takes up to 700 bytes.
    """

    LEAST = 32_768
    """Tokens of the end of a text that are looked up; once there are half as many more, those are forgotten."""

    def __init__(self) -> None:
        self.text: list[int] = []
        self._looked_up = 0
        self._next: dict[int, int | dict[int, int]] = {}
        """What followed each context: a token, if it was seen once, or else tokens with how often they did."""

    def __len__(self) -> int:
        """How many contexts there are."""
        return len(self._next)

    def add(self, tokens: Sequence[int]) -> None:
        """Append to the text."""
        self.skip(tokens[: -self.LEAST])
        for token in tokens[-self.LEAST :]:
            self.follow(self.text[-LONGEST:], token)
            self.text.append(token)
            self._looked_up += 1
            if self._looked_up > self.LEAST + self.LEAST // 2:
                self.clear()
                self._looked_up = self.LEAST
                self.add_apart(self.text[-self.LEAST :])

    def skip(self, tokens: Sequence[int]) -> None:
        """Append to the text without looking it up."""
        self.text += tokens

    def add_apart(self, tokens: Sequence[int]) -> None:
        """Take in tokens that follow each other, but not the text."""
        for at in range(1, len(tokens)):
            self.follow(tokens[max(at - LONGEST, 0) : at], tokens[at])

    def follow(self, end: Sequence[int], token: int) -> None:
        """Take in that a token follows others, `LONGEST` at most."""
        for context in _contexts(end):
            known = self._next.get(context)
            if known is None:
                self._next[context] = token
            elif isinstance(known, int):
                self._next[context] = {known: 1, token: 1} if known != token else {token: 2}
            else:
                known[token] = known.pop(token, 0) + 1  # the most recent is last

    def clear(self) -> None:
        """Forget what followed what; the text stays."""
        self._next.clear()

    @property
    def end(self) -> list[int]:
        """The last `LONGEST` tokens of the text."""
        return self.text[-LONGEST:]

    def after(self, end: Sequence[int]) -> list[Guess]:
        """What may follow a text that ends with these tokens, by the longest context that is known; likeliest first.

        Of tokens that followed equally often, the one that did last comes first.
        """
        contexts = [*_contexts(end[-LONGEST:])]
        for length in range(len(contexts), 0, -1):
            followers = self._next.get(contexts[length - 1])
            if isinstance(followers, int):
                return [Guess(followers, length, 1.0, 1)]
            if followers:
                total = sum(followers.values())
                recent_first = reversed(followers.items())
                ranked = heapq.nlargest(MOST, recent_first, key=lambda item: item[1])
                return [Guess(token, length, count / total, total) for token, count in ranked]
        return []


def _contexts(end: Sequence[int]) -> Iterator[int]:
    """The last token, the last two and so on, each as one number, which takes less memory than a tuple."""
    context = shift = 0
    for token in reversed(end):
        context |= (token + 1) << shift
        shift += _TOKEN_BITS
        yield context


@dataclass(frozen=True, slots=True)
class Branch:
    """A guess with the guesses before it."""

    path: tuple[int, ...]
    probability: float
    """That the whole path is what comes."""
    source: int = 0
    """Which source the last guess is from."""


Source = tuple["Contexts", "Chance"]
"""Where guesses come from, and the probability that one is right if all before it are."""


Others = Callable[[tuple[int, ...], dict[int, float]], Iterator[tuple[int, float]]]
"""What else may come after a path of guesses, with the probabilities, given those of tokens that are tried anyhow."""


def branches(end: Sequence[int], sources: Sequence[Source], others: Others | None = None) -> Iterator[Branch]:
    """Paths of guesses that may follow a text, the likeliest first; each comes after its own beginning.

    Args:
        end: the last `LONGEST` tokens of the text.
        sources: what a later one guesses counts where the earlier ones are wrong.
        others: what may come where all sources are wrong; it counts as the last one's.
    """
    waiting: list[tuple[float, int, tuple[int, ...], int]] = []
    number = 0

    def push(path: tuple[int, ...], probability: float, source: int) -> None:
        nonlocal number
        if probability >= LEAST:
            heapq.heappush(waiting, (-probability, number, path, source))
            number += 1

    def go_on(path: tuple[int, ...], probability: float) -> None:
        known: dict[int, float] = {}
        for source, (contexts, chance) in enumerate(sources):
            left = max(1 - sum(known.values()), 0.0)
            for guess in contexts.after((*end, *path)):
                if guess.token not in known:
                    known[guess.token] = left * chance(guess)
                    push((*path, guess.token), probability * known[guess.token], source)
        for token, chance_of in others(path, known) if others else ():
            push((*path, token), probability * chance_of, len(sources) - 1)

    go_on((), 1.0)
    while waiting:
        negative, _, path, source = heapq.heappop(waiting)
        yield Branch(path, -negative, source)
        go_on(path, -negative)


class Chance:
    """How often guesses turn out right, by how they were found; it learns as the text is written.

    A guess counts with its share, so that one of two equally frequent tokens is expected to be right half as often.
    """

    PRIOR = (0.3, 0.45, 0.6, 0.7, 0.8, 0.85)
    """The rate by tokens matched, before anything is known."""

    def __init__(self) -> None:
        self._rates = Rates(weight=6.0, fading=0.97)

    def __call__(self, guess: Guess) -> float:
        """The probability that a guess is right."""
        return min(guess.share * self._rates(self._sort(guess), self.PRIOR[guess.matched - 1]), 0.995)

    def learn(self, guess: Guess, right: bool) -> None:
        """Take in whether the first guess of a context was right."""
        self._rates.learn(self._sort(guess), guess.share, right)

    @staticmethod
    def _sort(guess: Guess) -> tuple[int, int]:
        return guess.matched, min(guess.seen, 3)


class Memory:
    """What the text has had, and what the model has predicted besides: in its window, after wrong guesses, and as its
    next best.

    Args:
        reads_text: whether guesses come from the text too.
    """

    MOST = 50_000
    """Contexts of predictions that are kept; beyond these all are dropped, and collected anew."""

    def __init__(self, *, reads_text: bool = True) -> None:
        self.text, self.predicted = Contexts(), Contexts()
        self._add = self.text.add if reads_text else self.text.skip
        read = (self.text, self.predicted) if reads_text else (self.predicted,)
        self._sources = [(contexts, Chance()) for contexts in read]
        self._alternatives = Alternatives() if reads_text else None

    def begin(self, text: Sequence[int]) -> None:
        """Take in the prompt."""
        self._add(text)
        if self._alternatives:
            self._alternatives.begin(text)

    def branches(self, ahead: Sequence[int] = ()) -> Iterator[Branch]:
        """Guesses at what follows the text and `ahead`, the likeliest first; those of the last source are predictions.

        Args:
            ahead: tokens that are known to come first.
        """
        end = [*self.text.end, *ahead][-LONGEST:]
        alternatives = self._alternatives
        if alternatives is None or not end:
            return branches(end, self._sources)

        def others(path: tuple[int, ...], known: dict[int, float]) -> Iterator[tuple[int, float]]:
            return alternatives.after((*end, *path)[-1], known, is_next=not ahead and not path)

        return branches(end, self._sources, others)

    def learn(self, step: Step) -> None:
        """Take in what a pass wrote and, of all drafts, what the model would have written after them."""
        for token, likely in zip(step.written, likeliest(step.walked), strict=True):
            looked_up: set[int] = set()
            for contexts, chance in self._sources:
                guesses = contexts.after(self.text.end)
                looked_up.update(guess.token for guess in guesses)
                if guesses:
                    chance.learn(guesses[0], guesses[0].token == token)
            if self._alternatives and self.text.end:
                self._alternatives.learn(self.text.end[-1], looked_up, token, likely)
            self._add([token])
        for node in step.tree.drafts.values():
            self._bounded().follow(step.tree.branch(node)[-LONGEST:], step.picks[node])

    def predict(self, tokens: Sequence[int]) -> None:
        """Take in a row of tokens that the model has predicted."""
        self._bounded().add_apart(tokens)

    def _bounded(self) -> Contexts:
        if len(self.predicted) > self.MOST:
            self.predicted.clear()
        return self.predicted


class Suffix:
    """The drafter of suffix decoding: a tree of the likeliest paths, of a fixed size.

    Args:
        size: how many tokens are drafted for a pass, at most; at least 1.
    """

    wants_hidden = False
    LEAST = 0.05
    """Guesses that are less likely aren't drafted."""

    def __init__(self, size: int = 8) -> None:
        if size < 1:
            raise ValueError(f"need drafts of at least 1 token, not {size}")
        self.size = size
        self.memory = Memory()

    def begin(self, text: Sequence[int]) -> None:
        self.memory.begin(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        for branch in islice(self.memory.branches(tree.ahead), self.size):
            if branch.probability < self.LEAST:
                break
            tree.draft_chain(branch.path)
        return [*tree.drafts.values()]

    def method_of(self, node: int) -> str:
        return "suffix"

    def learn(self, step: Step) -> None:
        self.memory.learn(step)
