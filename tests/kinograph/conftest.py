"""Kinograph as people import it, in a folder and with a home made for the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kinograph
from tests.engine import toys


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    toys.RAN.clear()
    yield
    kinograph.close()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What `Steps` waits for in the middle."""
    gate = threading.Event()
    monkeypatch.setattr(toys, "GATE", [gate])
    return gate
