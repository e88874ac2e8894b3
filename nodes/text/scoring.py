"""How likely a language model finds texts: all that continue one text are read as branches of a tree, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import InputError
from nodes.text.decoding.reader import Reader
from nodes.text.decoding.support import unsupported
from nodes.text.decoding.tree import Tree

if TYPE_CHECKING:
    from nodes.text.models import LoadedModel

TREE_TOKENS = 512
"""Most tokens that a pass reads, unless a single text has more: it bounds the mask and the logits."""


def _nothing() -> None: ...


class Scorer:
    """Scores the endings of a text. The text is read once; its keys and values stay in the model's cache.

    Args:
        llm: the model.
        opening: the text; special tokens that it spells out are read as plain text.
        before_pass: called before each pass of the model; what it raises ends the scoring, which may be begun again.

    Raises:
        InputError: no tree describes what the model does.
    """

    def __init__(self, llm: LoadedModel, opening: str, before_pass: Callable[[], None] = _nothing) -> None:
        if reason := unsupported(llm.model):
            raise InputError(reason, input="llm")
        self.passes = 0
        """Forward passes so far."""
        self._llm = llm
        self._opening = opening
        self._before_pass = before_pass
        self._read: list[int] = []
        """The opening's tokens but the last, which the cache holds."""
        self._cache = self._empty_cache()

    def log_likelihoods(self, endings: Sequence[str]) -> list[float]:
        """The log-likelihood of each of some endings after the opening, in nats; 0 for an empty one.

        Raises:
            InputError: the opening with an ending doesn't fit into the model's context.
        """
        texts = [self.tokens(self._opening + ending) for ending in endings]
        longest = max(map(len, texts))
        self._check_room(longest)
        opening = _common([self.tokens(self._opening), *texts])
        reader = self._reader(opening, longest)
        scores: list[float] = []
        for tree, paths in _trees(opening[-1], [text[len(opening) :] for text in texts]):
            scores += self._scores(reader, tree, paths)
        return scores

    def tokens(self, text: str) -> list[int]:
        """The model's tokens of a text, with those that its tokenizer begins and ends a text with."""
        return list(self._llm.tokenizer(text, split_special_tokens=True).input_ids)

    def knows(self, before: str, word: str) -> bool:
        """Whether the model has tokens for a word that follows a text."""
        texts = self.tokens(before), self.tokens(before + word)
        return not set(texts[1][len(_common(texts)) :]) <= {self._llm.tokenizer.unk_token_id}

    def _check_room(self, longest: int) -> None:
        room = self._llm.room
        if room is not None and longest > room:
            raise InputError(
                f"{longest} tokens don't fit into the model's context of {room}",
                input="prompt",
                hint="shorten the text",
            )

    def _reader(self, opening: list[int], longest: int) -> Reader:
        """A reader whose cache holds the opening's tokens but the last."""
        if self._read != opening[:-1]:
            self._read, self._cache = opening[:-1], self._empty_cache()
        reader = Reader(self._llm.model, self._cache, longest + 2)
        if reader.cached < len(self._read):
            self._before_pass()
            with torch.inference_mode():
                reader.read_prompt(opening, None)
            self.passes += 1
        return reader

    def _empty_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._llm.model.config)

    def _scores(self, reader: Reader, tree: Tree, paths: Sequence[list[int]]) -> list[float]:
        """The log-likelihood of each path of nodes, which begins at the root."""
        nodes = range(1, len(tree.tokens))
        asked = sorted({tree.parents[node] for node in nodes})
        if not asked:
            return [0.0 for _ in paths]
        self._before_pass()
        with torch.inference_mode():
            logits = reader.read(tree, asked).float()
            self._cache.crop(-len(tree.tokens))  # the next tree has the same root
            self.passes += 1
            rows = [asked.index(tree.parents[node]) for node in nodes]
            found = logits[rows, tree.tokens[1:]] - logits.logsumexp(-1)[rows]
        likelihood = [0.0, *found.tolist()]
        return [sum(likelihood[node] for node in path) for path in paths]


def _common(texts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all begin with."""
    shared = min(texts, key=len)
    length = next((i for i, column in enumerate(zip(*texts, strict=False)) if len(set(column)) > 1), len(shared))
    return list(shared[:length])


def _trees(root: int, branches: Sequence[Sequence[int]]) -> Iterator[tuple[Tree, list[list[int]]]]:
    """Trees below a root with all branches, and each one's path of nodes from the root."""
    tree, paths = Tree([root]), list[list[int]]()
    for branch in branches:
        if len(tree.tokens) + len(branch) > TREE_TOKENS and paths:
            yield tree, paths
            tree, paths = Tree([root]), []
        paths.append([tree.root, *tree.draft_chain(branch)])
    yield tree, paths
