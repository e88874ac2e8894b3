"""What Medusa heads guess, which guesses are worth a place in the tree, and which models heads belong to."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import InputError
from engine.values import MedusaHeads

if TYPE_CHECKING:
    from collections.abc import Sequence

RANKS = 10
"""How many guesses of a head may be in the tree for one place."""

Path = tuple[int, ...]
"""A branch of the tree: for each head from the first on, the rank of its guess; 0 is the likeliest."""


class Guesser:
    """Heads on the device and in the precision of their model, with the outputs that they choose by.

    Args:
        model: transformers' model.

    Raises:
        InputError: the heads belong to another model.
    """

    def __init__(self, heads: MedusaHeads, model: Any) -> None:
        if reason := misfit(heads, model):
            raise InputError(reason, input="heads", hint="give heads that were trained for this model")
        like = model.get_output_embeddings().weight
        self.weights = heads.weights.to(like)
        self.biases = heads.biases.to(like)
        self.tokens = None if heads.tokens is None else heads.tokens.to(like.device)
        self.rows, self.offsets = _shared(model, self.tokens)
        if heads.outputs is not None:
            self.rows, self.offsets = heads.outputs.to(like), None
        count, choices = len(heads.weights), self.rows.shape[-2]
        known = heads.accuracies or expected(count)
        self.accuracies = tuple(by_rank[:choices] for by_rank in known[:count])
        """For each head, how often its guess of each rank is taken to be right; see `likeliest`."""

    @torch.inference_mode()
    def ranked(self, hidden: Tensor, ranks: int, heads: int | None = None) -> Tensor:
        """The likeliest tokens, int64 (N, heads, ranks), after states (N, h) of the model.

        Args:
            hidden: the states.
            ranks: how many guesses of each head; there are fewer if it chooses from fewer tokens.
            heads: only the first so many heads; all if None.
        """
        states = transformed(hidden.to(self.weights), self.weights[:heads], self.biases[:heads])
        if self.rows.ndim == 3:
            logits = torch.einsum("nkh,kvh->nkv", states, self.rows[:heads])
        else:
            logits = F.linear(states, self.rows, self.offsets)
        best = logits.topk(min(ranks, logits.shape[-1]), dim=-1).indices
        return best if self.tokens is None else self.tokens[best]


def transformed(hidden: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """What the layers of the heads make of states (N, h): (N, K, h). Differentiable."""
    states = hidden[:, None].expand(-1, len(weights), -1)
    for layer in range(weights.shape[1]):
        linear = torch.einsum("nki,koi->nko", states, weights[:, layer]) + biases[:, layer]
        states = states + F.silu(linear)
    return states


def _shared(model: Any, tokens: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The rows of the model's output embedding for some tokens, (n, h), and their biases if it has any."""
    embedding = model.get_output_embeddings()
    weight, bias = embedding.weight.detach(), getattr(embedding, "bias", None)
    if tokens is None:
        return weight, None if bias is None else bias.detach()
    return weight[tokens], None if bias is None else bias.detach()[tokens]


def output_rows(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """The rows of the model's output embedding for some tokens, (n, h), and their biases if it has any: float32."""
    rows, offsets = _shared(model, tokens.to(model.device))
    return rows.float(), None if offsets is None else offsets.float()


def described(model: Any) -> str:
    """The sort of a transformers model, in words: heads for one don't fit another."""
    config = model.config.get_text_config(decoder=True)
    tokens, hidden = model.get_output_embeddings().weight.shape
    return f"a {type(model).__name__} of {config.num_hidden_layers} layers, {hidden} wide, with {tokens} tokens"


def misfit(heads: MedusaHeads, model: Any) -> str | None:
    """Why heads don't belong to a transformers model, or None if they may."""
    embedding = model.get_output_embeddings()
    if embedding is None:
        return f"{type(model).__name__} has no output embedding, whose input Medusa heads read"
    size, width = embedding.weight.shape
    if heads.model and heads.model != described(model):
        return f"the Medusa heads are for {heads.model}, not for {described(model)}"
    if heads.weights.shape[-1] != width:
        return f"the Medusa heads are {heads.weights.shape[-1]} wide, and the states of {type(model).__name__} {width}"
    if heads.tokens is None and heads.outputs is not None and heads.outputs.shape[1] != size:
        return f"the Medusa heads choose from {heads.outputs.shape[1]} tokens, and {type(model).__name__} from {size}"
    if heads.tokens is not None and int(heads.tokens.max()) >= size:
        return f"the Medusa heads know the token {int(heads.tokens.max())}, and {type(model).__name__} {size} tokens"
    return None


def likeliest(accuracies: Sequence[Sequence[float]], size: int) -> list[Path]:
    """The `size` branches that are most often right, each after the one that it continues.

    A branch is taken to be right with the product of its guesses' accuracies; fewer are returned if no other ever is.

    Args:
        accuracies: for each head, of its guess of each rank.
    """
    found: list[Path] = []
    waiting: list[tuple[float, Path]] = []

    def continuing(path: Path, chance: float) -> None:
        for rank, accuracy in enumerate(accuracies[len(path)] if len(path) < len(accuracies) else ()):
            if accuracy > 0:
                heappush(waiting, (-chance * accuracy, (*path, rank)))

    continuing((), 1.0)
    while waiting and len(found) < size:
        chance, path = heappop(waiting)
        found.append(path)
        continuing(path, -chance)
    return found


def expected(heads: int) -> tuple[tuple[float, ...], ...]:
    """Accuracies of heads that nobody has measured: they fall from each head to the next, and with the rank."""
    return tuple(tuple(0.6 * 0.85**head * 0.3**rank for rank in range(RANKS)) for head in range(heads))
