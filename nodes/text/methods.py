"""The methods of decoding by name, and what passes of a model cost on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import InputError
from nodes.text.kept import keep, place

if TYPE_CHECKING:
    from nodes.text.decoding.costs import Costs
    from nodes.text.decoding.loop import Drafter
    from nodes.text.models import LoadedModel
    from nodes.text.writing import Settings

Method = Literal["auto", "lookahead", "jacobi", "prompt_lookup", "suffix", "assisted", "medusa", "greedy"]

_NEEDED = {
    "assisted": ("draft", "a draft model", "link a smaller language model"),
    "medusa": ("heads", "Medusa heads", "link MedusaLoad or MedusaTrain"),
}
"""For methods that need another input: its name, what it is, and where it comes from."""


MOST_GUESSES = 1024
"""Tokens that a pass reads besides the text at most. Its mask has a number for each pair of them, and each that may be
written takes a row of logits as long as the model's vocabulary, so many more of them fill a machine's memory."""


def check_given(given: Mapping[str, Any]) -> None:
    """Refuse a method without what it needs, or with more than it can do, if that is known before a run.

    Raises:
        InputError: the method's draft model or heads are missing, or lookahead would guess too much in a pass.
    """
    method = given.get("method")
    if method in _NEEDED and given.get(_NEEDED[method][0], ...) is None:
        raise _missing(method)
    if method == "lookahead" and given.keys() >= {"window", "ngram", "candidates"}:
        _check_size(given["window"], given["ngram"], given["candidates"])


def _missing(method: str) -> InputError:
    name, what, source = _NEEDED[method]
    hint = f"{source}, or choose another method"
    return InputError(f"the method {method} needs {what}", input=name, hint=hint)


def _check_size(window: int, ngram: int, candidates: int) -> None:
    guesses = (window + candidates) * (ngram - 1)
    if guesses > MOST_GUESSES:
        raise InputError(
            f"a pass makes (window + candidates) · (ngram − 1) guesses: {guesses:,}, but {MOST_GUESSES:,} at most",
            input="window",
            hint="lower window, candidates or ngram",
        )


def drafter(
    llm: LoadedModel,
    settings: Settings,
    heard: Callable[[int, int], None],
    on_prompt: Callable[[int, int], None] | None = None,
) -> Drafter:
    """The drafter of the settings' method, for one text.

    Args:
        llm: the model that writes.
        heard: called with passes done and to do while costs are measured; what it raises ends that.
        on_prompt: called as a draft model reads a long prompt, with the tokens read and to be read; what it raises
            ends the decoding.

    Raises:
        InputError: the method's draft model or heads are missing, or the draft model can't draft for it.
    """
    from nodes.text.decoding.assisted import prompt_lookup
    from nodes.text.decoding.auto import Auto
    from nodes.text.decoding.jacobi import Jacobi
    from nodes.text.decoding.lookahead import Lookahead
    from nodes.text.decoding.loop import Greedy
    from nodes.text.decoding.medusa import Medusa
    from nodes.text.decoding.suffix import Suffix

    length = settings.draft_tokens
    match settings.method:
        case "auto":
            return Auto(costs(llm, heard), settings.seed)
        case "lookahead":
            return Lookahead(settings.window, settings.ngram, settings.candidates, seed=settings.seed)
        case "jacobi":
            return Jacobi(length, settings.seed)
        case "prompt_lookup":
            return prompt_lookup(llm.model, length)
        case "suffix":
            return Suffix(length)
        case "assisted":
            return _draft_model(llm, settings.draft, length, on_prompt)
        case "medusa":
            if settings.heads is None:
                raise _missing("medusa")
            return Medusa(settings.heads, length)
        case "greedy":
            return Greedy()


def _draft_model(
    llm: LoadedModel, draft: LoadedModel | None, length: int, heard: Callable[[int, int], None] | None
) -> Drafter:
    from nodes.text.decoding.assisted import DraftModel, universal_draft

    if draft is None:
        raise _missing("assisted")
    try:
        if draft.tokenizer.get_vocab() == llm.tokenizer.get_vocab():
            return DraftModel(draft.model, length, heard=heard)
        return universal_draft(llm.model, llm.tokenizer, draft.model, draft.tokenizer, length, heard=heard)
    except ValueError as error:
        raise InputError(str(error), input="draft", hint="choose another draft model, or another method") from error


def costs(llm: LoadedModel, heard: Callable[[int, int], None]) -> Costs:
    """What passes of a model cost here: measured once in float32, and kept in the user's cache.

    In half precision the size of a pass can decide between two tokens, so there no clock has a say.
    """
    import torch

    from nodes.text.decoding.costs import NOMINAL, Costs, measure

    device = llm.model.device
    if llm.model.dtype != torch.float32:
        return NOMINAL["cpu" if device.type == "cpu" else "other"]
    kept = _file(llm)
    try:
        return Costs({int(size): float(time) for size, time in json.loads(kept.read_text()).items()})
    except (OSError, ValueError, AttributeError):  # not measured yet, or not readable
        measured = measure(llm.model, heard)
        if measured.is_plausible:
            keep(kept, dict(measured.times))
        return measured


def _file(llm: LoadedModel) -> Path:
    """Where the costs of a model are kept, by all that they depend on."""
    import torch

    model, config = llm.model, llm.model.config.get_text_config(decoder=True)
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else None
    weights = [f"{name} {tuple(weight.shape)}" for name, weight in model.named_parameters()]
    of = [type(model).__name__, *weights, str(model.dtype), config._attn_implementation, str(model.device.type)]
    return place([*of, "turned"], device)
