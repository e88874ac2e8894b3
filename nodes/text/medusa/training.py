"""Fitting Medusa heads to a frozen model.

The loss is the sum over heads of the cross-entropy of the token that each is to guess, times 0.8 for each head before
it. The heads choose by the rows of the model's own output embedding, which stay as they are; they start as the
identity, and so as guesses at the next token itself. To be small and quick they choose only from the tokens that occur
most often in what they learn from: the rest of the vocabulary is never guessed.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import InputError
from engine.values import MedusaHeads, Value
from nodes.text.medusa.examples import Examples, divided
from nodes.text.medusa.heads import RANKS, Guesser, described, expected, likeliest, output_rows, transformed
from nodes.text.medusa.limits import MOST_LOGITS, check_texts

if TYPE_CHECKING:
    from engine.node import Context

DISCOUNT = 0.8
"""How much less each head's loss weighs than that of the head before."""
STAGES = 20
"""How often a training tells of its loss, and may keep its state."""
KEEP_SECONDS = 60.0
"""A training keeps its state at most this often, since it may be large; each in place of the one before."""
MEASURED = 2048
"""Most held-out states on which the loss is measured as the training goes on."""
CHUNK = 256
"""Most states for which all guesses are made at a time."""
TREE = 16
"""Guesses in the tree with which heads are measured."""
OUTSIDE = -100
"""The target of a head whose token isn't among those that the heads choose from, or comes after the text's end."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How heads are trained."""

    heads: int = 4
    """K."""
    layers: int = 1
    """L."""
    steps: int = 1000
    batch: int = 256
    """States per step."""
    learning_rate: float = 2e-3
    """AdamW's at the start; it falls to 0 with a cosine."""
    tokens: int = 8192
    """Most tokens that the heads choose from."""
    seed: int = 0


class Trained(NamedTuple):
    """Heads, and how good they are on texts that they haven't learnt from."""

    heads: MedusaHeads
    loss: float
    """The mean over heads of their mean cross-entropies, in nats; heads that had nothing to guess are left out."""
    tokens_per_pass: float
    """How many tokens a pass would have written of these texts, with 16 guesses each time."""


