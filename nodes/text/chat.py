"""A conversation with a language model, as the tokens that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from engine.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from engine.values import Message
    from nodes.text.models import LoadedModel


def encode(llm: LoadedModel, chat: Sequence[Message]) -> Tensor:
    """Token ids (1, length) of a chat in the model's own format, up to where the answer begins.

    If the assistant speaks last, the answer goes on with what it said. Messages are read as plain text: a special token
    that one spells out, such as `<|im_end|>`, is the characters that it is made of. So no message can end itself or
    speak in another's name.

    Raises:
        InputError: the model's format has no place for these messages.
    """
    continues = chat[-1]["role"] == "assistant"
    if not llm.tokenizer.chat_template:  # it continues the text
        text = "\n".join(message["content"] for message in chat) + ("" if continues else "\n")
        return _tensor(llm.tokenizer(text, split_special_tokens=True, return_tensors="pt"))
    try:
        return _tensor(
            _reader(llm.tokenizer, chat).apply_chat_template(
                list(chat),
                add_generation_prompt=not continues,
                continue_final_message=continues,
                sanitize_control_tokens=True,
                return_tensors="pt",
            )
        )
    except Exception as error:  # a template is a program of the model's, and may raise anything
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"the model's chat template refuses the messages: {reason}", input="llm", hint=_advice(llm, chat)
        ) from error


def _reader(tokenizer: Any, chat: Sequence[Message]) -> Any:
    """The tokenizer, which may say a special token that is a word as well: some models pad with "!"."""
    said = [token for token in tokenizer.all_special_tokens if any(token in message["content"] for message in chat)]
    words = {token for token in said if _is_word(tokenizer, token)}
    if not words:
        return tokenizer
    reader, control = copy(tokenizer), tokenizer._get_control_tokens
    reader._get_control_tokens = lambda template: tuple(token for token in control(template) if token not in words)
    return reader


def _is_word(tokenizer: Any, token: str) -> bool:
    """Whether plain text is read as this special token."""
    ids: list[int] = tokenizer(token, add_special_tokens=False, split_special_tokens=True).input_ids
    return tokenizer.convert_tokens_to_ids(token) in ids


def _advice(llm: LoadedModel, chat: Sequence[Message]) -> str:
    """What to do about messages that a chat template refuses."""
    others = [message for message in chat if message["role"] != "system"]
    if len(others) < len(chat) and _is_taken(llm, others):
        return "this model has no system prompt: begin the first user message with what it says"
    if any(before["role"] == after["role"] for before, after in pairwise(chat)):
        return "let user and assistant take turns, a message each"
    if chat[-1]["role"] == "assistant":
        return "this model may not continue an answer: end with a message of the user's"
    return "give other messages, or another model"


def _is_taken(llm: LoadedModel, chat: Sequence[Message]) -> bool:
    with suppress(Exception):  # as in `encode`
        llm.tokenizer.apply_chat_template(list(chat), tokenize=False)
        return True
    return False


def check_room(llm: LoadedModel, length: int, new: int, inputs: tuple[str, str] = ("prompt", "max_new_tokens")) -> None:
    """Raise InputError unless a chat of `length` tokens and `new` ones fit into the model's context.

    Args:
        inputs: the node's, that the chat is made of, and that says how much is written.
    """
    if llm.room is not None and length + new > llm.room:
        asked, written = inputs
        raise InputError(
            f"{length} tokens and {new} new ones don't fit into the model's context of {llm.room}",
            input=written if new > length else asked,
            hint=f"shorten {asked} or lower {written}",
        )


def _tensor(encoded: Any) -> Tensor:
    ids: Tensor = encoded.input_ids
    return ids
