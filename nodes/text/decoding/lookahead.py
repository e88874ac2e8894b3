"""Lookahead decoding: n-grams for the text come from a Jacobi iteration that rides on each pass.

Fu, Bailis, Stoica, Zhang, "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
arXiv:2402.02057, sections 3 and 4. Each pass reads two kinds of branch:

- the lookahead branch, N−1 rows of guesses that the iteration improves: row 0 is a chain, and below each of its W
  columns hang the rows of later iterations. The last row's predictions complete W n-grams for the pool;
- the verification branch, the pool's n-grams that start with the last written token.

Row 0 and the first column start at the root too, so the walk may take them as well as the pool's candidates. n-grams of
the text itself aren't kept in the pool: they are looked up by the longest match (`suffix`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from nodes.text.decoding.loop import Step, Tally, tree_decode
from nodes.text.decoding.suffix import Chance, Contexts, branches, compare, watch
from nodes.text.decoding.tree import Tree


class Pool:
    """n-grams by their first token, at most `per_token` for each: the least recently added is dropped.

    Args:
        ngram: N, tokens in an n-gram, at least 2.
        per_token: G, how many n-grams are kept, and so verified, for one first token.
    """

    def __init__(self, ngram: int, per_token: int) -> None:
        self.ngram = ngram
        self.per_token = per_token
        self._tails: dict[int, dict[tuple[int, ...], None]] = {}

    def add(self, tokens: Sequence[int]) -> None:
        """Add every n-gram within `tokens`; one that is known becomes the most recent."""
        for start in range(len(tokens) - self.ngram + 1):
            first, *tail = tokens[start : start + self.ngram]
            tails = self._tails.setdefault(first, {})
            tails.pop(tuple(tail), None)
            tails[tuple(tail)] = None
            if len(tails) > self.per_token:
                del tails[next(iter(tails))]

    def after(self, token: int) -> list[tuple[int, ...]]:
        """The N−1 tokens that followed `token`, most recent first."""
        return list(reversed(self._tails.get(token, {})))


class Window:
    """The lookahead branch: W columns of guesses in N−1 rows.

    It starts with row 0 alone, tokens drawn from the prompt and N−2 wider than W; each of the N−2 passes that fill the
    other rows takes one column.
    """

    def __init__(self, columns: int, ngram: int, prompt: Sequence[int], seed: int) -> None:
        draw = random.Random(seed)
        self.height = ngram - 1
        self.rows = [[draw.choice(prompt) for _ in range(columns + ngram - 3)]] if columns else []
        """Row 0 without the last written token, which stands before it."""
        self._nodes: list[list[int]] = []

    def plant(self, tree: Tree) -> list[int]:
        """Add the branch to the tree; returns the nodes of its last row, whose predictions `advance` needs."""
        if not self.rows:
            return []
        chain = [tree.root]
        for token in self.rows[0]:
            chain.append(tree.draft(chain[-1], token))
        self._nodes = [chain]
        for row in self.rows[1:]:
            above, *others = self._nodes[-1]
            below = [tree.guess(parent, token) for parent, token in zip(others, row[1:], strict=True)]
            self._nodes.append([tree.draft(above, row[0]), *below])
        return self._nodes[-1]

    def advance(self, tree: Tree, predictions: Sequence[int]) -> Iterator[list[int]]:
        """Take in the last row's predictions and move on by one column; yields the n-grams completed, once filled."""
        if not self.rows:
            return
        if len(self.rows) < self.height:
            self.rows = [row[1:] for row in (*self.rows, [*predictions])]
            return
        for *column, prediction in zip(*self._nodes, predictions, strict=True):
            yield [*(tree.tokens[node] for node in column), prediction]
        first, *others = [*self.rows[1:], [*predictions]]
        self.rows = [first[1:], *others]


class Lookahead:
    """The drafter of lookahead decoding.

    A pass verifies up to G·(N−1) tokens: first likely continuations from the text itself, by its longest match, then
    the n-grams of the window, then what else the text has.

    Args:
        window: W, columns of the lookahead branch; 0 leaves only what the text has.
        ngram: N, at least 2: rows of the lookahead branch plus one, and the length of the pool's n-grams.
        candidates: G, most n-grams verified in a pass, and kept for one first token.
        pool_from_prompt: whether continuations are looked up in the prompt and the text written so far too.
        seed: of the window's first guesses; it changes how many passes are needed, never the text.

    Raises:
        ValueError: a number is too small.
    """

    wants_hidden = False
    LIKELY = 0.3
    """Continuations from the text that are likelier are verified before the window's n-grams."""

    def __init__(
        self,
        window: int = 5,
        ngram: int = 4,
        candidates: int = 5,
        *,
        pool_from_prompt: bool = True,
        seed: int = 0,
    ) -> None:
        if ngram < 2 or window < 0 or candidates < 0:
            raise ValueError(f"need ngram >= 2, window >= 0, candidates >= 0, not {ngram}, {window}, {candidates}")
        self.columns, self.ngram, self.seed, self.from_text = window, ngram, seed, pool_from_prompt
        self.most = candidates * (ngram - 1)
        self.text, self.pool = (Contexts(), Chance()), (Contexts(), Chance())
        self._last_row: list[int] = []

    def begin(self, text: Sequence[int]) -> None:
        self.window = Window(self.columns, self.ngram, text, self.seed)
        self.text[0].add(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        self._last_row = self.window.plant(tree)
        sources = [self.text, self.pool] if self.from_text else [self.pool]
        for branch in islice(branches(self.text[0].end, sources), self.most):
            tree.draft_chain(branch.path)
        return self._last_row

    def method_of(self, node: int) -> str:
        return "lookahead"

    def learn(self, step: Step) -> None:
        for token in step.written:
            compare(*self.pool, self.text[0].end, token)
            watch(*self.text, [token])
        for grams in self.window.advance(step.tree, [step.picks[node] for node in self._last_row]):
            self.pool[0].add_apart(grams)


def lookahead_decode(
    model: Any,
    input_ids: Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    window: int = 5,
    ngram: int = 4,
    candidates: int = 5,
    pool_from_prompt: bool = True,
    window_seed: int = 0,
    generator: torch.Generator | None = None,
    on_tokens: Callable[[list[int]], None] | None = None,
    tally: Tally | None = None,
    tokenizer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """`tree_decode` with `Lookahead`, for `generate(custom_generate=lookahead_decode, window=5, ngram=4, …)`.

    The options are named, since `generate` refuses those that it doesn't find in the signature.
    """
    drafter = Lookahead(window, ngram, candidates, pool_from_prompt=pool_from_prompt, seed=window_seed)
    return tree_decode(
        model,
        input_ids,
        logits_processor,
        stopping_criteria,
        generation_config,
        drafter=drafter,
        generator=generator,
        on_tokens=on_tokens,
        tally=tally,
        **model_kwargs,
    )
