"""The docs' pictures of the editor: each is of a real run, and is checked for what it should show.

`KINOGRAPH_PICTURES=docs pytest tests/browser/test_pictures.py` regenerates those in the docs, in a few minutes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from engine.models.home import home
from tests.browser.editor import PATIENCE, Editor
from tests.server.live import live
from tests.text.conftest import smollm2

__all__ = ["smollm2"]

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 1440, 900
MOST_BYTES = 400_000
MOST_GROUND = 0.7
"""The share of a picture that may have one colour; an empty page exceeds it."""
LONG = 5 * PATIENCE

Keep = Callable[[str], None]
"""Saves the current view as the picture with a name."""


def template(editor: Editor, title: str) -> None:
    panel = editor.panel("Workflows")
    panel.get_by_role("button", name=title).last.click()  # templates come last
    expect(editor.page.get_by_role("textbox", name="Title of the workflow")).to_have_value(title)
    editor.button("Close the panel").click()
    editor.press("f")


def theme(editor: Editor, name: str) -> None:
    while not editor.button(name).is_visible():
        editor.button(re.compile("theme$|^Theme")).click()


def hidden(editor: Editor) -> list[str]:
    """The cards whose headings or results are covered by others."""
    return [
        card.get_attribute("aria-label") or ""
        for card in editor.cards.all()
        if not all(part.evaluate(IS_ON_TOP) for part in card.locator("header, video, .results img").all())
    ]


IS_ON_TOP = """part => {
  const { left, top, width, height } = part.getBoundingClientRect();
  return part.contains(document.elementFromPoint(left + width / 2, top + height / 2));
}"""


def graph(editor: Editor, keep: Keep) -> None:
    """The main workflow, which is open at first, with its results."""
    editor.run()
    editor.ended(within=LONG)
    editor.leave_fields()
    editor.press("f")
    theme(editor, "Light theme")
    assert hidden(editor) == []
    keep("editor")
    theme(editor, "Dark theme")
    keep("editor_dark")
    theme(editor, "Light theme")
    editor.button("Form").click()
    keep("editor_form")


def queue(editor: Editor, keep: Keep) -> None:
    template(editor, "Key frames from a text")
    theme(editor, "Light theme")
    panel = editor.panel("Queue")
    for seed, steps in enumerate((2, 4, 600, 601, 602, 603)):
        editor.fill("Key frames", "seed", seed)
        editor.fill("Key frames", "steps", steps)
        editor.run()
    expect(panel.get_by_role("listitem").filter(has_text="Done")).to_have_count(2)
    panel.get_by_role("button", name=re.compile("^Show")).first.click()
    expect(panel.locator("ol > li")).to_have_count(3)
    expect(editor.page.get_by_role("img", name=re.compile("^Preview of"))).to_be_visible()
    editor.leave_fields()
    editor.press("f")
    keep("editor_queue")


def sweep(editor: Editor, keep: Keep) -> None:
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
    editor.ended(within=LONG)
    expect(panel.get_by_role("region", name="Grid").get_by_role("img").first).to_be_visible()
    editor.leave_fields()
    editor.press("f")
    keep("editor_sweep")


PICTURES: dict[Callable[[Editor, Keep], None], tuple[str, ...]] = {
    graph: ("editor", "editor_dark", "editor_form"),
    queue: ("editor_queue",),
    sweep: ("editor_sweep",),
}
"""The pictures that each of them saves; the docs show all of these."""


@pytest.fixture
def real(browser: Browser, tmp_path: Path) -> Iterator[Editor]:
    """An editor on a server with the models of this machine, but an empty cache."""
    apart = ("--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "cache"))
    with (
        live(tmp_path / "server", *apart, env={"KINOGRAPH_HOME": str(home())}) as server,
        Editor.opened(browser, server, viewport={"width": WIDTH, "height": HEIGHT}) as editor,
    ):
        yield editor
        assert editor.complaints == []


def save(editor: Editor, path: Path) -> None:
    """Write the current view to a PNG file, with fewer colours if it is large."""
    editor.page.mouse.move(WIDTH - 140, HEIGHT - 30)
    expect(editor.page.locator(".toasts p")).to_have_count(0)
    editor.page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => {})))")
    picture = Image.open(BytesIO(editor.page.screenshot())).convert("RGB")
    picture.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


@pytest.mark.full
@pytest.mark.parametrize("show", PICTURES, ids=lambda show: show.__name__)
def test_pictures_are_made(
    request: pytest.FixtureRequest, real: Editor, tmp_path: Path, show: Callable[[Editor, Keep], None]
) -> None:
    if show is graph:
        request.getfixturevalue("smollm2")
    folder = ROOT / os.environ.get("KINOGRAPH_PICTURES", tmp_path)
    kept = []

    def keep(name: str) -> None:
        save(real, folder / f"{name}.png")
        kept.append(name)

    show(real, keep)
    assert tuple(kept) == PICTURES[show]
    for name in kept:
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.size == (WIDTH, HEIGHT)
            pixels = [count for count, _ in picture.convert("RGB").getcolors(WIDTH * HEIGHT) or ()]
        assert max(pixels) < MOST_GROUND * sum(pixels)


def test_the_docs_show_all_pictures_and_no_others() -> None:
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    shown = {name for text in texts for name in re.findall(r"\]\((?:docs/)?(editor\w*)\.png\)", text)}
    assert shown == {name for names in PICTURES.values() for name in names}
    assert [name for name in shown if not (ROOT / "docs" / f"{name}.png").exists()] == []
