"""The messages of a conversation, as people write them and as links carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, LiteralString, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from engine.errors import InputError
from engine.values import Message, Messages, Role

EXAMPLE = '{"role": "user", "content": "Hello"}'


def _taken(given: object) -> Messages | tuple[Message, ...]:
    """Messages from a link, or a list of them as JSON; of another thing, tells pydantic what is wrong."""
    if isinstance(given, Messages):
        return given
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise _wrong("should be a list of messages like {example}")
    return tuple(_message(number, item) for number, item in enumerate(given, 1))


def _message(number: int, item: object) -> Message:
    if not isinstance(item, Mapping) or item.keys() != {"role", "content"}:
        raise _wrong("should hold messages like {example}, which number {number} isn't", number)
    if item["role"] not in get_args(Role):
        raise _wrong("should have the roles system, user and assistant alone, which message {number} hasn't", number)
    if not isinstance(item["content"], str):
        raise _wrong("should have texts as contents, which message {number} hasn't", number)
    return {"role": item["role"], "content": item["content"]}


def _wrong(problem: LiteralString, number: int = 0) -> PydanticCustomError:
    return PydanticCustomError("messages", problem, {"number": number, "example": EXAMPLE})


class _Conversation:
    """Marks an input that takes messages."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_taken)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        properties = {"role": {"enum": list(get_args(Role))}, "content": {"type": "string"}}
        item = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
        return {"type": "array", "items": item, "widget": "object"}


Conversation = Annotated[Messages | tuple[Message, ...], _Conversation()]
"""Messages on a link, or written out as a list of objects with a role and a content."""


def listed(messages: Messages | Sequence[Message]) -> list[Message]:
    """The messages of a conversation, in order."""
    return list(messages.items if isinstance(messages, Messages) else messages)


def asked(prompt: str, system: str, messages: Messages | Sequence[Message]) -> list[Message]:
    """The conversation to answer: the system prompt, the messages, and the prompt as what the user says last.

    One that ends with the assistant's words is to be continued from there.

    Raises:
        InputError: nobody but the system says anything, or blanks alone, or there are two system prompts.
    """
    chat = listed(messages)
    if system:
        if chat and chat[0]["role"] == "system":
            raise InputError(
                "the messages begin with a system prompt of their own", input="system", hint="give one of the two"
            )
        chat.insert(0, {"role": "system", "content": system})
    if prompt:
        chat.append({"role": "user", "content": prompt})
    if all(message["role"] == "system" or not message["content"].strip() for message in chat):
        raise InputError("there is nothing to answer", input="prompt", hint="give a prompt, or messages")
    return chat
