from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, settings

from engine.store.cache import Cache
from engine.store.disk import Disk
from tests.engine import toys

# On a loaded machine examples are slow, which says nothing about the code.
settings.register_profile("unhurried", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run in a folder and with a home of their own."""
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Event:
    """The event that `Steps` waits for in the middle."""
    gate = Event()
    monkeypatch.setattr(toys, "GATE", [gate])
    return gate


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "cache")
    yield disk
    disk.close()


@pytest.fixture
def cache(disk: Disk) -> Cache:
    """Both tiers."""
    return Cache(disk=disk)
