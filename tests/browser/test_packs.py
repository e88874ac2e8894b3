"""Kinds from packs, packs that could not be loaded, and deprecated kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.editor import Editor
from tests.browser.test_access import AXE, faults
from tests.server.live import Live

PACKS = [
    {"name": "kinograph-toys", "version": "1.2.0", "kinds": ["Paint"], "problem": None},
    {"name": "kinograph-fog", "version": "0.3.1", "kinds": [], "problem": "No module named 'fog'"},
]
TOLD = "The pack kinograph-fog 0.3.1 could not be loaded. No module named 'fog'"


def _kinds(route: Route) -> None:
    """The server's own kinds; `Paint` comes from a pack, `Recite` and an input of `Paint` are deprecated."""
    kinds: dict[str, dict[str, Any]] = route.fetch().json()
    for kind in kinds.values():
        kind |= {"pack": None, "deprecated": ""}
    kinds["Paint"]["pack"] = "kinograph-toys"
    kinds["Recite"]["deprecated"] = "use Text instead"
    next(each for each in kinds["Paint"]["inputs"] if each["name"] == "rows")["deprecated"] = "use ImageScale instead"
    route.fulfill(json=kinds)


@pytest.fixture
def editor(server: Live, browser: Browser) -> Iterator[Editor]:
    """The editor of a server with packs."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.route("**/api/kinograph/nodes", _kinds)
    context.route("**/api/kinograph/packs", lambda route: route.fulfill(json={"packs": PACKS}))
    try:
        editor = Editor.on(context, server)
        editor.new()
        yield editor
        assert editor.complaints == []
    finally:
        context.close()


def test_the_search_names_packs_and_lists_deprecated_kinds_last(editor: Editor) -> None:
    editor.press("/")
    kinds = editor.page.get_by_role("listbox", name="Kinds of node").get_by_role("option")
    expect(kinds.last).to_contain_text("Recite")
    expect(kinds.last).to_contain_text("Deprecated: use Text instead")
    search = editor.page.get_by_role("combobox", name="Add a node")
    search.fill("kinograph-toys")
    expect(kinds).to_have_count(1)
    expect(kinds).to_contain_text("Paint")


def test_a_pack_that_could_not_be_loaded_is_named_where_its_kinds_are_missing(editor: Editor) -> None:
    editor.press("/")
    failed = editor.page.get_by_role("region", name="Packs that could not be loaded")
    expect(failed).to_contain_text(TOLD)
    expect(failed).not_to_contain_text("kinograph-toys")
    search = editor.page.get_by_role("combobox", name="Add a node")
    expect(search).to_have_accessible_description(TOLD)
    editor.press("Escape")
    editor.open({"kinograph": 1, "graph": {"1": {"class_type": "Fog", "inputs": {}}}})
    expect(editor.card("Fog")).to_contain_text("The kind “Fog” is not available.")
    expect(editor.card("Fog")).to_contain_text("kinograph-fog")


def test_a_card_names_its_pack_and_what_to_use_instead(editor: Editor) -> None:
    editor.add("paint", 150, 150)
    editor.add("recite", 600, 150)
    paint, recite = editor.card("Paint"), editor.card("Recite")
    expect(paint.get_by_role("img", name="From the pack kinograph-toys")).to_be_visible()
    expect(recite.get_by_text("Deprecated: use Text instead")).to_be_visible()
    expect(paint.get_by_role("img", name="Deprecated: use ImageScale instead")).to_be_visible()
    expect(editor.field("Paint", "rows (deprecated)")).to_have_value("8")
    editor.menu_of("Paint")
    editor.choose("About this kind")
    about = editor.page.get_by_role("dialog", name="Paint")
    expect(about).to_contain_text("From the pack kinograph-toys")
    expect(about).to_contain_text("Deprecated: use ImageScale instead")


@pytest.mark.skipif(not AXE.exists(), reason="axe is one of the packages that `make web` fetches")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_accessible(editor: Editor, scheme: Any) -> None:
    editor.page.emulate_media(color_scheme=scheme)
    editor.add("paint", 150, 150)
    editor.add("recite", 600, 150)
    found = faults(editor.page)
    editor.leave_fields()
    editor.press("/")
    assert [*found, *faults(editor.page)] == []
