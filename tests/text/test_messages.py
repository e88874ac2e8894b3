"""Conversations as inputs: written out in a workflow, on links, and put together before they are answered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import InputError
from engine.node import Context
from engine.values import Message, Messages
from nodes.text.messages import asked
from nodes.text.nodes import ChatMessage, LookaheadDecode

HELLO: Message = {"role": "user", "content": "hello"}
HI: Message = {"role": "assistant", "content": "hi"}
BRIEF: Message = {"role": "system", "content": "be brief"}


def test_messages_are_added_one_after_the_other() -> None:
    first = ChatMessage(content="be brief", role="system").run(Context())
    second = ChatMessage(content="hello", messages=first).run(Context())
    assert second.items == (BRIEF, HELLO)
    assert first.items == (BRIEF,)
    assert str(second) == "Messages of system and user"


def test_a_message_is_added_to_those_that_are_written_out() -> None:
    assert ChatMessage(content="hi", role="assistant", messages=(BRIEF, HELLO)).run(Context()).items == (
        BRIEF,
        HELLO,
        HI,
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("hello", "should be a list of messages"),
        ({"role": "user", "content": "hello"}, "should be a list of messages"),
        ([HELLO, "hi"], "messages like .* number 2 isn't"),
        ([{"role": "user"}], "messages like .* number 1 isn't"),
        ([{**HELLO, "name": "Ann"}], "messages like .* number 1 isn't"),
        ([HELLO, {"role": "bot", "content": "hi"}], "roles system, user and assistant alone, which message 2"),
        ([{"role": ["user"], "content": "hi"}], "roles system, user and assistant alone, which message 1"),
        ([{"role": "user", "content": 3}], "texts as contents, which message 1"),
    ],
)
def test_what_is_wrong_with_messages_is_told(given: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        LookaheadDecode.spec.inputs["messages"].validate(given)


def test_messages_of_a_workflow_are_constants_that_a_key_can_hold() -> None:
    assert LookaheadDecode.spec.inputs["messages"].validate([HELLO, HI]) == (HELLO, HI)


def test_the_prompt_is_what_the_user_says_last() -> None:
    assert asked("hello", "", ()) == [HELLO]
    assert asked("hello", "be brief", ()) == [BRIEF, HELLO]
    assert asked("hello", "be brief", (HELLO, HI)) == [BRIEF, HELLO, HI, HELLO]
    assert asked("", "", Messages((HELLO, HI))) == [HELLO, HI]


@pytest.mark.parametrize(
    ("system", "messages", "problem"),
    [
        ("", (), "there is nothing to answer"),
        ("be brief", (), "there is nothing to answer"),
        ("", ({"role": "user", "content": " \n"},), "there is nothing to answer"),
        ("", (BRIEF,), "there is nothing to answer"),
        ("be kind", (BRIEF, HELLO), "the messages begin with a system prompt of their own"),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused_before_the_run(
    system: str, messages: tuple[Message, ...], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        LookaheadDecode.check_inputs({"prompt": "", "system": system, "messages": messages})


def test_what_comes_by_links_is_checked_once_it_is_there() -> None:
    LookaheadDecode.check_inputs({"prompt": "", "system": ""})
