"""What tests of several parts need."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from engine.run.devices import best


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skip the tests that need a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked and best() != "cuda":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, as on a terminal; processes that a shell runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    """Within it no file of this process becomes larger: writing more fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(autouse=True)
def _costs_are_kept_apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What passes of tests' models cost, and how they are computed, isn't kept in the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "costs"
    monkeypatch.setattr("nodes.text.kept.home", lambda: folder)
