"""Which models and calls of `generate` can be decoded with guesses, and why others can't."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from nodes.text.decoding.reader import windows


def unsupported(model: Any) -> str | None:
    """Why lookahead doesn't support a transformers model, or None if it does.

    It needs a decoder that takes a 4-D attention mask and explicit positions, and a cache that gives tokens back;
    layers may have sliding windows.
    """
    from transformers import DynamicCache

    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder or not model.can_generate():
        return f"{name} is not a decoder-only language model"
    if not {"position_ids", "attention_mask", "past_key_values"} <= inspect.signature(model.forward).parameters.keys():
        return f"{name} does not let its caller choose positions, mask and cache"
    if getattr(config, "alibi", False):
        return f"{name} takes positions from a mask over the whole text (alibi), which has no room for guesses"
    if config._attn_implementation not in ("eager", "sdpa"):
        return f"{config._attn_implementation} takes no 4-D mask: load {name} with attn_implementation='sdpa'"
    if {"dynamic", "longrope"} & _rope_types(config):
        return f"{name} scales its positions by the length of the text, which guesses would change"
    forgets = not _takes_back(DynamicCache(config=config)) or "local" in getattr(config, "attention_layers", ())
    if forgets or not model._supports_default_dynamic_cache():
        return f"{name} forgets tokens as it reads on (a recurrent state, say): guesses can't be taken back"
    try:
        windows(config)
    except ValueError as error:
        return f"{name} can't read guesses: {error}"
    return None


def _rope_types(config: Any) -> set[str]:
    """The types of position embedding: one for all layers, or one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters, *(kind for kind in parameters.values() if isinstance(kind, dict))]
    return {kind["rope_type"] for kind in kinds if "rope_type" in kind}


def _takes_back(cache: Any) -> bool:
    """Whether tokens can be taken back from the cache."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and not cache.offloading and all(type(at) in kinds for at in cache.layers)


def unsupported_call(input_ids: Tensor, config: Any, kwargs: dict[str, Any]) -> str | None:
    """Why lookahead doesn't support this call of `generate`, or None if it does."""
    batch, length = input_ids.shape
    positions = kwargs.get("position_ids")
    known = {"past_key_values", "use_cache", "position_ids", "logits_to_keep"}
    if config.num_beams != 1:
        return f"lookahead follows one text and not {config.num_beams} beams: call it with num_beams=1"
    if batch != 1:
        return f"lookahead decodes one sequence at a time, not {batch}: call it for each"
    if kwargs.get("attention_mask") is not None:
        return "lookahead takes no padding: leave it out of input_ids and attention_mask"
    if not config.use_cache or not _takes_back(kwargs["past_key_values"]):
        return "lookahead needs a dynamic KV cache that is neither offloaded nor quantised"
    if kwargs["past_key_values"].get_seq_length() >= length:
        return "input_ids must hold the whole text, and more than the cache has seen"
    if positions is not None and not torch.equal(positions.cpu(), torch.arange(length)[None]):
        return "lookahead places the tokens itself: leave out position_ids"
    if odd := sorted(name for name, value in kwargs.items() if value is not None and name not in known):
        return f"lookahead passes nothing but tokens to the model, so not {', '.join(odd)}"
    if config.output_attentions or config.output_hidden_states:
        return "lookahead returns neither attentions nor hidden states"
    return None
