"""Accessibility: without a mouse, by touch, with a screen reader, in the dark theme, and on a form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.editor import Editor, centre
from tests.server.live import Live

AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
PANELS = ("Workflows", "Queue", "Gallery", "Models", "Sweep")


def faults(page: Page) -> list[str]:
    """The serious problems that axe finds on the current page."""
    page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def picture(editor: Editor) -> None:
    """Make a picture, with an input on the form."""
    editor.add("paint", 500, 150)
    editor.add("save image", 900, 150)
    editor.link(editor.output("Paint"), editor.input("Save image", "images"))
    editor.input("Paint", "hue").click(button="right")
    editor.choose("Show on the form")


@pytest.mark.skipif(not AXE.exists(), reason="axe is one of the packages that `make web` fetches")
@pytest.mark.parametrize("theme", ["Light theme", "Dark theme"])
def test_axe_finds_nothing_serious(editor: Editor, theme: str) -> None:
    editor.until(lambda: editor.button(re.compile("[Tt]heme")).click() or editor.button(theme).is_visible())
    picture(editor)
    editor.add("text", 500, 650)
    editor.page.mouse.click(1100, 650, button="right")
    editor.choose("Add a note")
    queue = editor.panel("Queue")
    queue.get_by_role("button", name="Pause the queue").click()
    editor.run()
    expect(editor.button("Queue 1")).to_be_visible()
    found = {"a job that waits": faults(editor.page)}
    queue.get_by_role("button", name="Resume the queue").click()
    editor.ended()
    found["graph"] = faults(editor.page)
    for name in PANELS:
        editor.panel(name)
        found[name] = faults(editor.page)
    editor.button("Close the panel").click()
    editor.menu_of("Paint")
    found["menu"] = faults(editor.page)
    editor.press("Escape")
    editor.leave_fields()
    editor.press("/")
    found["search"] = faults(editor.page)
    editor.press("Escape")
    editor.button("Keyboard shortcuts").click()
    found["shortcuts"] = faults(editor.page)
    editor.press("Escape")
    editor.button("Form").click()
    expect(editor.page.get_by_role("region", name="Results")).to_be_visible()
    found["form"] = faults(editor.page)
    assert {place: problems for place, problems in found.items() if problems} == {}


def test_the_theme_follows_the_system_until_one_is_chosen(server: Live, browser: Browser) -> None:
    with Editor.opened(browser, server, color_scheme="dark") as editor:
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = editor.page.evaluate(ground)
        editor.button("System theme").click()
        expect(editor.button("Light theme")).to_be_visible()
        light = editor.page.evaluate(ground)
        assert light != dark
        colour = "each => getComputedStyle(each).color"
        assert editor.heading("Theme").evaluate(colour) == editor.page.locator("body").evaluate(colour)
        editor.button("Light theme").click()
        editor.page.reload()
        expect(editor.button("Dark theme")).to_be_visible()
        assert editor.page.evaluate(ground) == dark


def test_two_nodes_are_added_linked_and_run_with_the_keyboard_alone(editor: Editor) -> None:
    for kind in ("text", "preview text"):
        editor.press("/")
        editor.page.keyboard.type(kind)
        editor.press("Enter")
        title = kind.capitalize()
        expect(editor.page.locator(":focus")).to_have_attribute("aria-label", title)
        if title == "Text":
            editor.press("Enter")
            expect(editor.page.locator(":focus")).to_have_attribute("aria-label", "text")
            editor.page.keyboard.type("by hand")
            editor.press("Escape")
    reach(editor, "input text of Preview text", "Tab")
    editor.press("Enter")
    menu = editor.page.get_by_role("menu", name="Socket text")
    expect(menu).to_be_visible()
    while "Link from" not in editor.page.locator(":focus").inner_text():
        editor.press("ArrowDown")
    editor.press("Enter")
    expect(editor.links).to_have_count(1)
    editor.press("Control+Enter")
    editor.ended()
    expect(editor.card("Preview text")).to_contain_text("by hand")


def reach(editor: Editor, name: str, key: str) -> None:
    """Press a key until the element with a name has the focus."""
    for _ in range(60):
        editor.press(key)
        if editor.page.locator(":focus").get_attribute("aria-label") == name:
            return
    raise AssertionError(f"{name} can't be reached")


def test_a_node_is_moved_and_deleted_with_the_keyboard(editor: Editor) -> None:
    editor.press("/")
    editor.page.keyboard.type("text")
    editor.press("Enter")
    card = editor.card("Text")
    expect(card).to_be_focused()
    before = card.bounding_box()
    editor.press("ArrowRight")
    editor.press("ArrowRight")
    editor.until(lambda: card.bounding_box() != before)
    editor.press("Delete")
    expect(editor.cards).to_have_count(0)


def test_a_link_is_made_with_two_taps(server: Live, browser: Browser) -> None:
    with Editor.opened(browser, server, has_touch=True, viewport={"width": 1000, "height": 700}) as editor:
        editor.new()
        editor.button("Add node").tap()
        editor.page.get_by_role("option", name="Empty image").tap()
        editor.button("Add node").tap()
        editor.page.get_by_role("option", name="Save image").tap()
        expect(editor.cards).to_have_count(2)
        editor.button("Arrange the nodes").tap()
        editor.until(lambda: apart(editor))
        editor.output("Empty image").tap()
        expect(editor.input("Save image", "images")).to_contain_class("lit")
        editor.input("Save image", "images").tap()
        expect(editor.links).to_have_count(1)
        assert editor.complaints == []


def test_fingers_drag_nodes_move_the_view_and_pinch(server: Live, browser: Browser) -> None:
    with Editor.opened(browser, server, has_touch=True, viewport={"width": 1000, "height": 700}) as editor:
        editor.new()
        for kind in ("Empty image", "Save image"):
            editor.button("Add node").tap()
            editor.page.get_by_role("option", name=kind).tap()
        editor.button("Arrange the nodes").tap()
        editor.until(lambda: apart(editor))
        editor.button("Show all").tap()
        one, other = centre(editor.heading("Empty image")), centre(editor.heading("Save image"))
        editor.touch((one, (one[0] + 80, one[1])))
        editor.until(lambda: centre(editor.heading("Empty image"))[0] > one[0] + 50)
        assert centre(editor.heading("Save image")) == other
        editor.touch(((200, 600), (300, 560)))
        editor.until(lambda: shifted(other, centre(editor.heading("Save image"))) == (100, -40))
        wide = editor.card("Save image").bounding_box()
        assert wide
        editor.touch(((270, 300), (170, 300)), ((310, 300), (410, 300)))
        editor.until(lambda: (editor.card("Save image").bounding_box() or wide)["width"] > 1.5 * wide["width"])
        assert editor.complaints == []


def shifted(before: tuple[float, float], after: tuple[float, float]) -> tuple[int, int]:
    return round(after[0] - before[0]), round(after[1] - before[1])


def apart(editor: Editor) -> bool:
    one, other = editor.card("Empty image").bounding_box(), editor.card("Save image").bounding_box()
    return bool(one and other and abs(one["y"] - other["y"]) > min(one["height"], other["height"]))


def test_everything_has_an_accessible_name(editor: Editor) -> None:
    picture(editor)
    expect(editor.page.get_by_role("main", name="Graph")).to_match_aria_snapshot("""
      - main "Graph":
        - application "Graph of the workflow":
          - group "Paint":
            - button "Fold" [expanded]
            - button "Menu of Paint"
            - list "Outputs":
              - listitem:
                - button "output out of Paint"
            - list "Fields":
              - listitem:
                - button "input hue of Paint"
                - combobox "hue"
              - listitem:
                - button "input rows of Paint"
                - slider "rows, slider"
                - spinbutton "rows"
    """)
    nameless = editor.page.locator("button, input, select, textarea").evaluate_all(
        """all => all.filter(each => !each.ariaLabel && !each.textContent && !each.labels?.length)
                     .map(each => each.outerHTML)"""
    )
    assert nameless == []


def test_a_form_stands_for_the_graph(editor: Editor) -> None:
    picture(editor)
    editor.button("Form").click()
    form = editor.page.get_by_role("main", name="Form")
    form.get_by_role("combobox", name="hue").select_option("blue")
    form.get_by_role("button", name="Run").click()
    results = form.get_by_role("region", name="Results")
    expect(results.get_by_role("img", name=re.compile("png$"))).to_be_visible()
    editor.button("Graph").click()
    expect(editor.field("Paint", "hue").locator("option:checked")).to_have_text("blue")
    document = editor.document()
    assert document["inputs"] == {"hue": "paint.hue"}
    assert json.dumps(document["graph"]["paint"]["inputs"]) == '{"hue": "blue"}'
