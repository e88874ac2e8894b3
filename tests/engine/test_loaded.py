"""What is done only if torch is imported, while another thread is importing it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from engine.loaded import torch_if_loaded
from engine.models import Models, is_out_of_memory
from engine.models.emptying import empty_cache
from engine.run import devices
from engine.run.threads import set_torch_threads, torch_threads_restored
from engine.values import release_pinned

TORCH = """
import time
time.sleep(0.1)
class OutOfMemoryError(RuntimeError): pass
class cuda: is_initialized = is_available = staticmethod(lambda: False)
class backends:
    class mps: is_available = staticmethod(lambda: False)
get_num_threads, set_num_threads = (lambda: 1), (lambda number: None)
"""


def count_threads() -> None:
    with torch_threads_restored():
        set_torch_threads(1)


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Thread]:
    """A thread that is importing a slow stand-in for torch."""
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, torch.__name__)
    thread = threading.Thread(target=lambda: __import__("torch"))
    thread.start()
    while "torch" not in sys.modules and thread.is_alive():
        time.sleep(0.001)
    yield thread
    thread.join()


@pytest.mark.parametrize(
    ("work", "result"),
    [
        (lambda: devices.unusable("cpu"), None),
        (lambda: is_out_of_memory(ValueError()), False),
        (empty_cache, None),
        (release_pinned, None),
        (lambda: Models().vacate(), None),
        (count_threads, None),
    ],
    ids=["unusable", "out of memory", "empty cache", "pinned", "vacate", "threads"],
)
def test_a_torch_that_is_being_imported_is_waited_for(
    work: Callable[[], object], result: object, importing: threading.Thread
) -> None:
    assert work() is result


def test_a_torch_that_cannot_be_imported_or_is_not_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, torch.__name__, None)
    assert torch_if_loaded() is None
    monkeypatch.delitem(sys.modules, torch.__name__)
    assert torch_if_loaded() is None
    assert "torch" not in sys.modules
