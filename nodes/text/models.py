"""Loading language models of transformers, each resident once per contents, dtype and device."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.models import find
from nodes.loading import loading, unchanged

if TYPE_CHECKING:
    from llguidance import LLTokenizer

    from engine.node import Context
    from engine.values import LanguageModel


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any


class LoadedModel(_Loaded):
    """A causal language model of transformers, in evaluation mode, and its tokenizer."""

    @property
    def ends(self) -> list[int]:
        """The tokens that end a text: the model's, or else its tokenizer's; none if neither knows any."""
        of_model = self.model.generation_config.eos_token_id
        given = self.tokenizer.eos_token_id if of_model is None else of_model
        return [] if given is None else given if isinstance(given, list) else [given]

    @property
    def room(self) -> int | None:
        """The most tokens of a text that the model reads or writes; None if its configuration bounds none."""
        room: int | None = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return room

    @cached_property
    def grammar_tokens(self) -> LLTokenizer:
        """The tokenizer as grammars need it, which takes a second to make; raises `GrammarError`."""
        from nodes.text.grammar import grammar_tokens

        return grammar_tokens(self.tokenizer, self.ends)

    @cached_property
    def usual(self) -> dict[tuple[str, tuple[str, ...]], list[float]]:
        """How likely the prompt writer found words without the theme, by slot and words."""
        return {}

    @property
    def nbytes(self) -> int:
        return sum(weight.nbytes for weight in self.model.parameters())


def language_model(ctx: Context, model: LanguageModel) -> LoadedModel:
    """The model, loaded once and shared by all callers.

    Raises:
        MissingError: the files are not those of a causal language model, or can't be read.
        NodeError: they have been replaced since the model was chosen.
    """
    loaded: LoadedModel = ctx.models.get(
        ("language model", model.identity, model.dtype, ctx.device), lambda: _load(model), ctx.device
    )
    return loaded


def _load(reference: LanguageModel) -> LoadedModel:
    import torch

    is_source = Path(reference.path) == find(reference.source)  # and not unpacked from it
    watched = unchanged(reference.source, reference.identity) if is_source else nullcontext()
    with watched, loading(reference.source, hint="give a transformers folder or a GGUF file"):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(reference.path, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            reference.path, dtype=getattr(torch, reference.dtype), local_files_only=True, use_safetensors=True
        )
    return LoadedModel(model.eval(), tokenizer)
