"""What Medusa heads learn from: a model's states and the tokens that follow, in given texts or its own answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from engine.errors import InputError
from engine.values import Value
from nodes.text.chat import check_room, encode
from nodes.text.decoding.reader import watched

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import LanguageModel
    from nodes.text.models import LoadedModel

BATCH = 64
"""Answers that are written together: a pass over them takes about twice the time of one over a single one."""
PIECE = 256
"""Tokens of a given text that are read together."""
LIKELIEST = 64
"""Of how many of the likeliest tokens one is drawn."""


@dataclass(frozen=True, eq=False, slots=True)
class Examples(Value):
    """Tokens of several texts, one after the other, each with the state that it was predicted from."""

    tokens: Tensor
    """int64 (N,)."""
    states: Tensor
    """bfloat16 (N, h): the input of the model's output embedding that gave the token."""
    ends: Tensor
    """int64 (texts,): where in `tokens` each text ends."""

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + self.states.nbytes + self.ends.nbytes

    @property
    def following(self) -> Tensor:
        """How many tokens of the same text follow each, int64 (N,)."""
        lengths = self.ends.diff(prepend=self.ends.new_zeros(1))
        return self.ends.repeat_interleave(lengths) - torch.arange(len(self.tokens)) - 1

    def to_tensors(self) -> tuple[Mapping[str, Tensor], dict[str, str]]:
        return {"tokens": self.tokens, "states": self.states, "ends": self.ends}, {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(**tensors)


def joined(parts: Sequence[Examples]) -> Examples:
    """All texts of several examples."""
    starts = torch.tensor([0, *(len(part.tokens) for part in parts)]).cumsum(0)
    return Examples(
        torch.cat([part.tokens for part in parts]),
        torch.cat([part.states for part in parts]),
        torch.cat([part.ends + start for part, start in zip(parts, starts.tolist(), strict=False)]),
    )


def divided(examples: Examples) -> tuple[Examples, Examples]:
    """The texts to learn from, and those held out: every tenth, or the last if there are fewer; there must be two."""
    lengths = examples.ends.diff(prepend=examples.ends.new_zeros(1))
    held_out = torch.zeros(len(lengths), dtype=torch.bool)
    held_out[min(9, len(lengths) - 1) :: 10] = True
    parts = []
    for taken in (~held_out, held_out):
        rows = taken.repeat_interleave(lengths)
        parts.append(Examples(examples.tokens[rows], examples.states[rows], lengths[taken].cumsum(0)))
    return parts[0], parts[1]


def from_texts(ctx: Context, llm: LoadedModel, texts: Sequence[str]) -> Examples:
    """What the model predicts as it reads texts, in pieces; a token that begins a piece is left out.

    Raises:
        InputError: no text has two tokens.
    """
    pieces: list[list[int]] = []
    for text in texts:
        tokens = llm.tokenizer(text)["input_ids"]
        pieces += [tokens[at : at + PIECE] for at in range(0, len(tokens) - 1, PIECE)]
    pieces = [piece for piece in pieces if len(piece) > 1]
    if not pieces:
        raise InputError("no text has two tokens, so none follows another", input="texts", hint="give longer texts")
    read: list[Tensor] = []
    with torch.inference_mode(), watched(llm.model, lambda states: read.append(_kept(states[0, :-1]))):
        for done, piece in enumerate(pieces):
            ctx.progress(done, len(pieces), unit="text")
            llm.model(input_ids=torch.tensor([piece], device=llm.model.device), use_cache=False)
    lengths = torch.tensor([len(piece) - 1 for piece in pieces])
    tokens = torch.tensor([token for piece in pieces for token in piece[1:]])
    return Examples(tokens, torch.cat(read), lengths.cumsum(0))


def own_answers(
    ctx: Context,
    reference: LanguageModel,
    llm: LoadedModel,
    prompts: Sequence[str],
    *,
    length: int,
    temperature: float,
    seed: int,
) -> Examples:
    """What the model answers to prompts, drawn from its likeliest tokens; batches that are done are kept.

    Args:
        length: the most tokens of an answer.
        temperature: 0 always takes the likeliest token.

    Raises:
        InputError: a prompt and its answer don't fit into the model's context.
    """
    chats = [encode(llm, [{"role": "user", "content": prompt}])[0].tolist() for prompt in prompts]
    check_room(llm, max(map(len, chats)), length, ("prompts", "answer_tokens"))
    parts: list[Examples] = []
    batches = [chats[at : at + BATCH] for at in range(0, len(chats), BATCH)]

    def report(written: int) -> None:
        ctx.progress(len(parts) * length + min(written, length), len(batches) * length, unit="token")

    for batch in batches:
        settings = (reference.identity, reference.dtype, length, temperature, seed + len(parts), batch)
        name = f"answers {hashlib.sha256(repr(settings).encode()).hexdigest()}"
        report(0)
        kept = ctx.recall(name)
        if kept is None:
            started = time.perf_counter()
            part = _answers(llm, batch, length, temperature, seed + len(parts), report)
            ctx.keep(name, (part,), time.perf_counter() - started)
        else:
            (part,) = kept
        parts.append(part)
    return joined(parts)


def _answers(
    llm: LoadedModel,
    chats: Sequence[list[int]],
    length: int,
    temperature: float,
    seed: int,
    report: Callable[[int], None],
) -> Examples:
    """One answer to each chat, written side by side by transformers; `report` gets the number of tokens so far."""
    from transformers import LogitsProcessorList

    widest = max(map(len, chats))
    ids = torch.tensor([[0] * (widest - len(chat)) + chat for chat in chats])
    mask = torch.tensor([[0] * (widest - len(chat)) + [1] * len(chat) for chat in chats])
    read: list[Tensor] = []

    def note(states: Tensor) -> None:
        read.append(_kept(states[:, -1]))
        report(len(read))

    processors = LogitsProcessorList([_Drawing(temperature, seed)] if temperature else [])
    with torch.inference_mode(), watched(llm.model, note):
        written = llm.model.generate(
            ids.to(llm.model.device),
            attention_mask=mask.to(llm.model.device),
            logits_processor=processors,
            max_new_tokens=length,
            eos_token_id=llm.ends or None,
            pad_token_id=llm.ends[0] if llm.ends else 0,
            do_sample=False,
            **{"temperature": None, "top_p": None, "top_k": None},
        )[:, widest:].cpu()
    ended = torch.isin(written, torch.tensor(llm.ends, dtype=torch.long))
    lengths = (ended.cumsum(1) - ended.long() == 0).sum(1)
    rows = [slice(0, count) for count in lengths.tolist()]
    states = torch.stack(read, dim=1)
    return Examples(
        torch.cat([answer[row] for answer, row in zip(written, rows, strict=True)]),
        torch.cat([answer[row] for answer, row in zip(states, rows, strict=True)]),
        lengths.cumsum(0),
    )


class _Drawing:
    """A logits processor with which the likeliest token is one drawn with a temperature.

    That is the largest of the logits divided by the temperature and raised by noise of Gumbel's distribution. The noise
    is drawn on the host from a generator of its own, so other threads' draws don't enter, nor does the device.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed % 2**63)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        best = scores.topk(min(LIKELIEST, scores.shape[-1]), dim=-1)
        noise = -torch.empty(best.values.shape).exponential_(generator=self.generator).log()
        drawn = (best.values.float() / self.temperature + noise.to(best.values.device)).argmax(-1, keepdim=True)
        chosen = best.indices.gather(-1, drawn)
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


def _kept(states: Tensor) -> Tensor:
    """As much of states as training needs: their size has bfloat16's range, and heads learn from many."""
    return states.to("cpu", torch.bfloat16, copy=True)
