"""The log panel of ComfyUI's front end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from engine.server.http.journal import LONGEST_LINE, MOST_LINES, Journal
from tests.server.live import Live, live, saving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("server")) as running:
        yield running


def lines_sent(server: Live, graph: dict[str, Any]) -> list[str]:
    """The lines that a client gets while a job runs."""
    messages = server.watch(graph)
    sent = [message["data"]["entries"] for message in messages if message["type"] == "logs"]
    return [entry["m"] for entries in sent for entry in entries]


def test_what_happens_to_jobs_is_in_the_log(server: Live) -> None:
    job = server.submit(saving("Shout", "a"))
    server.ended(job)
    log = server.until(lambda: text if f"job {job} has ended\n" in (text := server.get("/internal/logs")) else None)
    assert f" - job {job} begins\n" in log
    assert " - 1 (Shout) has failed: " in log
    assert "Traceback" not in log
    raw = server.get("/internal/logs/raw")
    assert "".join(f"{entry['t']} - {entry['m']}" for entry in raw["entries"]).startswith(log)
    assert raw["size"].keys() == {"cols", "rows"}


def test_new_lines_are_sent_to_those_who_want_them(server: Live) -> None:
    graph = saving("Wait", "a", steps=15)
    assert lines_sent(server, graph) == []
    assert server.ask("PATCH", "/internal/logs/subscribe", {"clientId": "me", "enabled": True})[0] == 200
    assert any(line.endswith(" begins\n") for line in lines_sent(server, saving("Wait", "b", steps=15)))
    assert server.ask("PATCH", "/api/internal/logs/subscribe", {"clientId": "me", "enabled": False})[0] == 200
    assert lines_sent(server, saving("Wait", "c", steps=15)) == []


class TestTheJournal:
    @pytest.fixture
    def journal(self) -> Journal:
        return Journal()

    def test_it_keeps_the_last_lines(self, journal: Journal) -> None:
        for number in range(MOST_LINES + 5):
            journal.note(f"{number}")
        assert [line.text for line in journal.since()][::999] == ["5", "1004"]
        assert [line.text for line in journal.since(MOST_LINES + 3)] == ["1003", "1004"]

    def test_it_keeps_one_line_of_each_warning_and_counts_repeats(self, journal: Journal) -> None:
        logger = logging.Logger("test")
        logger.addHandler(journal)
        logger.info("quiet")
        logger.warning("first\nsecond")
        logger.warning("x" * 5000)
        for number in range(10):
            logger.error("again %d", number)
        assert [line.text for line in journal.since()] == [
            "first",
            "x" * LONGEST_LINE,
            "again 0",
            "again 1",
            "again 2",
        ]
