"""A conversation with a language model, as the tokens that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from nodes.text.prompts import Message

if TYPE_CHECKING:
    from torch import Tensor

    from nodes.text.models import LoadedModel


def encode(llm: LoadedModel, chat: Sequence[Message]) -> Tensor:
    """Token ids (1, length) of a chat in the model's own format, up to where the answer begins.

    Messages are read as plain text: a special token that one spells out, such as `<|im_end|>`, is the characters that
    it is made of, so that no message can end itself or speak in another's name.

    Raises:
        InputError: the model's format has no place for these messages.
    """
    if not llm.tokenizer.chat_template:  # it continues the text
        text = "\n".join(message["content"] for message in chat) + "\n"
        return _tensor(llm.tokenizer(text, split_special_tokens=True, return_tensors="pt"))
    try:
        return _tensor(
            llm.tokenizer.apply_chat_template(
                list(chat), add_generation_prompt=True, sanitize_control_tokens=True, return_tensors="pt"
            )
        )
    except Exception as error:  # a template is a program of the model's, and may raise anything
        raise InputError(f"the model's chat template fails: {error}", input="llm") from error


def check_room(llm: LoadedModel, length: int, new: int) -> None:
    """Raise InputError unless a chat of `length` tokens and `new` ones fit into the model's context."""
    room = getattr(llm.model.config, "max_position_embeddings", None)
    if room is not None and length + new > room:
        raise InputError(
            f"{length} tokens and {new} new ones don't fit into the model's context of {room}",
            input="prompt",
            hint="shorten the text or lower max_new_tokens",
        )


def _tensor(encoded: Any) -> Tensor:
    ids: Tensor = encoded.input_ids
    return ids
