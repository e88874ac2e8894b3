"""Makes the pictures of the editor that the docs show: `python -m tests.browser.pictures [NAME …]`.

It runs the main workflow on real models, so it takes some minutes, and the language model must be in the cache.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from engine.models.home import home
from tests.browser import editor as user
from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.browser.editor import Editor
from tests.server.live import Live, live

DOCS = Path(__file__).parents[2] / "docs"
MOST_BYTES = 400_000
MINUTES = 60_000


def keep(editor: Editor, name: str) -> None:
    """Writes what is seen to a PNG file, with fewer colours if it is large."""
    editor.page.mouse.move(1300, 870)
    expect(editor.page.locator(".toasts p")).to_have_count(0)
    editor.page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => {})))")
    picture = Image.open(BytesIO(editor.page.screenshot())).convert("RGB")
    path = DOCS / f"{name}.png"
    picture.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def template(editor: Editor, title: str) -> None:
    panel = editor.panel("Workflows")
    panel.get_by_role("button", name=title).last.click()  # templates come last
    expect(editor.page.get_by_role("textbox", name="Title of the workflow")).to_have_value(title)
    editor.button("Close the panel").click()
    editor.press("f")


def theme(editor: Editor, name: str) -> None:
    while not editor.button(name).is_visible():
        editor.button(re.compile("theme$|^Theme")).click()


def group(editor: Editor, title: str, *cards: str) -> None:
    editor.select(*cards)
    editor.press("g")
    editor.page.get_by_role("textbox", name="Title of the group").last.fill(title)
    editor.leave_fields()


def main_workflow(editor: Editor) -> None:
    """The main workflow, which is open at first, with what it made, its parts in groups."""
    editor.field("Theme", "text").fill("a quiet evening by the sea")
    editor.run()
    editor.ended()
    editor.leave_fields()
    editor.press("l")
    group(editor, "The prompt", "Theme", "Language model", "Words the model knows", "Write the prompt")
    group(editor, "A style of its own", "Style LoRA", "Subject LoRA", "Zip the LoRAs", "Apply the zipped LoRA")
    group(editor, "Set in motion", "Set in motion", "Join the videos")
    editor.select("Write the prompt", "Key frames", "Save the key frames", "Set in motion", "Save the video")
    editor.press("f")
    editor.page.keyboard.press("Escape")
    editor.page.mouse.click(1000, 70)


def graph(editor: Editor) -> None:
    main_workflow(editor)
    theme(editor, "Light theme")
    keep(editor, "editor")
    theme(editor, "Dark theme")
    keep(editor, "editor_dark")
    theme(editor, "Light theme")
    editor.button("Form").click()
    keep(editor, "editor_form")
    editor.button("Graph").click()


def queue(editor: Editor) -> None:
    template(editor, "Key frames from a text")
    theme(editor, "Light theme")
    panel = editor.panel("Queue")
    for seed, steps in enumerate((2, 4, 60, 61, 62, 63)):
        editor.fill("Key frames", "seed", seed)
        editor.fill("Key frames", "steps", steps)
        editor.run()
    expect(panel.get_by_role("listitem").filter(has_text="Done")).to_have_count(2)
    panel.get_by_role("button", name=re.compile("^Show")).first.click()
    expect(panel.locator("ol > li")).to_have_count(3)
    expect(editor.page.get_by_role("img", name=re.compile("^Preview of"))).to_be_visible()
    editor.leave_fields()
    editor.press("f")
    keep(editor, "editor_queue")
    while panel.get_by_role("button", name=re.compile("^Cancel")).count():
        panel.get_by_role("button", name=re.compile("^Cancel")).first.click()


def sweep(editor: Editor) -> None:
    template(editor, "Key frames from a text")
    theme(editor, "Light theme")
    editor.fill("Key frames", "count", 1)
    panel = editor.panel("Sweep")
    panel.get_by_label("Input of axis X").select_option("Key frames · prompt")
    panel.get_by_label("Values of axis X").fill(
        "\n".join(f"a red fish on a beach in {style} style" for style in ("crayon", "neon", "flat"))
    )
    panel.get_by_label("Input of axis Y").select_option("Key frames · seed")
    panel.get_by_label("Values of axis Y").fill("1, 2, 3")
    panel.get_by_role("button", name="Run 9 combinations").click()
    editor.ended()
    expect(panel.get_by_role("region", name="The grid").get_by_role("img").first).to_be_visible()
    editor.leave_fields()
    editor.press("f")
    keep(editor, "editor_sweep")


PICTURES: dict[str, Callable[[Editor], None]] = {"graph": graph, "queue": queue, "sweep": sweep}


def make(browser: Browser, server: Live, names: list[str]) -> None:
    for name in names or list(PICTURES):
        with Editor.opened(browser, server) as editor:
            editor.page.set_default_timeout(MINUTES)
            PICTURES[name](editor)


def main() -> None:
    user.expect.set_options(timeout=4 * MINUTES)
    models = {"KINOGRAPH_HOME": str(home())}
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        apart = ("--data", f"{name}/data", "--cache-dir", f"{name}/cache")
        with live(Path(name), *apart, env=models) as server:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
            make(browser, server, sys.argv[1:])
            browser.close()


if __name__ == "__main__":
    main()
