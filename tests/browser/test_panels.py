"""The queue, the gallery and the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import NODES
from tests.browser.editor import Editor
from tests.models_sources.conftest import Index, index
from tests.server.live import Live, live

__all__ = ["index"]

SOURCE = "pypi:toy-models==1.0/toy/model.safetensors"


def waiting(editor: Editor, title: str, steps: int = 1) -> None:
    """Submit a job with a number of steps, under a title."""
    editor.new()
    editor.add("wait", 500, 150)
    editor.add("save text", 900, 150)
    editor.link(editor.output("Wait"), editor.input("Save text", "text"))
    editor.fill("Wait", "text", title)
    editor.fill("Wait", "steps", steps)
    editor.page.get_by_role("textbox", name="Title of the workflow").fill(title)
    editor.run()


def titles(jobs: Locator) -> list[str]:
    return jobs.locator("b").all_inner_texts()


def test_jobs_are_paused_put_in_order_cancelled_and_run_again(editor: Editor) -> None:
    panel = editor.panel("Queue")
    panel.get_by_role("button", name="Pause the queue").click()
    expect(panel.get_by_text("The queue is paused.")).to_be_visible()
    for title in ("One", "Two", "Three"):
        waiting(editor, title)
    pending = panel.locator("ol")
    expect(pending.locator("b")).to_have_text(["One", "Two", "Three"])
    panel.get_by_role("button", name="Move Three up").click()
    expect(pending.locator("b")).to_have_text(["One", "Three", "Two"])
    panel.get_by_role("button", name="Move One down").click()
    expect(pending.locator("b")).to_have_text(["Three", "One", "Two"])
    panel.get_by_role("button", name="Raise the priority of Two").click()
    expect(pending.locator("b")).to_have_text(["Two", "Three", "One"])
    panel.get_by_role("button", name="Cancel One").click()
    expect(pending.locator("b")).to_have_text(["Two", "Three"])
    panel.get_by_role("button", name="Resume the queue").click()
    expect(panel.get_by_text("Nothing is waiting.")).to_be_visible()
    past = panel.get_by_role("listitem").filter(has_text="Done")
    expect(past).to_have_count(2)
    panel.get_by_role("button", name="Run One again").click()
    expect(past).to_have_count(3)
    panel.get_by_role("button", name="Open the workflow of Two").click()
    expect(editor.field("Wait", "text")).to_have_value("Two")


def test_a_job_is_dragged_before_another(editor: Editor) -> None:
    panel = editor.panel("Queue")
    panel.get_by_role("button", name="Pause the queue").click()
    for title in ("First", "Second", "Third"):
        waiting(editor, title)
    jobs = panel.locator("ol > li")
    expect(jobs.locator("b")).to_have_text(["First", "Second", "Third"])
    jobs.nth(2).drag_to(jobs.nth(0))
    expect(jobs.locator("b")).to_have_text(["Third", "First", "Second"])
    panel.get_by_role("button", name="Resume the queue").click()
    expect(panel.get_by_text("Nothing is waiting.")).to_be_visible()


def test_a_saved_file_is_found_in_the_gallery_and_opens_its_workflow(editor: Editor) -> None:
    editor.add("empty image", 500, 150)
    editor.add("save image", 900, 150)
    editor.link(editor.output("Empty image"), editor.input("Save image", "images"))
    editor.fill("Save image", "filename prefix", "lighthouse")
    editor.run()
    editor.ended()
    waiting(editor, "A text")
    editor.ended()
    panel = editor.panel("Gallery")
    files = panel.locator(".gallery > li")
    panel.get_by_role("searchbox", name="Search the gallery").fill("lighthouse")
    expect(files).to_have_count(1)
    panel.get_by_role("button", name="Enlarge lighthouse_00001.png").click()
    large = editor.page.get_by_role("dialog").get_by_role("img")
    expect(large).to_be_visible()
    editor.press("Escape")
    files.hover()
    panel.get_by_role("button", name="Open the workflow of lighthouse_00001.png").click()
    expect(editor.card("Empty image")).to_be_visible()
    panel.get_by_role("searchbox", name="Search the gallery").fill("")
    panel.get_by_role("button", name="Texts").click()
    expect(files).not_to_have_count(0)
    expect(panel.get_by_text("lighthouse_00001.png")).to_have_count(0)
    panel.get_by_role("button", name="Images").click()
    files.first.hover()
    panel.get_by_role("button", name="Delete lighthouse_00001.png").click()
    expect(panel.get_by_text("lighthouse_00001.png")).to_have_count(0)


@pytest.fixture
def beside_an_index(index: Index, tmp_path: Path) -> Iterator[Live]:
    """A server that fetches models from an index on this machine."""
    index.add("toy-models", "1.0", {"toy/model.safetensors": (2).to_bytes(8, "little") + b"{}" + bytes(100_000)})
    with live(tmp_path / "server", "--nodes", str(NODES)) as server:
        yield server


def test_a_missing_model_is_fetched(beside_an_index: Live, index: Index, browser: Browser) -> None:
    with Editor.opened(browser, beside_an_index) as editor:
        editor.new()
        editor.add("LoRA load", 500, 150)
        editor.fill("LoRA load", "file", SOURCE)
        panel = editor.panel("Models")
        needed = panel.locator(".needed")
        expect(needed).to_contain_text(SOURCE)
        index.stalls = True
        needed.get_by_role("button", name="Fetch").click()
        expect(needed.get_by_role("progressbar", name=f"Fetching {SOURCE}")).to_be_visible()
        needed.get_by_role("button", name="Stop").click()
        expect(needed.get_by_role("progressbar")).to_have_count(0)
        index.stalls = False
        needed.get_by_role("button", name="Fetch").click()
        expect(needed.get_by_text("available", exact=True)).to_be_visible()
        assert editor.complaints == []


def test_models_of_comfyui_are_listed_by_category_and_offered_where_they_fit(tmp_path: Path, browser: Browser) -> None:
    files = {"loras/sdxl/paint.safetensors": 70_000, "checkpoints/base.safetensors": 5, "checkpoints/old.ckpt": 5}
    for name, nbytes in files.items():
        path = tmp_path / "ComfyUI" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(nbytes))
    with (
        live(tmp_path / "server", "--models", str(tmp_path / "ComfyUI")) as server,
        Editor.opened(browser, server) as editor,
    ):
        editor.new()
        editor.add("LoRA load", 500, 150)
        panel = editor.panel("Models")
        expect(panel.locator("section", has_text="checkpoints")).to_contain_text("convert it to safetensors")
        expect(panel.locator("section", has_text="loras").get_by_text("sdxl/paint.safetensors")).to_be_visible()
        expect(panel.locator("li", has_text="sdxl/paint.safetensors")).to_contain_text("70 kB")
        field = editor.field("LoRA load", "file")
        offered = field.evaluate("field => [...field.list.options].map(option => option.value)")
        assert "sdxl/paint.safetensors" in offered
        assert {"base.safetensors", "old.ckpt"}.isdisjoint(offered)
        assert editor.complaints == []
