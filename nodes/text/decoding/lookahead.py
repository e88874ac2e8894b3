"""Lookahead decoding: n-grams for the text come from a Jacobi iteration that rides on each pass.

Fu, Bailis, Stoica, Zhang, "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
arXiv:2402.02057, sections 3 and 4. Each pass reads two kinds of branch:

- the lookahead branch, N−1 rows of guesses that the iteration improves: row 0 is a chain, and below each of its W
  columns hang the rows of later iterations. The last row's predictions complete W n-grams for the pool;
- the verification branch, likely continuations of the text. The paper takes n-grams of the pool that start with the
  last written token, the most recent first; here they are looked up by the longest match, as what the text has
  (`suffix`), and go on where one ends.

Row 0 and the first column start at the root too, so the walk may take them as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from nodes.text.decoding.calls import WithTokenizer
from nodes.text.decoding.loop import Step, Tally, tree_decode
from nodes.text.decoding.suffix import Memory
from nodes.text.decoding.tree import Tree


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
        chain = [tree.start]
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

    What the text has comes first, by the longest match, and then what the model has predicted: the window's n-grams,
    and what it would have written after guesses that were wrong.

    Args:
        window: W, columns of the lookahead branch; 0 leaves the other guesses.
        ngram: N, at least 2: rows of the lookahead branch plus one.
        candidates: G; a pass verifies G·(N−1) tokens at most, the likeliest.
        pool_from_prompt: whether continuations are looked up in the prompt and the text written so far too.
        seed: of the window's first guesses; it changes how many passes are needed, never the text.

    Raises:
        ValueError: a number is too small.
    """

    wants_hidden = False

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
        self.columns, self.ngram, self.seed = window, ngram, seed
        self.most = candidates * (ngram - 1)
        self.memory = Memory(reads_text=pool_from_prompt)
        self._last_row: list[int] = []

    def begin(self, text: Sequence[int]) -> None:
        self.window = Window(self.columns, self.ngram, text, self.seed)
        self.memory.begin(text)

    def plant(self, tree: Tree) -> Sequence[int]:
        self._last_row = self.window.plant(tree)
        for branch in islice(self.memory.branches(tree.ahead), self.most):
            tree.draft_chain(branch.path)
        return [*self._last_row, *tree.drafts.values()]

    def method_of(self, node: int) -> str:
        return "lookahead"

    def learn(self, step: Step) -> None:
        self.memory.learn(step)
        for grams in self.window.advance(step.tree, [step.picks[node] for node in self._last_row]):
            self.memory.predict(grams)


@WithTokenizer
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
