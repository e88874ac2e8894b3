"""Loading language models of transformers, each resident once per contents, dtype and device."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.models import find
from nodes.loading import loading, unchanged

if TYPE_CHECKING:
    from engine.node import Context
    from engine.values import LanguageModel


class LoadedModel(NamedTuple):
    """A causal language model of transformers, in evaluation mode, and its tokenizer."""

    model: Any
    tokenizer: Any

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
