"""The editor as people use it: with a mouse, a keyboard, and the names on the screen."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.server.live import Live

PATIENCE = 60_000
"""Milliseconds; the machine may be busy with other things."""

expect.set_options(timeout=PATIENCE)

DROP = """([target, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true,
      clientX: 700, clientY: 400 }));
  }
}"""

IS_EMPTY = "([x, y]) => document.elementFromPoint(x, y).classList.contains('react-flow__pane')"


class Editor:
    """A page with the editor."""

    def __init__(self, page: Page, server: Live) -> None:
        self.page = page
        self.server = server
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    @classmethod
    @contextmanager
    def opened(cls, browser: Browser, server: Live, **how: Any) -> Iterator[Self]:
        """A new page with its own storage."""
        settings: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **how}
        context = browser.new_context(**settings)
        try:
            yield cls.on(context, server)
        finally:
            context.close()

    @classmethod
    def on(cls, context: BrowserContext, server: Live) -> Self:
        """A page in a context that may have other pages."""
        editor = cls(context.new_page(), server)
        editor.page.goto(server.address)
        expect(editor.page.get_by_text("Connected")).to_be_visible()
        return editor

    # What is on the page

    @property
    def canvas(self) -> Locator:
        return self.page.get_by_role("application", name="Graph of the workflow")

    @property
    def cards(self) -> Locator:
        return self.page.locator(".react-flow__node-card")

    @property
    def links(self) -> Locator:
        return self.page.locator(".react-flow__edge")

    @property
    def toast(self) -> Locator:
        return self.page.locator(".toasts p").last

    def card(self, title: str) -> Locator:
        return self.canvas.get_by_role("group", name=title, exact=True)

    def heading(self, title: str) -> Locator:
        """The part of a card by which it is dragged."""
        return self.card(title).locator("header .title")

    def field(self, title: str, label: str) -> Locator:
        """The field of an input, by its accessible name."""
        return self.card(title).get_by_label(label, exact=True)

    def output(self, title: str, name: str = "out") -> Locator:
        return self.page.get_by_role("button", name=f"output {name} of {title}", exact=True)

    def input(self, title: str, name: str) -> Locator:
        return self.page.get_by_role("button", name=f"input {name} of {title}", exact=True)

    def state(self, title: str, state: str) -> Locator:
        return self.card(title).get_by_role("img", name=re.compile(f"^{state}"))

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def panel(self, name: str) -> Locator:
        """A panel, opened if needed."""
        panel = self.page.get_by_role("complementary", name=name)
        if not panel.is_visible():
            self.page.get_by_role("navigation", name="Panels").get_by_role("button", name=name).click()
        expect(panel).to_be_visible()
        return panel

    # What people do

    def new(self) -> None:
        self.page.keyboard.press("Alt+n")
        expect(self.cards).to_have_count(0)

    def press(self, keys: str) -> None:
        self.page.keyboard.press(keys)

    def leave_fields(self) -> None:
        """Move the focus off a field, so that letters are shortcuts again."""
        self.page.evaluate("document.activeElement.blur()")

    def add(self, search: str, x: float, y: float) -> None:
        """Double-click an empty place, search, and take the first result."""
        count = self.cards.count()
        self.until(lambda: self.page.evaluate(IS_EMPTY, [x, y]))  # a card may be about to shrink
        self.page.mouse.dblclick(x, y)
        search_field = self.page.get_by_role("combobox", name="Add a node")
        search_field.fill(search)
        search_field.press("Enter")
        expect(self.cards).to_have_count(count + 1)

    def link(self, output: Locator, input: Locator) -> None:
        """Drag from one socket to another."""
        count = self.links.count()
        output.hover()
        self.page.mouse.down()
        input.hover(force=True)
        input.hover(force=True)
        self.page.mouse.up()
        expect(self.links).to_have_count(count + 1)

    def fill(self, title: str, label: str, value: str | int | float) -> None:
        field = self.field(title, label)
        is_choice = field.evaluate("field => field.matches('select')")
        (field.select_option if is_choice else field.fill)(str(value))

    def rename(self, title: str, to: str) -> None:
        self.heading(title).dblclick()
        self.page.get_by_role("textbox", name=f"Title of {title}").fill(to)
        self.press("Enter")

    def choose(self, item: str) -> None:
        """Choose an item of the open menu."""
        self.page.get_by_role("menuitem", name=item).first.click()

    def menu_of(self, title: str) -> None:
        self.button(f"Menu of {title}").click()

    def run(self) -> None:
        self.page.get_by_role("banner").get_by_role("button", name="Run").click()

    def ended(self, how: str = "Done", within: float = PATIENCE) -> None:
        expect(self.page.locator(".statusbar .job")).to_contain_text(how, timeout=within)

    def select(self, *titles: str) -> None:
        """Click one card, and the others with Ctrl."""
        for at, title in enumerate(titles):
            self.heading(title).click(modifiers=["Control"] if at else [])

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 30) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        for step in range(1, steps + 1):  # as slowly as a hand, so that the page can follow
            done = step / steps
            self.page.mouse.move(start[0] + (end[0] - start[0]) * done, start[1] + (end[1] - start[1]) * done)
            self.page.wait_for_timeout(8)
        self.page.mouse.up()

    def touch(self, *fingers: tuple[tuple[float, float], tuple[float, float]], steps: int = 20) -> None:
        """Put fingers down, move each from one point to another, and lift them."""
        session = self.page.context.new_cdp_session(self.page)

        def send(kind: str, points: list[dict[str, float]]) -> None:
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        for step in range(steps + 1):
            done = step / steps
            points = [
                {"id": at, "x": start[0] + (end[0] - start[0]) * done, "y": start[1] + (end[1] - start[1]) * done}
                for at, (start, end) in enumerate(fingers)
            ]
            send("touchMove" if step else "touchStart", points)
        send("touchEnd", [])
        session.detach()

    def drop(self, file: Path | bytes, name: str = "", type: str = "", on: Locator | None = None) -> None:
        """Drop a file on the canvas, or on something else."""
        data = file if isinstance(file, bytes) else file.read_bytes()
        name = name or (file.name if isinstance(file, Path) else "file")
        target = (on or self.page.locator(".react-flow__pane")).element_handle()
        self.page.evaluate(DROP, [target, name, type, b64encode(data).decode()])

    def forgive(self, why: int | str) -> None:
        """Ignore that a request was refused with a status, or failed otherwise, which the browser logs by itself."""
        noted = f"status of {why}" if isinstance(why, int) else why
        self.complaints = [complaint for complaint in self.complaints if noted not in complaint]

    def until(self, what: Callable[[], Any]) -> None:
        """Wait until a condition is true on the page."""
        end = time.monotonic() + PATIENCE / 1000
        while not what():
            assert time.monotonic() < end, "waited in vain"
            self.page.wait_for_timeout(20)

    def open(self, document: dict[str, Any], name: str = "workflow.json") -> None:
        """Open a workflow by dropping it as a file."""
        self.drop(json.dumps(document).encode(), name)
        expect(self.cards).to_have_count(len(document["graph"]))

    # What it comes to

    def document(self) -> dict[str, Any]:
        """The workflow, as it is downloaded."""
        panel = self.panel("Workflows")
        with self.page.expect_download() as download:
            panel.get_by_role("button", name="Download").click()
        found: dict[str, Any] = json.loads(Path(download.value.path()).read_text())
        self.button("Close the panel").click()
        return found

    @property
    def graph(self) -> dict[str, Any]:
        graph: dict[str, Any] = self.document()["graph"]
        return graph


def centre(locator: Locator) -> tuple[float, float]:
    """The middle of something on the screen, once it has stopped moving."""
    locator.element_handle().wait_for_element_state("stable")
    box = locator.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
