"""The editor is small, and copes with large graphs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Response, expect

from tests.browser.editor import Editor
from tests.server.live import Live

MOST_BYTES = 400_000


def many(count: int) -> dict[str, Any]:
    """A document with a number of nodes, in chains of ten."""
    graph = {
        f"n{at}": {"class_type": "ImageScale", "inputs": {"image": [f"n{at - 1}", 0]} if at % 10 else {}}
        for at in range(count)
    }
    nodes = {f"n{at}": {"x": at % 50 * 340, "y": at // 50 * 320} for at in range(count)}
    return {"kinograph": 1, "title": "Many", "graph": graph, "layout": {"nodes": nodes}}


def test_the_first_load_is_small(server: Live, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    loaded: list[Response] = []
    page.on("response", lambda answer: loaded.append(answer))
    page.goto(server.address)
    expect(page.get_by_text("Connected")).to_be_visible()
    sizes = {answer.url: answer.request.sizes()["responseBodySize"] for answer in loaded if "/assets/" in answer.url}
    context.close()
    assert any(url.endswith(".js") for url in sizes)
    assert 0 < sum(sizes.values()) < MOST_BYTES


def lines(editor: Editor) -> int:
    """The number of links drawn when all of them are one picture."""
    return sum((path.get_attribute("d") or "").count("M") for path in editor.page.locator(".remote-links path").all())


def test_links_are_drawn_at_every_zoom(editor: Editor) -> None:
    editor.open(many(20))  # so wide that cards are drawn as boxes with titles
    expect(editor.links).to_have_count(18)
    for _ in range(3):
        editor.press("-")
    editor.until(lambda: lines(editor) == 18)
    expect(editor.links).to_have_count(0)
    for _ in range(5):
        editor.press("+")
    expect(editor.output("Image scale").first).to_be_visible()
    expect(editor.links).not_to_have_count(0)
    editor.press("f")
    expect(editor.links).to_have_count(18)


@pytest.mark.full
def test_two_thousand_nodes_are_opened_and_moved(server: Live, browser: Browser) -> None:
    with Editor.opened(browser, server) as editor:
        editor.drop(json.dumps(many(2000)).encode(), "many.json")
        editor.until(lambda: editor.cards.count() > 1500)  # all are visible, as plain boxes
        assert editor.cards.first.inner_text() == ""
        editor.until(lambda: lines(editor) == 1800)
        before = editor.cards.first.bounding_box()
        editor.drag((700, 830), (500, 830), steps=3)
        editor.until(lambda: editor.cards.first.bounding_box() != before)
        for _ in range(10):
            editor.press("+")
        editor.until(lambda: 0 < editor.cards.count() < 60)  # what is out of view isn't drawn
        expect(editor.cards.first).to_contain_text("Image scale")
        expect(editor.output("Image scale").first).to_be_visible()
        expect(editor.links).not_to_have_count(0)
        assert editor.complaints == []
