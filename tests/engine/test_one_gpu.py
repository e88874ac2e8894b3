"""Processes that see one GPU alone, and what is known of GPUs without a context on them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.errors import UsageError
from engine.memory import Memory
from engine.models.visible import seeing_only
from engine.run import devices, nvml
from engine.run.devices import Device

GB = 10**9


@pytest.mark.parametrize(
    ("device", "environment", "expected"),
    [
        ("cpu", {"CUDA_VISIBLE_DEVICES": "3"}, {}),
        ("mps", {}, {}),
        ("cuda", {}, {"CUDA_VISIBLE_DEVICES": "0"}),
        ("cuda:1", {"HOME": "/"}, {"CUDA_VISIBLE_DEVICES": "1"}),
        ("cuda:1", {"CUDA_VISIBLE_DEVICES": "3, 5"}, {"CUDA_VISIBLE_DEVICES": "5"}),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-8932f937,GPU-1"}, {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}),
        ("cuda:2", {"CUDA_VISIBLE_DEVICES": "3,5"}, {"CUDA_VISIBLE_DEVICES": "-1"}),
        ("cuda:0", {"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": ""}),
        ("cuda:1", {"HIP_VISIBLE_DEVICES": "0,2"}, {"HIP_VISIBLE_DEVICES": "2"}),
    ],
)
def test_a_process_can_be_started_that_sees_one_gpu(
    device: str, environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert seeing_only(device, environment) == expected


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine with two GPUs of 24 and 8 GB; the numbers of those on which a context was opened."""
    opened: list[int] = []

    def memory_of(index: int) -> tuple[int, int]:
        opened.append(index)
        return 5 * GB, 24 * GB

    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=(24, 8)[index] * GB, uuid=("aa", "bb")[index])

    monkeypatch.setattr(devices, "best", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", memory_of)
    return opened


def test_the_driver_tells_the_memory_of_all_gpus_so_that_no_context_is_opened(
    two_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "gpus", lambda: {"GPU-bb": Memory(9 * GB, 3 * GB), "GPU-aa": Memory(25 * GB, 25 * GB)})
    assert devices.every() == [
        Device("cuda:0", "cuda", 0, 24 * GB, 24 * GB, "GPU-aa"),
        Device("cuda:1", "cuda", 1, 8 * GB, 3 * GB, "GPU-bb"),
    ]
    assert two_gpus == []


def test_where_the_driver_tells_nothing_only_the_first_gpu_is_asked(
    two_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "gpus", dict)
    assert [device.vram_free for device in devices.every()] == [5 * GB, 8 * GB]
    assert two_gpus == [0]


def test_the_only_gpu_of_a_process_keeps_the_name_that_it_has_outside(
    two_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "gpus", lambda: {"GPU-aa": Memory(24 * GB, GB)})
    assert devices.only("cuda:7") == Device("cuda:7", "cuda", 7, 24 * GB, GB, "GPU-aa")
    assert devices.only("cpu").vram_total > 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="torch finds no cuda:7"):
        devices.only("cuda:7")


def test_devices_are_shown_with_the_memory_that_is_free_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "gpus", lambda: {"GPU-aa": Memory(24 * GB, 2 * GB)})
    seen, unseen = Device("cuda:0", "cuda", 0, 24 * GB, 9, "GPU-aa"), Device("cuda:1", "cuda", 1, 8 * GB, 9, "GPU-bb")
    found = devices.present([seen, unseen, Device("cpu", "cpu", 0, 1, 1)])
    assert [device.vram_free for device in found[:2]] == [2 * GB, 9]
    assert 1 < found[2].vram_free <= found[2].vram_total
    monkeypatch.setattr(nvml, "gpus", lambda: pytest.fail("there is no GPU to ask for"))
    devices.present([Device("cpu", "cpu", 0, 1, 1)])


def driver() -> SimpleNamespace:
    """The library of NVIDIA's driver on a machine with two GPUs, the first of which is lost."""

    def count(number: Any) -> int:
        number._obj.value = 2
        return 0

    def handle(index: int, gpu: Any) -> int:
        gpu._obj.value = index + 1
        return 0

    def uuid(gpu: Any, name: Any, size: int) -> int:
        assert size == len(name)
        name.value = f"GPU-{gpu.value}".encode()
        return 0

    def memory(gpu: Any, found: Any) -> int:
        found._obj.total, found._obj.free, found._obj.used = 80 * GB, 70 * GB, 10 * GB
        return 15 if gpu.value == 1 else 0

    return SimpleNamespace(
        nvmlDeviceGetCount_v2=count,
        nvmlDeviceGetHandleByIndex_v2=handle,
        nvmlDeviceGetUUID=uuid,
        nvmlDeviceGetMemoryInfo=memory,
    )


def test_nvidias_library_is_asked_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_library", driver)
    assert nvml.gpus() == {"GPU-2": Memory(80 * GB, 70 * GB)}


def test_without_nvidias_library_nothing_is_known_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    monkeypatch.setattr(nvml, "_library", nvml._library.__wrapped__)
    assert nvml.gpus() == {}
