"""A server and a browser for each module, and an empty page for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.editor import Editor
from tests.server.live import Live, live

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def _chromium() -> str | None:
    """The Chromium to test in: the system's, or else Playwright's."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


CHROMIUM = _chromium()
NODES = Path(__file__).with_name("toy_nodes.py")
LEFT_OUT = f"the editor was not tested in a browser: none of {', '.join(NAMES)} is installed, nor Playwright's own"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=LEFT_OUT))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if any(LEFT_OUT in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())):
        terminalreporter.write_line(LEFT_OUT, yellow=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server"), "--nodes", str(NODES)) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def editor(server: Live, browser: Browser) -> Iterator[Editor]:
    """The editor after "New"; at the end, the browser's console must be empty of complaints."""
    with Editor.opened(browser, server) as editor:
        editor.new()
        yield editor
        assert editor.complaints == []


@pytest.fixture(scope="session")
def clip() -> bytes:
    """Twelve frames of a square that moves faster and faster, as an MP4."""
    import av
    import numpy as np

    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=6)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        for number in range(12):
            pixels = np.full((96, 96, 3), 40, np.uint8)
            left = number * number // 2
            pixels[30:60, left : left + 30] = (220, 60, 20 * number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
