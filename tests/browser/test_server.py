"""The server goes away and comes back, and may require a token."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.conftest import NODES
from tests.browser.editor import Editor
from tests.server.live import live


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_work_continues_after_the_server_was_away(browser: Browser, tmp_path: Path) -> None:
    with (
        live(tmp_path, "--nodes", str(NODES), "--port", str(free_port())) as server,
        Editor.opened(browser, server) as editor,
    ):
        editor.new()
        editor.add("digits", 250, 150)
        editor.add("save text", 700, 150)
        editor.link(editor.output("Digits"), editor.input("Save text", "text"))
        server.kill()
        expect(editor.page.get_by_text("No connection – trying again")).to_be_visible()
        editor.fill("Digits", "seed", 7)
        server.start()
        expect(editor.page.get_by_text("Connected")).to_be_visible()
        expect(editor.page.get_by_text(re.compile("^Saved as Untitled"))).to_be_visible()
        editor.run()
        editor.ended()
        expect(editor.card("Save text").locator(".results")).to_contain_text("7")
        editor.forgive("ERR_CONNECTION_REFUSED")
        assert editor.complaints == []


def test_a_token_is_required_once(browser: Browser, tmp_path: Path) -> None:
    with live(tmp_path, "--token", "open sesame") as server:
        page = browser.new_page()
        for address in (f"http://{server.host}/", f"http://{server.host}/?token=wrong"):
            answer = page.goto(address)
            assert answer
            assert answer.status == 401
            expect(page.get_by_text(re.compile("token"))).to_be_visible()
        page.close()
        with Editor.opened(browser, server) as editor:
            assert "sesame" not in editor.page.url
            editor.page.reload()
            expect(editor.page.get_by_text("Connected")).to_be_visible()
            assert editor.complaints == []
