"""Models and results leave a device the room that nodes need to compute, which is learnt from node to node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import Event, NodeFailed, NodeRetried
from engine.graph.check import check
from engine.models.gauge import gauge_of
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.activations import FILE_ENTRIES, Activations, size_of
from engine.run.execute import Execution
from engine.values import Image, ImageModel, ModelReference
from nodes.inputs import Seed
from tests.engine.far import FarMemory, Movable, far
from tests.engine.toys import node

DEVICE: list[FarMemory] = []
"""The device that `Sample` computes on."""


class Sample(Node, version=1, uses="device"):
    """Computes with a model on the device, in two allocations."""

    model: str = ""
    nbytes: Annotated[int, Field(ge=0)] = 0
    seed: Seed = 0

    def run(self, ctx: Context) -> str:
        device = DEVICE[0]
        if self.model:
            name, nbytes = self.model.split()
            ctx.models.get(name, lambda: Movable(int(nbytes)), ctx.device)
        device.compute(self.nbytes // 2, self.nbytes - self.nbytes // 2)
        return f"{self.model} {self.seed}"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FarMemory]:
    def use(total: int, **about: int) -> FarMemory:
        device = FarMemory(total, **about)
        monkeypatch.setattr(f"{__name__}.DEVICE", [device])
        return device

    return use


def execution(device: FarMemory, activations: Activations | None, kind: type[Node], **given: Any) -> Execution:
    graph = {"a": node(kind.__name__, **given)}
    whole = check(prepare(Workflow.read(graph), Registry([kind])), targets=["a"])
    models, cache = device.models, device.cache
    return Execution(whole, cache=cache, out=Path(), device="far:0", models=models, activations=activations)


def run(device: FarMemory, activations: Activations | None, *inputs: dict[str, Any]) -> list[Event]:
    """Run nodes one after another, each in a run of its own."""
    events = [event for given in inputs for event in execution(device, activations, Sample, **given)]
    assert not any(isinstance(event, NodeFailed) for event in events)
    return events


def retries(events: list[Event]) -> int:
    return sum(isinstance(event, NodeRetried) for event in events)


def sweep(count: int) -> list[dict[str, Any]]:
    """Pictures and videos in turn, of which the latter need much to compute."""
    pictures = [{"model": "pictures 400", "nbytes": 100, "seed": seed} for seed in range(count)]
    videos = [{"model": "videos 300", "nbytes": 500, "seed": seed} for seed in range(count)]
    return [item for pair in zip(pictures, videos, strict=True) for item in pair]


def test_a_sweep_runs_out_of_memory_once_and_has_room_from_then_on(use: Callable[..., FarMemory]) -> None:
    device, activations = use(1000), Activations()
    assert retries(run(device, activations, *sweep(1))) == 1
    assert retries(run(device, activations, *sweep(5))) == 0


def test_after_a_failure_more_is_kept_free_than_was_measured(use: Callable[..., FarMemory]) -> None:
    device, activations = use(1000, scattered=100), Activations()
    items = [given | {"nbytes": 250 if "videos" in given["model"] else 50} for given in sweep(6)]
    assert retries(run(device, activations, *items[:4])) == 2
    assert retries(run(device, activations, *items[4:])) == 0


def test_what_was_learnt_outlives_the_process(use: Callable[..., FarMemory], tmp_path: Path) -> None:
    file = tmp_path / "activations.json"
    assert retries(run(use(1000), Activations(file), *sweep(1))) == 1
    assert retries(run(use(1000), Activations(file), *sweep(2))) == 0


def test_models_stay_together_where_there_is_room_for_them_and_what_they_need(use: Callable[..., FarMemory]) -> None:
    device = use(1300)
    assert retries(run(device, Activations(), *sweep(3))) == 0
    assert device.models.device_nbytes == 700


def test_what_a_node_needs_is_measured_beside_models_and_results(use: Callable[..., FarMemory]) -> None:
    device, activations = use(10_000), Activations()
    device.cache.put("result", (far(100),), 1.0, upstream=0)
    device.models.get("idle", lambda: Movable(500), "far:0")
    device.models.release()
    run(device, activations, {"model": "pictures 400", "nbytes": 123})
    assert activations.of("Sample far", "nbytes=123") == 123


class Two(Node, version=1, uses="device"):
    """Computes with one model and then with two."""

    def run(self, ctx: Context) -> str:
        for name, nbytes in (("first", 300), ("second", 100)):
            ctx.models.get(name, lambda: Movable(400), ctx.device)
            DEVICE[0].compute(nbytes)
        return "done"


def test_models_that_come_and_go_meanwhile_are_no_part_of_it(use: Callable[..., FarMemory]) -> None:
    device, activations = use(1500), Activations()
    device.models.get("idle", lambda: Movable(1000), "far:0")
    device.models.release()
    run(device, activations, {"model": "pictures 600", "nbytes": 100})
    assert activations.of("Sample far", "nbytes=100") == 100
    list(execution(device, activations, Two))
    assert activations.of("Two far", "") == 300


def test_memory_of_other_processes_is_no_room_for_models(use: Callable[..., FarMemory]) -> None:
    device = use(1300, others=600)
    small = [{"model": "a 300", "nbytes": 10}, {"model": "b 300", "nbytes": 10}]
    run(device, None, *small)
    assert device.models.device_nbytes == 300
    device.others = 0
    run(device, None, *[given | {"seed": 1} for given in small])
    assert device.models.device_nbytes == 600


def test_results_make_room_for_a_node_without_a_model(use: Callable[..., FarMemory]) -> None:
    device, activations = use(10_000), Activations()
    run(device, activations, {"nbytes": 10}, {"nbytes": 8000}, {"nbytes": 10, "seed": 1})
    device.cache.put("result", (far(500),), 1.0, upstream=0)
    assert "result" in device.cache.device
    assert retries(run(device, activations, {"nbytes": 8000, "seed": 1})) == 0
    assert "result" in device.cache.memory


def test_models_that_a_kind_used_the_last_time_stay_for_it(use: Callable[..., FarMemory]) -> None:
    device, activations = use(1000), Activations()
    sample = {"model": "needed 300", "nbytes": 690}
    run(device, activations, sample)
    needed = device.models.get("needed", lambda: pytest.fail("it is loaded"), "cpu")
    idle = device.models.get("idle", lambda: Movable(260), "far:0")
    device.models.release()
    assert (needed.device, idle.device) == ("far:0", "far:0")
    moves = []
    needed.to = moves.append  # type: ignore[method-assign, assignment]
    run(device, activations, sample | {"seed": 1})
    assert (moves, idle.device) == ([], "cpu")


def test_idle_models_make_room_for_a_node_whose_model_is_there(use: Callable[..., FarMemory]) -> None:
    device, activations = use(1000), Activations()
    activations.record("Sample far", "nbytes=600", 600)
    for name in ("needed", "idle"):
        device.models.get(name, lambda: Movable(300), "far:0")
        device.models.release()
    assert retries(run(device, activations, {"model": "needed 300", "nbytes": 600})) == 0


class TestActivations:
    def test_the_most_counts_and_the_most_of_the_kind_stands_for_a_size_that_is_new(self) -> None:
        activations = Activations()
        assert activations.of("Sample cuda", "width=8") is None
        for size, nbytes in (("width=8", 80), ("width=8", 70), ("width=4", 40)):
            activations.record("Sample cuda", size, nbytes)
        assert [activations.of("Sample cuda", f"width={width}") for width in (4, 8, 16)] == [40, 80, 80]
        assert activations.of("Other cuda", "width=8") is None

    def test_more_is_expected_after_each_failure(self) -> None:
        activations, expected = Activations(), []
        for taken in (100, 40, 1000):
            activations.record_failure("Sample cuda", "", taken)
            expected.append(activations.of("Sample cuda", ""))
        assert expected == [125, 156, 1250]

    @pytest.mark.parametrize("torn", ["", "[]", '{"Sample": 5}', '{"Sample": {"a": "x"}}'])
    def test_a_file_that_cannot_be_read_is_as_none(self, torn: str, tmp_path: Path) -> None:
        file = tmp_path / "activations.json"
        file.write_text(torn)
        activations = Activations(file)
        assert activations.of("Sample", "a") is None
        activations.record("Sample", "a", 7)
        activations.save()
        assert Activations(file).of("Sample", "a") == 7

    def test_only_so_many_are_kept(self) -> None:
        activations = Activations()
        for index in range(FILE_ENTRIES + 5):
            activations.record("Sample", str(index), FILE_ENTRIES * 2 - index)
        assert activations.of("Sample", "not known") == FILE_ENTRIES * 2 - 5

    def test_a_kind_that_is_new_is_learnt_though_all_are_taken(self) -> None:
        activations = Activations()
        for index in range(FILE_ENTRIES):
            activations.record("Sample", str(index), 5)
        for size in "ab":
            activations.record("New", size, 7)
        assert [activations.of("New", size) for size in "ab"] == [7, 7]

    def test_what_was_measured_longest_ago_goes_first_and_with_it_its_kind(self, tmp_path: Path) -> None:
        file = tmp_path / "activations.json"
        activations = Activations(file)
        activations.record("Old", "", 3)
        for index in range(FILE_ENTRIES - 1):
            activations.record("Sample", str(index), 5 + index)
        activations.record("Old", "", 2)
        activations.record("New", "", 7)
        assert [activations.of(kind, "") for kind in ("Old", "New")] == [3, 7]
        activations.save()
        again = Activations(file)
        for index in range(1, FILE_ENTRIES - 1):
            again.record("Newer", str(index), 9)
        assert again.of("Sample", "") is None
        assert [again.of(kind, "") for kind in ("Old", "New")] == [3, 7]


class Described(Node, version=1, uses="device"):
    prompt: str
    image: Image
    model: ImageModel
    width: int = 8
    strength: float = 0.5
    seed: Seed = 0

    def run(self, ctx: Context) -> int:
        return 0


def test_the_size_of_a_node_is_in_its_numbers_models_and_values() -> None:
    picture = Image(torch.zeros(1, 3, 4, 4))
    model = ImageModel("sprite/sdxl", "/models", "0123456789abcdef0123", "float16", family="Stable Diffusion XL")
    size = size_of(Described(prompt="a fish", image=picture, model=model, seed=7))
    assert size == "image=2^8 model=0123456789abcdef0123.float16 width=8"
    assert size == size_of(Described(prompt="a boat", image=picture, model=model, strength=0.7))
    other = replace(model, parts={"unet": ModelReference("large.gguf", "/large.gguf", "b", "float16")})
    assert size != size_of(Described(prompt="a fish", image=picture, model=other))


def test_a_gpu_is_measured_as_torch_and_the_driver_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"allocated_bytes": {"all": {"current": 20, "peak": 35}}, "reserved_bytes": {"all": {"current": 50}}}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30, 100))
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda device: figures)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    gauge = gauge_of("cuda:0")
    assert gauge
    assert (gauge.total, gauge.free, gauge.taken, gauge.peak) == (100, 60, 20, 35)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.5)
    assert (gauge.total, gauge.free) == (50, 30)
    assert [gauge_of(device) for device in ("cpu", "cuda:1")] == [None, None]
