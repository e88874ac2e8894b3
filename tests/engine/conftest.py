from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cache import Cache
from engine.disk import Disk


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run in a folder and with a home of their own."""
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "cache")
    yield disk
    disk.close()


@pytest.fixture
def cache(disk: Disk) -> Cache:
    """Both tiers."""
    return Cache(disk=disk)
