"""The GPU of a run, handed on to Ray's workers; Ray itself isn't started."""

from __future__ import annotations

import os

import pytest
import torch

from nodes.dataset import on_ray
from nodes.dataset.describe.describer import DescribeSettings
from nodes.dataset.on_ray import Stages, shares_device
from nodes.dataset.scan.scanner import ScanSettings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "4,6")  # so that it is restored
        monkeypatch.delenv(name)


def test_a_cluster_on_this_machine_has_only_the_gpu_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    on_ray._set_environment("cpu")
    assert (os.environ["CUDA_VISIBLE_DEVICES"], shares_device("cpu")) == ("4,6", False)
    on_ray._set_environment("cuda:1")
    assert (os.environ["CUDA_VISIBLE_DEVICES"], shares_device("cuda:1")) == ("6", True)


def test_a_cluster_that_exists_uses_any_of_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    on_ray._set_environment("cuda:1")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not shares_device("cuda:1")


@pytest.mark.parametrize(("device", "shown"), [("cuda:1", "cuda"), ("cpu", "cpu")])
def test_a_worker_of_ray_computes_on_the_gpu_that_ray_shows_it(device: str, shown: str) -> None:
    stages = Stages(ScanSettings(text=False), DescribeSettings(), None, device, torch.get_num_threads())
    assert on_ray._Describe(stages)._describe.device == shown