@dataclass(frozen=True, eq=False, slots=True)
class State(Value):
    """A training after some steps: the parameters, and AdamW's moments of each."""

    tensors: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def to_tensors(self) -> tuple[Mapping[str, Tensor], dict[str, str]]:
        return self.tensors, {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(dict(tensors))


def train_heads(ctx: Context, model: Any, examples: Examples, settings: TrainSettings, *, origin: str) -> Trained:
    """Fit heads to a transformers model. The same seed gives the same bits on a CPU, also after an interruption.

    Args:
        origin: identifies the model and the examples, among all that there may be.

    Raises:
        InputError: there are too few examples to learn from.
    """
    check_texts(len(examples.ends))
    learnt, held_out = divided(examples)
    tokens = commonest(learnt.tokens, settings.tokens)
    training = _Training(model, learnt, tokens, settings)
    key = hashlib.sha256(repr((origin, settings)).encode()).hexdigest()
    boundaries = sorted({settings.steps * stage // STAGES for stage in range(1, STAGES + 1)} - {0})
    begun = _resume(ctx, training, key, boundaries)
    started = kept = time.perf_counter()
    measure = _loss_on(held_out, training, tokens)
    for step in range(begun, settings.steps):
        ctx.progress(step, settings.steps, unit="step")
        loss = training.step(step)
        if step + 1 in boundaries:
            ctx.text(f"step {step + 1} of {settings.steps}: loss {loss:.3f}, held out {measure():.3f}\n")
            if (now := time.perf_counter()) - kept >= KEEP_SECONDS:
                # Without it all steps would have to be done again, those of earlier runs too.
                seconds = (now - started) * (step + 1) / (step + 1 - begun)
                earlier = [_name(key, done) for done in boundaries if done <= step]
                ctx.keep(_name(key, step + 1), (training.state(),), seconds, instead_of=earlier)
                kept = time.perf_counter()
    return _measured(model, training.heads(), held_out, measure())


def _name(key: str, steps: int) -> str:
    """What the state of a training after so many steps is kept as."""
    return f"training {key} {steps}"


def commonest(tokens: Tensor, most: int) -> Tensor:
    """The different tokens among `tokens`, at most so many of them, the commonest; in rising order."""
    counts = tokens.bincount()
    # Of equally common ones the first are taken, whatever the machine.
    order = counts.argsort(descending=True, stable=True)[:most]
    return order[counts[order] > 0].sort().values


class _Training:
    """Parameters, their optimiser, and the examples in the order in which they are learnt from."""

    def __init__(self, model: Any, examples: Examples, tokens: Tensor, settings: TrainSettings) -> None:
        self.settings, self.tokens, self.model = settings, tokens, model
        self.rows, self.offsets = output_rows(model, tokens)
        self.states = examples.states
        self.targets = targets(examples, tokens, settings.heads)
        self.useful = (self.targets != OUTSIDE).any(1).nonzero()[:, 0]
        if not len(self.useful):
            raise InputError("no token follows the next in any text", hint="give longer texts or more tokens")
        hidden = self.rows.shape[1]
        shape = (settings.heads, settings.layers, hidden)
        self.weights = torch.zeros(*shape, hidden, device=self.rows.device, requires_grad=True)
        self.biases = torch.zeros(shape, device=self.rows.device, requires_grad=True)
        self.adam = torch.optim.AdamW([self.weights, self.biases], lr=settings.learning_rate)
        self._order: tuple[int, Tensor] = (-1, self.useful)

    def step(self, step: int) -> float:
        """One step, whose number alone decides on which examples; returns the mean loss of the heads."""
        for group in self.adam.param_groups:
            group["lr"] = self.settings.learning_rate * (1 + math.cos(math.pi * step / self.settings.steps)) / 2
        chosen = self._rows_of(step)
        with torch.enable_grad():
            sums, counts = self.losses(self.states[chosen], self.targets[chosen])
            weighed = sum(DISCOUNT**head * loss for head, loss in enumerate(sums / counts.clamp(min=1)))
            torch.autograd.backward([weighed])
        self.adam.step()
        self.adam.zero_grad()
        return mean_loss(sums.detach(), counts)

    def losses(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """For states (B, h) and targets (B, K), of each head: the sum of its cross-entropies, and of how many; (K,)."""
        guessed = transformed(states.to(self.rows), self.weights, self.biases)
        logits = F.linear(guessed, self.rows, self.offsets)
        wanted = targets.to(logits.device)
        each = F.cross_entropy(logits.transpose(1, 2), wanted.clone(), ignore_index=OUTSIDE, reduction="none")
        return each.sum(0), (wanted != OUTSIDE).sum(0)

    def _rows_of(self, step: int) -> Tensor:
        """The examples of a step: each round goes through all of them in an order of its own."""
        batch = min(self.settings.batch, len(self.useful))
        per_round = len(self.useful) // batch
        turn, place = divmod(step, per_round)
        if self._order[0] != turn:
            generator = torch.Generator().manual_seed((self.settings.seed + turn) % 2**63)
            self._order = turn, self.useful[torch.randperm(len(self.useful), generator=generator)]
        return self._order[1][place * batch : (place + 1) * batch]

    def heads(self) -> MedusaHeads:
        weights, biases = (part.detach().cpu().clone() for part in (self.weights, self.biases))
        return MedusaHeads(weights, biases, tokens=self.tokens, model=described(self.model))

    def state(self) -> State:
        tensors = {"weights": self.weights, "biases": self.biases}
        for name, parameter in tuple(tensors.items()):
            tensors |= {f"{name}.{moment}": value for moment, value in self.adam.state[parameter].items()}
        return State({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})

    def restore(self, state: State) -> None:
        for name, parameter in (("weights", self.weights), ("biases", self.biases)):
            parameter.detach().copy_(state.tensors[name])
            start = f"{name}."
            self.adam.state[parameter] = {
                key.removeprefix(start): value.clone() if key.endswith(".step") else value.clone().to(parameter)
                for key, value in state.tensors.items()
                if key.startswith(start)
            }


def targets(examples: Examples, tokens: Tensor, heads: int) -> Tensor:
    """What each head should guess after each token, int64 (N, K): the place in `tokens`, or `OUTSIDE`."""
    size = int(max(examples.tokens.max(), tokens.max())) + 1
    places = torch.full((size,), OUTSIDE).scatter(0, tokens, torch.arange(len(tokens)))
    return _ahead(examples, places[examples.tokens], heads)


def _ahead(examples: Examples, values: Tensor, heads: int) -> Tensor:
    """(N, K): the value of the k-th token after each in its text, or `OUTSIDE`."""
    following, columns = examples.following, []
    for head in range(1, heads + 1):
        column = torch.full_like(values, OUTSIDE)
        column[:-head] = values[head:]
        columns.append(column.masked_fill(following < head, OUTSIDE))
    return torch.stack(columns, dim=1)


def _resume(ctx: Context, training: _Training, key: str, boundaries: Sequence[int]) -> int:
    """Take up the latest state that was kept; returns how many steps it has done."""
    for step in reversed(boundaries):
        if kept := ctx.recall(_name(key, step)):
            training.restore(kept[0])
            return step
    return 0


def _loss_on(examples: Examples, training: _Training, tokens: Tensor) -> Callable[[], float]:
    """A function that measures the mean loss of the heads, as they are, on examples.

    Raises:
        InputError: no head has anything to guess there.
    """
    wanted = targets(examples, tokens, training.settings.heads)
    useful = (wanted != OUTSIDE).any(1).nonzero()[:, 0]
    if not len(useful):
        message = "in the texts that heads are tried on, no token follows the next that they could guess"
        raise InputError(message, hint="give more or longer texts")
    rows = useful[:: -(-len(useful) // MEASURED)]
    size = _chunk(training.settings.heads, len(tokens))
    chunks = [rows[at : at + size] for at in range(0, len(rows), size)]

    @torch.no_grad()
    def measure() -> float:
        parts = [training.losses(examples.states[some], wanted[some]) for some in chunks]
        sums, counts = (torch.stack(of).double().sum(0) for of in zip(*parts, strict=True))
        return mean_loss(sums, counts)

    return measure


def mean_loss(sums: Tensor, counts: Tensor) -> float:
    """The mean cross-entropy of heads, each of which counts alike, however much it had to guess.

    Args:
        sums: of each head's cross-entropies, (K,).
        counts: of how many, (K,); a head with none is left out, and one at least must have some.
    """
    guessing = counts > 0
    return float((sums[guessing] / counts[guessing]).mean())


def _chunk(heads: int, tokens: int) -> int:
    """For how many states at a time heads guess, so that there are no more logits than a step of training may have."""
    return max(1, min(CHUNK, MOST_LOGITS // (heads * tokens)))


def _measured(model: Any, heads: MedusaHeads, held_out: Examples, loss: float) -> Trained:
    ranks = ranks_of(heads, model, held_out)
    known = accuracies(ranks)
    return Trained(replace(heads, accuracies=known), loss, tokens_per_pass(known, ranks, held_out.ends, TREE))


def ranks_of(heads: MedusaHeads, model: Any, examples: Examples) -> Tensor:
    """Which of each head's guesses is right, int64 (N, K): its rank, or -1 if none is or the text has ended."""
    guesser = Guesser(heads, model)
    wanted = _ahead(examples, examples.tokens, len(heads.weights))
    parts, size = [], _chunk(len(heads.weights), guesser.rows.shape[-2])
    for at in range(0, len(examples.tokens), size):
        guesses = guesser.ranked(examples.states[at : at + size].to(guesser.rows.device), RANKS).cpu()
        right = guesses == wanted[at : at + size, :, None]
        parts.append(torch.where(right.any(-1), right.long().argmax(-1), -1))
    return torch.cat(parts)


def accuracies(ranks: Tensor) -> tuple[tuple[float, ...], ...]:
    """How often each head's guess of each rank is right, where those before it have a right one; see `ranks_of`."""
    found = []
    for head, usual in enumerate(expected(ranks.shape[1])):
        reached = ranks[(ranks[:, :head] >= 0).all(1), head]
        found.append(
            tuple(float((reached == rank).double().mean()) for rank in range(RANKS)) if len(reached) else usual
        )
    return tuple(found)


def tokens_per_pass(known: Sequence[Sequence[float]], ranks: Tensor, ends: Tensor, size: int) -> float:
    """Tokens by passes, if texts had been written with a tree of so many guesses.

    Args:
        known: the accuracies by which the tree is chosen.
        ranks: as `ranks_of` finds them.
        ends: where in them each text ends.
    """
    tree = set(likeliest(known, size))
    passes, start = 0, 0
    for end in ends.tolist():
        passes += 1 + sum(1 for _ in _passes(ranks[start:end].tolist(), tree))
        start = end
    return len(ranks) / max(passes, 1)


def _passes(ranks: Sequence[Sequence[int]], tree: set[tuple[int, ...]]) -> Iterator[int]:
    """The tokens that each pass after the first writes of a text."""
    at = 0
    while at < len(ranks) - 1:
        depth = 0
        while depth < len(ranks[at]) and tuple(ranks[at][: depth + 1]) in tree:
            depth += 1
        at += depth + 1
        yield depth + 1
