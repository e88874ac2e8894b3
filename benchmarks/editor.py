"""How the editor copes with a large graph: `python -m benchmarks.editor [NODES]`.

A page of 1440 × 900 opens a workflow of 2,000 nodes, drags it while all of it is visible, while some hundred nodes are
and while few are, and zooms through it. The figures are the median and the 95th percentile of the time between frames
that the browser draws, in milliseconds, in a Chromium without a GPU. The first visit's load is given in bytes sent.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import CHROMIUM, OPTIONS
from tests.browser.editor import Editor
from tests.browser.test_size import many
from tests.server.live import Live, live

MOVES = 60
WATCH = """() => {
  window.frames_ = [];
  const note = (time) => { window.frames_.push(time); window.watching_ = requestAnimationFrame(note); };
  window.watching_ = requestAnimationFrame(note);
}"""
STOP = "() => { cancelAnimationFrame(window.watching_); return window.frames_; }"


def first_load(browser: Browser, server: Live) -> int:
    """Bytes sent, bodies and headers, until the page is ready."""
    sizes: list[int] = []
    context = browser.new_context()
    page = context.new_page()
    requests = []
    page.on("requestfinished", lambda request: requests.append(request))
    page.goto(server.address)
    page.get_by_text("Connected").wait_for()
    for request in requests:
        size = request.sizes()
        sizes.append(size["responseBodySize"] + size["responseHeadersSize"])
    context.close()
    return sum(sizes)


def frames(editor: Editor, zoom_by: float = 0) -> list[float]:
    """Milliseconds between frames while the graph is dragged, or zoomed with the wheel."""
    page = editor.page
    page.mouse.move(700, 840)
    page.evaluate(WATCH)
    if zoom_by:
        for move in range(MOVES):
            page.mouse.wheel(0, zoom_by if move < MOVES // 2 else -zoom_by)
            page.evaluate("new Promise(requestAnimationFrame)")
    else:
        page.mouse.down(button="middle")
        for move in range(MOVES):
            page.mouse.move(700 + (move % 20 - 10) * 8, 840 - (move % 15) * 8)
        page.mouse.up(button="middle")
    times = page.evaluate(STOP)
    return [after - before for before, after in pairwise(times)]


def summary(name: str, times: list[float]) -> str:
    ninety_five = statistics.quantiles(times, n=20)[-1]
    return f"{name}: median {statistics.median(times):.0f} ms, p95 {ninety_five:.0f} ms, {len(times)} frames"


def measure(browser: Browser, server: Live, count: int) -> None:
    with Editor.opened(browser, server) as editor:
        start = time.perf_counter()
        editor.drop(json.dumps(many(count)).encode(), "many.json")
        editor.until(lambda: editor.page.locator(".react-flow__node").count() > count // 2)
        print(f"opening {count} nodes: {time.perf_counter() - start:.1f} s")
        for presses in (0, 7, 5):
            editor.leave_fields()
            for _ in range(presses):
                editor.press("+")
            times = frames(editor)
            print(summary(f"dragging, {editor.cards.count()} in sight", times))
        print(summary("zooming with the wheel", frames(editor, 40)))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with TemporaryDirectory() as folder, live(Path(folder)) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        print(f"Chromium {browser.version}")
        print(f"first load: {first_load(browser, server) / 1000:.0f} kB")
        measure(browser, server, count)
        browser.close()


if __name__ == "__main__":
    main()
