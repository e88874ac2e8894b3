"""Building graphs by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

from playwright.sync_api import expect

from tests.browser.editor import Editor, centre


def pair(editor: Editor) -> None:
    """Build a text that is saved."""
    editor.add("text", 150, 150)
    editor.add("save text", 600, 150)
    editor.link(editor.output("Text"), editor.input("Save text", "text"))


def test_only_fitting_sockets_are_lit_and_a_wrong_link_is_refused(editor: Editor) -> None:
    editor.add("empty image", 150, 150)
    editor.add("save image", 600, 150)
    editor.add("save text", 600, 500)
    editor.output("Empty image").hover()
    editor.page.mouse.down()
    editor.page.mouse.move(500, 400, steps=4)
    expect(editor.page.locator(".socket.lit")).to_have_count(1)
    expect(editor.input("Save image", "images")).to_contain_class("lit")
    expect(editor.input("Save text", "text")).to_contain_class("dim")
    editor.input("Save text", "text").hover(force=True)
    editor.page.mouse.up()
    expect(editor.page.locator(".socket.lit")).to_have_count(0)
    expect(editor.links).to_have_count(0)


def test_a_link_may_not_close_a_cycle(editor: Editor) -> None:
    editor.add("scale", 150, 150)
    editor.add("pick image", 600, 150)
    editor.link(editor.output("Image scale"), editor.input("Pick image", "images"))
    editor.output("Pick image").hover()
    editor.page.mouse.down()
    editor.page.mouse.move(500, 600, steps=4)
    expect(editor.page.locator(".socket.lit")).to_have_count(0)
    editor.page.mouse.up()


def test_a_link_dropped_on_nothing_asks_for_a_node_that_fits(editor: Editor) -> None:
    editor.add("empty image", 150, 150)
    editor.output("Empty image").hover()
    editor.page.mouse.down()
    editor.page.mouse.move(650, 300, steps=4)
    editor.page.mouse.up()
    kinds = editor.page.get_by_role("listbox", name="Kinds of node")
    expect(kinds.get_by_role("option", name="Save image")).to_be_visible()
    expect(kinds.get_by_role("option", name="Save text")).to_have_count(0)
    editor.page.keyboard.type("save image")
    editor.press("Enter")
    expect(editor.links).to_have_count(1)


def test_changes_are_undone_and_redone(editor: Editor) -> None:
    pair(editor)
    editor.leave_fields()
    editor.press("Control+z")
    expect(editor.links).to_have_count(0)
    editor.press("Control+z")
    expect(editor.cards).to_have_count(1)
    editor.press("Control+Shift+z")
    editor.button("Redo").click()
    expect(editor.cards).to_have_count(2)
    expect(editor.links).to_have_count(1)


def test_nodes_are_copied_with_the_links_between_them(editor: Editor) -> None:
    pair(editor)
    editor.fill("Text", "text", "hello")
    editor.select("Text", "Save text")
    editor.press("Control+c")
    editor.page.mouse.move(300, 600)
    editor.press("Control+v")
    expect(editor.cards).to_have_count(4)
    expect(editor.links).to_have_count(2)
    editor.press("Control+d")
    expect(editor.cards).to_have_count(6)
    assert [node["inputs"].get("text") for node in editor.graph.values()].count("hello") == 3


def test_all_nodes_are_chosen_cut_and_pasted_elsewhere(editor: Editor) -> None:
    pair(editor)
    editor.leave_fields()
    editor.press("Control+a")
    expect(editor.page.locator(".react-flow__node.selected")).to_have_count(2)
    editor.press("Control+x")
    expect(editor.cards).to_have_count(0)
    editor.page.mouse.move(300, 500)
    editor.press("Control+v")
    expect(editor.cards).to_have_count(2)
    expect(editor.links).to_have_count(1)


def test_several_nodes_are_chosen_with_a_box_and_deleted(editor: Editor) -> None:
    pair(editor)
    editor.add("paint", 150, 600)
    editor.page.keyboard.down("Shift")
    editor.drag((110, 90), (1000, 420))
    editor.page.keyboard.up("Shift")
    expect(editor.page.locator(".react-flow__node.selected")).to_have_count(2)
    editor.press("Delete")
    expect(editor.cards).to_have_count(1)
    expect(editor.card("Paint")).to_be_visible()


def test_nodes_are_muted_and_bypassed(editor: Editor) -> None:
    pair(editor)
    editor.select("Text")
    editor.press("m")
    expect(editor.card("Text")).to_contain_text("muted")
    editor.press("m")
    expect(editor.card("Text")).not_to_contain_text("muted")
    editor.menu_of("Save text")
    editor.choose("Bypass")
    expect(editor.card("Save text")).to_contain_text("bypassed")
    assert editor.graph["save_text"]["_meta"]["mode"] == "bypass"


def test_a_node_is_renamed_and_folded(editor: Editor) -> None:
    editor.add("paint", 150, 150)
    editor.heading("Paint").dblclick()
    editor.page.get_by_role("textbox", name="Title of Paint").fill("Sky")
    editor.press("Enter")
    editor.card("Sky").get_by_role("button", name="Fold").click()
    expect(editor.field("Sky", "rows")).to_have_count(0)
    editor.card("Sky").get_by_role("button", name="Unfold").click()
    expect(editor.field("Sky", "rows")).to_be_visible()


def test_a_group_moves_its_contents(editor: Editor) -> None:
    editor.add("text", 300, 250)
    editor.select("Text")
    editor.press("g")
    editor.page.get_by_role("textbox", name="Title of the group").fill("Words")
    group, card = editor.page.locator(".react-flow__node-group"), editor.card("Text")
    before, inside = group.bounding_box(), card.bounding_box()
    assert before
    assert inside
    edge = (before["x"] + 14, before["y"] + before["height"] - 14)
    editor.drag(edge, (edge[0] + 200, edge[1] + 60))
    editor.until(lambda: (group.bounding_box() or before)["x"] > before["x"] + 150)
    expect(editor.page.locator(".react-flow__node.dragging")).to_have_count(0)
    now, within = group.bounding_box(), card.bounding_box()
    assert now
    assert within
    for side in ("x", "y"):
        assert round(now[side] - before[side]) == round(within[side] - inside[side])


def test_a_note_is_written(editor: Editor) -> None:
    editor.page.mouse.click(400, 300, button="right")
    editor.choose("Add a note")
    note = editor.page.get_by_role("textbox", name="Note", exact=True)
    note.fill("Fewer steps draw faster.")
    (text,) = [note["text"] for note in editor.document()["layout"]["notes"].values()]
    assert text == "Fewer steps draw faster."


def test_a_subgraph_is_made_entered_left_and_expanded(editor: Editor) -> None:
    editor.add("recite", 120, 150)
    editor.add("recite", 480, 150)
    editor.add("preview text", 850, 150)
    editor.heading("Recite").nth(1).dblclick()
    editor.page.get_by_role("textbox", name="Title of Recite").fill("Again")
    editor.press("Enter")
    expect(editor.card("Again")).to_be_visible()
    editor.link(editor.output("Recite"), editor.input("Again", "text"))
    editor.link(editor.output("Again"), editor.input("Preview text", "text"))
    editor.fill("Recite", "text", "one two")
    editor.select("Recite", "Again")
    editor.press("Control+g")
    editor.page.get_by_role("textbox", name="Title of Subgraph").fill("Speech")
    editor.press("Enter")
    expect(editor.cards).to_have_count(2)
    editor.run()
    editor.ended()
    expect(editor.card("Preview text")).to_contain_text("one two")
    editor.heading("Speech").click()
    editor.press("e")
    expect(editor.card("Again")).to_be_visible()
    expect(editor.state("Again", "done")).to_be_visible()
    crumbs = editor.page.get_by_role("navigation", name="Breadcrumbs")
    expect(crumbs.get_by_role("button", name="Speech")).to_have_attribute("aria-current", "page")
    crumbs.get_by_role("button", name="Untitled").click()
    editor.menu_of("Speech")
    editor.choose("Expand the subgraph")
    expect(editor.cards).to_have_count(3)
    expect(editor.links).to_have_count(2)


def test_a_new_node_does_not_take_the_focus_from_a_field(editor: Editor) -> None:
    editor.page.clock.install()
    editor.page.clock.pause_at(datetime.now() + timedelta(hours=1))
    editor.add("recite", 120, 150)
    editor.field("Recite", "text").fill("one")
    editor.page.clock.run_for(1000)
    editor.page.keyboard.type(" two")
    expect(editor.field("Recite", "text")).to_have_value("one two")


def test_a_fitted_empty_canvas_does_not_move_when_a_node_is_added(editor: Editor) -> None:
    editor.press("f")
    editor.add("text", 150, 150)
    editor.add("save text", 600, 150)
    boxes = [editor.card(title).bounding_box() for title in ("Text", "Save text")]
    assert [(box["x"], box["y"], box["width"]) for box in boxes if box] == [(150, 150, 280), (600, 150, 280)]


def test_a_link_is_bent_and_straightened(editor: Editor) -> None:
    pair(editor)
    x, y = centre(editor.links.first.locator(".react-flow__edge-path"))
    editor.page.mouse.dblclick(x, y)
    bend = editor.page.locator("circle.bend")
    expect(bend).to_have_count(1)
    editor.drag(centre(bend), (x, y + 150))
    editor.until(lambda: abs(centre(bend)[1] - y - 150) < 3)
    bend.dblclick()
    expect(bend).to_have_count(0)


def test_a_link_is_cut(editor: Editor) -> None:
    pair(editor)
    editor.page.mouse.click(*centre(editor.links.first), button="right")
    editor.choose("Delete the link")
    expect(editor.links).to_have_count(0)


def test_nodes_are_arranged_so_that_links_lead_to_the_right(editor: Editor) -> None:
    editor.add("save text", 150, 150)
    editor.add("text", 600, 450)
    editor.link(editor.output("Text"), editor.input("Save text", "text"))
    editor.leave_fields()
    editor.press("l")
    expect(editor.card("Text")).to_be_visible()
    editor.page.wait_for_function(
        "([one, other]) => one.getBoundingClientRect().right < other.getBoundingClientRect().left",
        arg=[editor.card("Text").element_handle(), editor.card("Save text").element_handle()],
    )


def test_everything_is_brought_into_sight(editor: Editor) -> None:
    pair(editor)
    editor.leave_fields()
    editor.drag((700, 700), (2600, 1400))
    expect(editor.card("Text")).to_have_count(0)  # what is out of view isn't drawn
    editor.press("f")
    expect(editor.card("Text")).to_be_in_viewport()
    expect(editor.card("Save text")).to_be_in_viewport()
    size = centre(editor.card("Save text"))[0] - centre(editor.card("Text"))[0]
    editor.button("Zoom out").click()
    editor.until(lambda: centre(editor.card("Save text"))[0] - centre(editor.card("Text"))[0] < size)


def test_the_map_shows_all_and_moves_the_view(editor: Editor) -> None:
    pair(editor)
    small = editor.page.get_by_role("img", name="Map of the graph")
    expect(small.locator("rect")).to_have_count(2)
    before = centre(editor.card("Text"))
    x, y = centre(small)
    editor.drag((x, y), (x + 20, y))
    editor.until(lambda: centre(editor.card("Text"))[0] < before[0])


def test_the_list_of_shortcuts_opens_and_closes(editor: Editor) -> None:
    editor.press("?")
    shortcuts = editor.page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(shortcuts.get_by_text("Undo")).to_be_visible()
    editor.press("Escape")
    expect(shortcuts).to_have_count(0)
    editor.button("Keyboard shortcuts").click()
    shortcuts.get_by_role("button", name="Close").click()
    expect(shortcuts).to_have_count(0)


def test_a_seed_is_rolled(editor: Editor) -> None:
    editor.add("paint", 150, 150)
    editor.button("Roll another seed").click()
    expect(editor.field("Paint", "seed")).not_to_have_value("0")


def test_a_slider_is_dragged_and_its_node_stays(editor: Editor) -> None:
    editor.add("paint", 150, 150)
    slider = editor.card("Paint").get_by_role("slider", name="rows, slider")
    x, y = centre(slider)
    before = editor.card("Paint").bounding_box()
    editor.drag((x, y), (x + 300, y))
    expect(editor.field("Paint", "rows")).to_have_value("200")
    editor.drag((x, y), (x - 300, y))
    expect(editor.field("Paint", "rows")).to_have_value("1")
    assert editor.card("Paint").bounding_box() == before


def test_a_model_is_chosen_from_the_available_ones(editor: Editor) -> None:
    editor.add("image model", 150, 150)
    field = editor.field("Image model load", "source")
    field.fill("sprite/sdx")
    expect(field).to_have_attribute("aria-invalid", "true")
    offered = field.evaluate("field => [...field.list.options].map((option) => option.value)")
    (wanted,) = [source for source in offered if source.startswith("sprite/sdx")]
    field.fill(wanted)  # a headless browser has no list to choose it from
    expect(field).to_have_attribute("aria-invalid", "false")


def test_a_kind_has_its_help(editor: Editor) -> None:
    editor.add("paint", 150, 150)
    editor.menu_of("Paint")
    editor.choose("About this kind")
    about = editor.page.get_by_role("dialog", name="Paint")
    expect(about).to_contain_text("Paint a picture row by row, and show it meanwhile.")
    expect(about).to_contain_text("How many rows.")
