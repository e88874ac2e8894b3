"""Who makes room for a model, on a device and in host memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

import pytest
import torch

from engine.memory import Memory
from engine.models import Models, resident
from engine.run.resources import CacheLimits, open_resources
from engine.store.cache import OVERHEAD, Cache
from tests.engine.far import Movable, far

BYTES = 100 + OVERHEAD
"""What a result takes on the device."""


def results(count: int, budget: int = 100_000) -> Cache:
    """Results on the device, of which the first was the cheapest."""
    cache = Cache(memory=100_000, device=budget)
    for index in range(count):
        cache.put(str(index), (far(25),), 1.0 + index, upstream=0)
    return cache


def sharing(cache: Cache, device_budget: int) -> Models:
    models = Models(budget=100_000, device_budget=device_budget)
    models.share(device=cache.device, host=cache.memory)
    return models


def on_device(cache: Cache, count: int) -> list[int]:
    return [index for index in range(count) if str(index) in cache.device]


def loaded(models: Models, key: str, nbytes: int, device: str = "far:0") -> Movable:
    """A model that was used and released."""
    model = models.get(key, lambda: Movable(nbytes), device)
    models.release()
    return model


def test_results_alone_make_room_if_they_can() -> None:
    cache = results(3)
    models = sharing(cache, 1000 + 3 * BYTES)
    idle = loaded(models, "idle", 1000)
    loaded(models, "next", BYTES + 1)
    assert idle.device == "far:0"
    assert on_device(cache, 3) == [2]


def test_a_device_is_left_to_another_process_by_all_but_models_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    monkeypatch.setattr(torch.accelerator, "empty_host_cache", lambda: emptied.append("pinned"), raising=False)
    cache = results(3)
    models = sharing(cache, 100_000)
    idle = loaded(models, "idle", 1000)
    used = models.get("used", lambda: Movable(1000), "far:0")
    models.vacate()
    assert (idle.device, used.device) == ("cpu", "far:0")
    assert on_device(cache, 3) == []
    assert "2" in cache.memory
    assert emptied == ["cuda", "mps", "pinned"]


def test_idle_models_make_room_if_results_alone_cannot() -> None:
    cache = results(3)
    models = sharing(cache, 2000 + 3 * BYTES)
    first, second = (loaded(models, name, 1000) for name in ("first", "second"))
    loaded(models, "next", 3 * BYTES + 100)
    assert (first.device, second.device) == ("cpu", "cpu")
    assert on_device(cache, 3) == [0, 1, 2]


def test_results_make_room_where_idle_models_leave_too_little() -> None:
    cache = results(3)
    models = sharing(cache, 1000 + 3 * BYTES)
    idle = loaded(models, "idle", 1000)
    loaded(models, "next", 1001 + BYTES)
    assert idle.device == "cpu"
    assert on_device(cache, 3) == [2]


@dataclass
class Large(Movable):
    """A model that counts what is on the device as it comes."""

    taken: Callable[[], int] = int

    def to(self, device: str) -> Large:
        super().to(device)
        if device != "cpu":
            assert self.taken() <= 1000
        return self


def test_room_is_made_before_a_model_moves_in() -> None:
    cache = results(1)
    models = sharing(cache, 1000)
    models.get("next", lambda: Large(900, taken=lambda: models.device_nbytes + cache.device.nbytes), "far:0")
    assert on_device(cache, 1) == []
    assert "0" in cache.memory


def test_the_resources_of_a_process_share_the_device() -> None:
    with open_resources(CacheLimits(device=1000, keep=False), "cpu") as resources:
        resources.cache.put("a", (far(25),), 1.0, upstream=0)
        assert "a" in resources.cache.device
        resources.models.get("model", lambda: Movable(900), "far:0")
        assert "a" not in resources.cache.device
        resources.cache.put("b", (far(25),), 1.0, upstream=0)
        assert "b" not in resources.cache.device


def test_models_that_fit_the_host_one_by_one_are_loaded_once_though_they_take_turns_on_the_device() -> None:
    models, loads = Models(budget=80, device_budget=80), list[str]()

    def load(name: str, nbytes: int) -> Movable:
        loads.append(name)
        return Movable(nbytes)

    for _ in range(3):
        for name, nbytes in (("pictures", 69), ("video", 45)):
            assert models.get(name, lambda name=name, n=nbytes: load(name, n), "far:0").device == "far:0"
            models.release()
    assert loads == ["pictures", "video"]
    assert (models.device_nbytes, models.host_nbytes, models.nbytes) == (45, 69, 114)


def test_what_is_on_a_device_leaves_the_hosts_budget_alone() -> None:
    models = Models(budget=50, device_budget=1000)
    for name in "abc":
        loaded(models, name, 40)
    assert (len(models), models.device_nbytes) == (3, 120)
    loaded(models, "d", 40, "cpu")
    loaded(models, "e", 40, "cpu")
    assert (len(models), models.host_nbytes) == (4, 40)


@pytest.mark.parametrize("device", ["cpu", "far:0"])
def test_models_in_use_are_never_evicted(device: str) -> None:
    models = Models(budget=50, device_budget=50)
    used = models.get("used", lambda: Movable(40), device)
    other = Thread(target=loaded, args=(models, "other", 40, device))
    other.start()
    other.join()
    models.clear()
    models.offload_idle()
    assert used.device == device
    assert models.get("used", lambda: pytest.fail("it was evicted"), device) is used
    models.release()
    models.clear()
    assert len(models) == 0


class Host:
    """Host memory with so many bytes free besides what results take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Cache, free: int) -> None:
        whole = free + cache.memory.nbytes
        monkeypatch.setattr(resident, "memory", lambda: Memory(10_000, whole - cache.memory.nbytes))


def test_results_in_host_memory_make_room_for_models_that_leave_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = results(3, budget=0)
    models = sharing(cache, 1000)
    Host(monkeypatch, cache, free=1000 - BYTES)
    leaving = loaded(models, "leaving", 1000)
    loaded(models, "next", 1000)
    assert leaving.device == "cpu"
    assert [index for index in range(3) if str(index) in cache.memory] == [1, 2]


def test_a_model_that_another_thread_drops_as_it_leaves_the_device_is_gone_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = Models(device_budget=1000)
    loaded(models, "leaving", 1000)

    def full() -> Memory:
        models.clear()
        return Memory(10_000, 0)

    monkeypatch.setattr(resident, "memory", full)
    assert loaded(models, "next", 1000).device == "far:0"
    assert (len(models), models.nbytes) == (1, 1000)


def test_a_model_for_which_the_host_has_no_room_is_dropped_and_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = results(1, budget=0)
    models = sharing(cache, 1000)
    Host(monkeypatch, cache, free=999 - BYTES)
    first = loaded(models, "leaving", 1000)
    loaded(models, "next", 1000)
    assert (len(models), models.nbytes) == (1, 1000)
    assert loaded(models, "leaving", 1000) is not first
