"""An answer as its tokens come: its text, what of it can be shown already, and whether it has come to an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes in place of a character, some bytes of which are still to come."""
_WORD = "a"
"""What an exact answer is decoded behind."""


class Answer:
    """The text after a prompt, and a stopping criterion for transformers, which shows it every token.

    Args:
        tokenizer: of transformers, fast or slow.
        prompt: token ids (1, length).
        stops: texts that end the answer, and aren't part of it; none is empty. Only what is written counts, not what
            the prompt ends with. A special token may be one, though it is in no text.
        continues: whether the answer goes on in the middle of a text, so that a space it begins with belongs to it.
        exact: whether the spaces at both ends belong to it, and none are tidied up between words.
    """

    def __init__(
        self, tokenizer: Any, prompt: Tensor, stops: Sequence[str], *, continues: bool = False, exact: bool = False
    ) -> None:
        self.tokens: list[int] = []
        self._tokenizer, self._stops, self._continues, self._exact = tokenizer, stops, continues, exact
        self._length = prompt.shape[1]
        self._before: list[int] = []
        """Some tokenizers leave out a space at the beginning of what they decode, so this isn't a beginning then."""
        if continues:
            self._before = prompt[0, -1:].tolist()
        elif exact:  # a prompt may end with a special token, which wouldn't be decoded
            self._before = list(tokenizer(_WORD, add_special_tokens=False).input_ids)
        self._ends = {tokenizer.added_tokens_encoder[stop] for stop in stops if stop in tokenizer.added_tokens_encoder}
        self._settled = ""
        self._read = 0
        """How many tokens `_settled` is the text of."""
        self._context = self._before
        """Tokens just before those, with which to decode what comes next."""
        self._shown = 0
        self._is_over = False

    def __call__(self, ids: Tensor, scores: Any = None) -> Tensor:
        """Take in what was added to ids (1, length); returns whether the answer is at its end, bool (1,)."""
        new = ids[0, self._length + len(self.tokens) :].tolist()
        self.tokens += new
        start = len(self._settled)
        self._settle()
        self._is_over |= not self._ends.isdisjoint(new) or any(
            self._settled.find(stop, max(start - len(stop) + 1, 0)) >= 0 for stop in self._stops
        )
        return torch.tensor([self._is_over], device=ids.device)

    def news(self) -> str:
        """What wasn't returned before, and is sure to be in the text."""
        text = self._cut(self._settled)
        if len(text) == len(self._settled):
            text = text[: len(text) - max((_begun(stop, text) for stop in self._stops), default=0)]
        return self._unshown(self._stripped(text))

    def rest(self) -> str:
        """What of the whole text wasn't returned before."""
        return self._unshown(self.text())

    def text(self) -> str:
        """The whole text, without the space at its ends, unless it is exact or, at the beginning, continues another."""
        whole = self._decode([*self._before, *self.tokens])
        return self._stripped(self._cut(whole[len(self._decode(self._before)) :]))

    def _settle(self) -> None:
        """Decode what is new, unless it ends within a character."""
        new = self.tokens[self._read :]
        known = self._decode(self._context)
        text = self._decode([*self._context, *new])
        if not text.endswith(INCOMPLETE) and len(text) > len(known):
            self._settled += text[len(known) :]
            self._context, self._read = new, len(self.tokens)

    def _unshown(self, text: str) -> str:
        shown, self._shown = self._shown, max(self._shown, len(text))
        return text[shown:]

    def _cut(self, text: str) -> str:
        """The text up to the first stop."""
        return text[: min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=len(text))]

    def _stripped(self, text: str) -> str:
        if self._exact:
            return text
        return text.rstrip() if self._continues else text.strip()

    def _decode(self, tokens: list[int]) -> str:
        tidies = False if self._exact else None
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=tidies)
        return text


def _begun(stop: str, text: str) -> int:
    """How many of the last characters of a text may be the beginning of a stop."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
