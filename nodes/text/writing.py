"""Writing text with a language model, several tokens for each of its passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from engine.errors import InputError
from engine.node import Figure
from engine.values import Message
from nodes.text.answer import Answer
from nodes.text.chat import check_room, encode
from nodes.text.decoding.forced import WithForced
from nodes.text.decoding.loop import Tally, tree_decode
from nodes.text.decoding.support import unsupported
from nodes.text.grammar import Constraint, following
from nodes.text.methods import Method, drafter

if TYPE_CHECKING:
    from engine.node import Context
    from nodes.text.medusa.heads import Guesser
    from nodes.text.models import LoadedModel

COLDEST = 1e-6
"""Temperatures below this count as 0: float32 has no room for what they make of the scores."""

OURS: dict[str, Any] = {
    **{"num_beams": 1, "num_return_sequences": 1, "use_cache": True, "cache_implementation": None},
    **{"output_attentions": False, "output_hidden_states": False, "return_dict_in_generate": False},
    **{"max_time": None, "stop_strings": None},
}
"""What a model's own configuration has no say in: how it is run, and where a text ends but for its last token."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a text is decoded."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    """0 always takes the likeliest token."""
    top_p: float = 0.95
    top_k: int = 0
    """How many of the likeliest tokens are drawn from; 0 for all."""
    min_p: float = 0.0
    """The least probability of tokens that are drawn from, as a share of the likeliest one's."""
    repetition_penalty: float | None = None
    """What the scores of tokens that the text has, prompt included, are divided by, and negative ones multiplied; None
    for what the model's configuration says."""
    seed: int = 0
    method: Method = "auto"
    draft: LoadedModel | None = None
    """The draft model of the method "assisted"."""
    heads: Guesser | None = None
    """The heads of the method "medusa"."""
    draft_tokens: int = 8
    window: int = 5
    ngram: int = 4
    candidates: int = 5
    stop: tuple[str, ...] = ()
    grammar: str = ""
    """What the text keeps to, as `nodes.text.grammar` writes it; "" for none."""
    asked: str = "prompt"
    """The node's input that the chat is made of."""
    may_be_cut: bool = False
    """Whether a text may end before its grammar does, at `max_new_tokens`."""


class Answered(NamedTuple):
    """What a model wrote."""

    text: str
    ended: bool
    """Whether its last token was one that ends a text."""


def write(ctx: Context, llm: LoadedModel, chat: Sequence[Message], settings: Settings, tally: Tally) -> Answered:
    """Answer a chat. The text is streamed through the context as it is written, and what that took is added to `tally`.

    Raises:
        InputError: the model or its draft model can't be served, the chat doesn't fit into its context, or there is a
            grammar, and the model can't write by it or didn't come to its end.
    """
    from transformers.generation.stopping_criteria import StoppingCriteriaList

    if reason := unsupported(llm.model):
        raise InputError(reason, input="llm", hint="choose another language model")
    ids = encode(llm, chat)
    constraint = _constraint(llm, settings.grammar, ids.shape[1])
    check_room(llm, ids.shape[1], settings.max_new_tokens, (settings.asked, "max_new_tokens"))
    pad = llm.tokenizer.pad_token_id
    continues = chat[-1]["role"] == "assistant"
    answer = Answer(llm.tokenizer, ids, settings.stop, continues=continues, exact=constraint is not None)

    def on_tokens(tokens: list[int]) -> None:
        ctx.text(answer.news())
        ctx.progress(len(answer.tokens), settings.max_new_tokens, unit="token")

    def counted(unit: str) -> Callable[[int, int], None]:
        return lambda done, total: ctx.progress(done, total, unit=unit)

    guesses = drafter(llm, settings, counted("measurement"), counted("draft model's prompt token"))
    sampling = _sampling(settings) | {"eos_token_id": llm.ends or None}
    if constraint is not None:
        sampling |= {"logits_processor": [constraint]}
        guesses = WithForced(guesses, constraint.forced)
    with torch.inference_mode(), following():
        llm.model.generate(
            ids.to(llm.model.device),
            attention_mask=torch.ones_like(ids),  # otherwise a pad token that the text has would hide
            custom_generate=tree_decode,
            drafter=guesses,
            max_new_tokens=settings.max_new_tokens,
            stopping_criteria=StoppingCriteriaList([answer]),
            pad_token_id=llm.tokenizer.eos_token_id if pad is None else pad,
            generator=torch.Generator().manual_seed(settings.seed),  # the host's: a seed means the same on all devices
            on_tokens=on_tokens,
            on_prompt=counted("prompt token"),
            tally=tally,
            **sampling,
        )
    if constraint and not settings.may_be_cut and not constraint.is_complete([*ids[0].tolist(), *answer.tokens]):
        raise InputError(
            f"what was written is not complete after max_new_tokens, {settings.max_new_tokens}: {_end(answer.text())}",
            input="max_new_tokens",
            hint="raise it, or bound texts and lists (in a schema by maxLength and maxItems)",
        )
    ctx.text(answer.rest())
    return Answered(answer.text(), ended=answer.tokens[-1] in llm.ends)


def _sampling(settings: Settings) -> dict[str, Any]:
    """What `generate` gets of the settings, in place of what the model's configuration says."""
    if settings.temperature < COLDEST:
        chosen: dict[str, Any] = {"do_sample": False, **dict.fromkeys(("temperature", "top_p", "top_k", "min_p"))}
    else:
        chosen = {
            "do_sample": True,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "min_p": settings.min_p or None,
        }
    penalty = settings.repetition_penalty
    return OURS | chosen | ({} if penalty is None else {"repetition_penalty": penalty})


def figures(tally: Tally) -> dict[str, Figure | float]:
    """What decoding took, for people: the most telling first."""
    passes, tokens = max(tally.passes, 1), max(tally.tokens, 1)
    shares = {f"guessed by {name}": Figure(100 * count / tokens, "%") for name, count in tally.right.items()}
    seconds = {_PHASES[phase]: Figure(seconds, "s") for phase, seconds in tally.seconds.items()}
    return {"tokens a pass": tally.tokens / passes, "tokens": tally.tokens, "passes": tally.passes} | shares | seconds


_PHASES = {"prompt": "reading", "model": "passes of the model", "guesses": "guessing", "choice": "choosing tokens"}


def _constraint(llm: LoadedModel, grammar: str, start: int) -> Constraint | None:
    if not grammar:
        return None
    with following():
        return Constraint(grammar, llm.grammar_tokens, start)


def _end(text: str) -> str:
    return text if len(text) <= 40 else f"…{text[-40:]}"
