"""Language models in workflows: conversations that are written out or linked, and lists of prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kinograph
from engine.events import Event, NodeCached, NodeStarted, NodeText
from nodes.text import models
from tests.text.conftest import babbler

Graph = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return babbler(tmp_path_factory.mktemp("babbler"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    yield
    kinograph.close()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are loaded."""
    loaded: list[str] = []
    load = models._load

    def counted(reference: Any) -> models.LoadedModel:
        loaded.append(reference.source)
        return load(reference)

    monkeypatch.setattr(models, "_load", counted)
    return loaded


def answering(folder: Path, **inputs: Any) -> Graph:
    return {
        "llm": {"class_type": "LLMLoad", "inputs": {"source": str(folder)}},
        "answer": {"class_type": "LookaheadDecode", "inputs": {"llm": ["llm", 0], "method": "suffix", **inputs}},
    }


def ignore(event: Event) -> None: ...


def run(graph: Graph, on_event: Callable[[Event], None] = ignore) -> Any:
    return kinograph.run(graph, until="answer", device="cpu", progress=False, on_event=on_event)["answer"]


def test_a_conversation_is_the_same_written_out_and_linked(folder: Path) -> None:
    said = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    linked: Graph = {
        "first": {"class_type": "ChatMessage", "inputs": {**said[0]}},
        "second": {"class_type": "ChatMessage", "inputs": {"messages": ["first", 0], "content": "hello"}},
    }
    written = run(answering(folder, messages=said))
    assert run(linked | answering(folder, messages=["second", 0])).text == written.text
    assert run(answering(folder, system="be brief", prompt="hello")).text == written.text
    assert run(answering(folder, messages=said[1:])).text != written.text


def test_an_answer_is_part_of_the_next_conversation(folder: Path) -> None:
    graph = answering(folder, messages=["second", 0], prompt="go on") | {
        "before": {
            "class_type": "LookaheadDecode",
            "inputs": {"llm": ["llm", 0], "method": "suffix", "prompt": "hello"},
        },
        "first": {"class_type": "ChatMessage", "inputs": {"content": "hello"}},
        "second": {
            "class_type": "ChatMessage",
            "inputs": {"messages": ["first", 0], "role": "assistant", "content": ["before", "text"]},
        },
    }
    before = kinograph.run(graph, until="before", device="cpu", progress=False)["before"].text
    said = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": before}]
    assert run(graph).text == run(answering(folder, messages=said, prompt="go on")).text


def test_a_list_of_prompts_is_answered_one_by_one_by_one_model(folder: Path, loads: list[str]) -> None:
    graph = answering(folder, prompt=["prompts", 0], messages=[{"role": "system", "content": "be brief"}])
    graph["prompts"] = {"class_type": "TextLines", "inputs": {"text": "a fish\na cat\na snail"}}
    events: list[Event] = []
    texts = run(graph, events.append).text
    assert loads == [str(folder)]
    assert texts[1] == run(answering(folder, system="be brief", prompt="a cat")).text
    streamed = defaultdict[str, str](str)
    for event in events:
        if isinstance(event, NodeText):
            streamed[event.node] += event.text
    assert [text.strip() for text in streamed.values()] == list(texts)


def test_another_prompt_in_a_list_is_answered_and_the_others_are_not_again(folder: Path) -> None:
    graph = answering(folder, prompt=["prompts", 0])
    graph["prompts"] = {"class_type": "TextLines", "inputs": {"text": "a fish\na cat"}}
    fish, cat = run(graph).text
    graph["prompts"]["inputs"]["text"] = "a cat\na snail\na fish"
    events: list[Event] = []
    texts = run(graph, events.append).text
    assert (texts[0], texts[2]) == (cat, fish)
    started = [event.node for event in events if isinstance(event, NodeStarted) and event.kind == "LookaheadDecode"]
    cached = [event.node for event in events if isinstance(event, NodeCached) and event.kind == "LookaheadDecode"]
    assert (len(started), len(cached)) == (1, 2)
