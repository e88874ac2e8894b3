"""Workflows are saved, restored, and opened from files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.editor import Editor
from tests.cli.test_documents import save_png, save_webp
from tests.engine.drawn import link, node, socket, subgraph, ui
from tests.server.conftest import png

COMFYUI = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "pos": [40, 60],
            "size": [300, 130],
            "flags": {},
            "order": 0,
            "mode": 0,
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "properties": {},
            "widgets_values": [64, 48, 1, 255],
        },
        {
            "id": 2,
            "type": "PreviewImage",
            "pos": [440, 60],
            "size": [300, 130],
            "flags": {},
            "order": 1,
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "properties": {},
            "widgets_values": [],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}


def made(editor: Editor, suffix: str) -> Path:
    """The newest file of a type in the output folder."""
    found = sorted((editor.server.folder / "output").rglob(f"*{suffix}"), key=lambda path: path.stat().st_mtime)
    return found[-1]


def title(editor: Editor, text: str) -> None:
    editor.page.get_by_role("textbox", name="Title of the workflow").fill(text)
    editor.leave_fields()


def picture(editor: Editor) -> None:
    editor.add("empty image", 150, 150)
    editor.add("save image", 600, 150)
    editor.link(editor.output("Empty image"), editor.input("Save image", "images"))
    editor.fill("Empty image", "color", 255)


def test_a_template_is_opened(editor: Editor) -> None:
    panel = editor.panel("Workflows")
    panel.get_by_role("button", name="Key frames from a text").last.click()
    expect(editor.cards).to_have_count(3)
    expect(editor.page.get_by_role("textbox", name="Title of the workflow")).to_have_value("Key frames from a text")


def test_a_workflow_is_saved_and_an_older_version_restored(editor: Editor) -> None:
    editor.add("text", 150, 150)
    editor.fill("Text", "text", "first")
    title(editor, "Two versions")
    editor.press("Control+s")
    expect(editor.toast).to_contain_text("Saved as “Two versions”")
    editor.fill("Text", "text", "second")
    editor.press("Control+s")
    panel = editor.panel("Workflows")
    panel.get_by_role("button", name="Versions of Two versions (2)").click()
    panel.get_by_role("button", name="Restore version 1").click()
    expect(editor.field("Text", "text")).to_have_value("first")


def test_values_that_are_left_out_of_a_foreign_file_are_listed(editor: Editor) -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "shine": 3}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0], "zoom": 2}},
    }
    editor.drop(json.dumps(graph).encode(), "foreign.json")
    expect(editor.toast).to_contain_text("2 values were left out")
    listed = editor.page.get_by_role("button", name="2 values were left out")
    listed.click()
    editor.page.get_by_role("menuitem", name="Preview image, zoom").click()
    expect(editor.card("Preview image")).to_be_focused()
    listed.click()
    editor.page.get_by_role("menuitem", name="Remove this list").click()
    expect(listed).to_be_hidden()
    assert "shine" not in editor.document()["graph"]["1"]["inputs"]


def test_changes_are_saved_before_something_else_is_opened(editor: Editor) -> None:
    editor.add("text", 150, 150)
    title(editor, "In a hurry")
    editor.fill("Text", "text", "hardly written")
    editor.leave_fields()
    editor.new()
    editor.add("paint", 150, 150)
    title(editor, "In a hurry too")
    editor.drop(json.dumps(COMFYUI).encode(), "comfyui.json")
    expect(editor.card("Preview image")).to_be_visible()
    panel = editor.panel("Workflows")
    expect(panel.get_by_role("button", name=re.compile("^In a hurry too"))).to_be_visible()
    panel.get_by_role("button", name=re.compile("^In a hurry In")).click()
    expect(editor.field("Text", "text")).to_have_value("hardly written")


def test_changes_become_a_version_when_an_older_one_is_restored(editor: Editor) -> None:
    editor.add("text", 150, 150)
    editor.fill("Text", "text", "first")
    title(editor, "Three versions")
    editor.press("Control+s")
    panel = editor.panel("Workflows")
    panel.get_by_role("button", name="Versions of Three versions (1)").click()
    editor.fill("Text", "text", "second")
    panel.get_by_role("button", name="Restore version 1").click()
    expect(editor.field("Text", "text")).to_have_value("first")
    panel.get_by_role("button", name="Restore version 2").click()
    expect(editor.field("Text", "text")).to_have_value("second")


def test_nothing_is_opened_over_changes_that_cannot_be_saved(editor: Editor) -> None:
    editor.add("text", 150, 150)
    editor.fill("Text", "text", "not to be lost")
    editor.page.route("**/workflows", lambda route: route.abort())
    editor.leave_fields()
    editor.press("Alt+n")
    expect(editor.toast).to_contain_text("Nothing else was opened because the last changes could not be saved")
    expect(editor.field("Text", "text")).to_have_value("not to be lost")
    editor.document()  # once it is downloaded, it may be left
    editor.new()
    editor.forgive("ERR_FAILED")


def test_edits_without_a_pause_are_saved_nevertheless(editor: Editor) -> None:
    editor.page.clock.install()
    editor.page.reload()
    expect(editor.page.get_by_text("Connected")).to_be_visible()
    editor.page.clock.pause_at(datetime.now() + timedelta(hours=1))
    editor.add("text", 150, 150)
    for number in range(10):
        editor.fill("Text", "text", number)
        editor.page.clock.run_for(2000)
    expect(editor.page.get_by_text(re.compile(r"^Sav(ed as|ing) Untitled"))).to_be_visible()


def test_an_unchanged_workflow_is_not_saved(editor: Editor) -> None:
    editor.drop(json.dumps({**COMFYUI, "extra": {"title": "Only looked at"}}).encode(), "looked-at.json")
    expect(editor.card("Preview image")).to_be_visible()
    editor.page.reload()
    expect(editor.card("Preview image")).to_be_visible()
    with editor.page.expect_request(lambda request: request.method == "PUT") as saved:
        editor.page.wait_for_timeout(4500)
        editor.new()
        editor.add("text", 150, 150)
        title(editor, "Changed")
        editor.press("Control+s")
    assert urlsplit(saved.value.url).path.endswith("/Changed")


SLOW_TO_ANSWER = """() => {
  const send = window.fetch;
  window.fetch = async (...how) => {
    const answer = await send(...how);
    if (how[1]?.method === "PUT") await new Promise((go) => setTimeout(go, 1000));
    return answer;
  };
}"""


def test_saving_again_during_a_save_makes_no_second_workflow(editor: Editor) -> None:
    editor.add("text", 150, 150)
    title(editor, "Only one")
    editor.page.evaluate(SLOW_TO_ANSWER)
    with editor.page.expect_request(lambda request: request.method == "PUT"):
        editor.press("Control+s")
    editor.page.wait_for_timeout(300)
    editor.press("Control+s")
    expect(editor.page.locator(".toasts p", has_text="Saved as “Only one”")).to_have_count(2)
    expect(editor.panel("Workflows").get_by_role("button", name=re.compile("^Delete Only one"))).to_have_count(1)


def test_changes_of_a_workflow_in_two_windows_are_kept_apart(editor: Editor) -> None:
    editor.add("text", 150, 150)
    title(editor, "Shared")
    editor.press("Control+s")
    expect(editor.toast).to_contain_text("Saved as “Shared”")
    other = Editor.on(editor.page.context, editor.server)
    other.panel("Workflows").get_by_role("button", name=re.compile("^Shared Shared")).click()
    other.fill("Text", "text", "from there")
    other.press("Control+s")
    expect(other.toast).to_contain_text("Saved as “Shared”")
    editor.fill("Text", "text", "from here")
    editor.press("Control+s")
    expect(editor.page.get_by_text("Your version is saved as “Shared 2”")).to_be_visible()
    panel = editor.panel("Workflows")
    for name, text in (("Shared 2", "from here"), ("Shared(?! 2)", "from there")):
        panel.get_by_role("button", name=re.compile(f"^Shared {name}")).click()
        expect(editor.field("Text", "text")).to_have_value(text)
    editor.forgive(409)


def test_a_workflow_is_deleted_after_confirmation(editor: Editor) -> None:
    editor.add("text", 150, 150)
    title(editor, "To be deleted")
    editor.press("Control+s")
    panel = editor.panel("Workflows")
    panel.get_by_role("button", name="Delete To be deleted").click()
    panel.get_by_role("button", name="Really delete To be deleted?").click()
    expect(panel.get_by_role("button", name="Delete To be deleted")).to_have_count(0)


def test_a_new_workflow_is_saved_automatically_and_survives_reloading(editor: Editor) -> None:
    editor.add("text", 150, 150)
    editor.fill("Text", "text", "a draft")
    expect(editor.page.get_by_text(re.compile(r"^Saved as Untitled"))).to_be_visible()
    editor.fill("Text", "text", "a later draft")
    editor.page.reload()
    expect(editor.field("Text", "text")).to_have_value("a later draft")
    expect(editor.page.get_by_text(re.compile(r"^Saved as Untitled"))).to_be_visible()


def test_a_picture_that_was_saved_opens_its_workflow(editor: Editor) -> None:
    picture(editor)
    editor.run()
    editor.ended()
    saved = made(editor, ".png")
    editor.new()
    editor.drop(saved)
    expect(editor.card("Empty image")).to_be_visible()
    expect(editor.field("Empty image", "color")).to_have_value("255")
    expect(editor.links).to_have_count(1)


def test_a_video_that_was_saved_opens_its_workflow(editor: Editor) -> None:
    editor.add("empty image", 120, 150)
    editor.add("create video", 480, 150)
    editor.add("save video", 850, 150)
    editor.fill("Empty image", "batch size", 4)
    editor.link(editor.output("Empty image"), editor.input("Create video", "images"))
    editor.link(editor.output("Create video"), editor.input("Save video", "video"))
    editor.run()
    editor.ended()
    saved = made(editor, ".mp4")
    editor.new()
    editor.drop(saved)
    expect(editor.cards).to_have_count(3)
    expect(editor.links).to_have_count(2)


def test_a_workflow_of_comfyuis_editor_is_imported(editor: Editor) -> None:
    editor.drop(json.dumps(COMFYUI).encode(), "comfyui.json")
    expect(editor.card("Preview image")).to_be_visible()
    expect(editor.field("Empty image", "height")).to_have_value("48")
    expect(editor.links).to_have_count(1)
    editor.run()
    editor.ended()
    expect(editor.card("Preview image").get_by_role("img", name=re.compile("png$"))).to_be_visible()


LINKS = [link(1, 1, 0, 2), link(2, 2, 0, 3), link(3, 3, 0, 4), link(4, 4, 0, 5)]
HALF = subgraph(
    "5d1e",
    "Half as large",
    node(1, "ImageScale", ["area", 24, 16, "disabled"], inputs=[socket("image", 1)]),
    links=[link(1, -10, 0, 1), link(2, 1, 0, -20)],
    inputs=[{"name": "image"}],
    outputs=[{"name": "picture"}],
)
WINDING = ui(
    node(1, "PrimitiveNode", [48, "fixed"]),
    node(2, "EmptyImage", [64, 32, 1, 255], inputs=[socket("width", 1, widget=True)]),
    node(3, "Reroute", inputs=[socket("", 2)]),
    node(4, "5d1e", inputs=[socket("image", 3)]),
    node(5, "PreviewImage", inputs=[socket("images", 4)]),
    links=LINKS,
    definitions={"subgraphs": [HALF]},
)
"""A picture, with its width from a primitive, goes through a reroute into a subgraph."""


@pytest.mark.parametrize("workflow", [WINDING, {**WINDING, "version": 1, "links": LINKS}], ids=["0.4", "1.0"])
def test_primitives_reroutes_and_subgraphs_of_comfyui_are_imported(editor: Editor, workflow: dict[str, Any]) -> None:
    editor.drop(json.dumps(workflow).encode(), "winding.json")
    expect(editor.cards).to_have_count(3)
    expect(editor.links).to_have_count(2)
    expect(editor.field("Empty image", "width")).to_have_value("48")
    editor.run()
    editor.ended()
    picture = editor.card("Preview image").get_by_role("img", name=re.compile("png$"))
    assert picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [24, 16]
    editor.heading("Half as large").click()
    editor.press("e")
    expect(editor.field("Image scale", "upscale method").locator("option:checked")).to_have_text("area")


API = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 48, "height": 32, "batch_size": 1, "color": 255}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def test_a_workflow_in_the_api_format_is_imported(editor: Editor) -> None:
    editor.drop(json.dumps(API).encode(), "api.json")
    expect(editor.cards).to_have_count(2)
    expect(editor.links).to_have_count(1)
    expect(editor.field("Empty image", "width")).to_have_value("48")


@pytest.mark.parametrize(("save", "name"), [(save_png, "a.png"), (save_webp, "a.webp")])
def test_a_picture_that_comfyui_wrote_opens_its_workflow(
    editor: Editor, tmp_path: Path, save: Callable[..., None], name: str
) -> None:
    save(tmp_path / name, prompt=API, workflow=COMFYUI)
    editor.drop(tmp_path / name)
    expect(editor.cards).to_have_count(2)
    expect(editor.links).to_have_count(1)
    expect(editor.field("Empty image", "height")).to_have_value("48")


def test_any_other_picture_becomes_a_node_that_loads_it(editor: Editor) -> None:
    editor.drop(png((20, 10), "blue"), "sea.png", "image/png")
    expect(editor.field("Load image", "image")).to_have_value("sea.png")
    editor.forgive(400)  # the editor looked for a workflow in the picture first


def test_a_file_that_is_no_workflow_is_refused(editor: Editor) -> None:
    editor.drop(b"{", "broken.json")
    expect(editor.page.locator(".toasts .bad")).to_be_visible()
    editor.forgive(400)


def test_a_file_that_cannot_be_read_now_is_reported(editor: Editor) -> None:
    editor.page.route("**/convert", lambda route: route.abort())
    editor.drop(png((20, 10), "blue"), "sea.png", "image/png")
    expect(editor.page.locator(".toasts .bad")).to_be_visible()
    editor.forgive("ERR_FAILED")


def test_a_file_dropped_on_an_input_is_uploaded(editor: Editor) -> None:
    editor.add("load image", 150, 150)
    field = editor.field("Load image", "image")
    editor.drop(png((20, 10), "green"), "grass.png", "image/png", on=field)
    expect(field).to_have_value("grass.png")
    expect(editor.card("Load image").locator(".media img")).to_be_visible()


def test_a_workflow_is_downloaded_and_opened_again(editor: Editor) -> None:
    picture(editor)
    document = editor.document()
    editor.new()
    panel = editor.panel("Workflows")
    content = json.dumps(document).encode()
    panel.get_by_label("Open a file").set_input_files(
        [{"name": "again.json", "mimeType": "application/json", "buffer": content}]
    )
    expect(editor.cards).to_have_count(2)
    assert editor.document()["graph"] == document["graph"]
