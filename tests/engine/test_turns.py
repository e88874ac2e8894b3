"""A sweep on a device that hasn't room for all its models changes them as seldom as results can wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Self

import pytest
import torch

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import NodeFinished, RunFinished
from engine.graph.check import check
from engine.graph.keys import node_keys
from engine.graph.plan import make_plan
from engine.models.usage import Usage, User
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.activations import Activations
from engine.run.execute import Execution
from engine.run.schedule import Schedule, Task
from engine.run.turns import user_of
from engine.store.cache import Entry, passing
from engine.values import ImageModel, ModelReference, VideoModel
from tests.engine.far import FarArray, FarMemory, Movable, Numbers
from tests.engine.toys import node

NBYTES = 40
"""What a picture takes."""
DEVICE: list[FarMemory] = []
MOVES: list[str] = []
"""The models that moved to the device, in order."""


@dataclass
class Named(Movable):
    name: str = ""

    def to(self, device: str) -> Self:
        if device != "cpu":
            MOVES.append(self.name)
        return super().to(device)


def use(ctx: Context, name: str) -> None:
    ctx.models.get(name, lambda: Named(400, name=name), ctx.device)


class Choose(Node, version=1):
    """Names a model."""

    name: str

    def run(self, ctx: Context) -> ImageModel:
        return ImageModel(self.name, "", self.name, "float16", family="Stable Diffusion XL")


class Draw(Node, version=1, uses="device"):
    """Draws a picture with a model of its own, or the one that it is given."""

    seed: int
    model: ImageModel | None = None

    def run(self, ctx: Context) -> Numbers:
        use(ctx, self.model.identity if self.model else "pictures")
        return Numbers(FarArray(torch.full((NBYTES // 4,), self.seed, dtype=torch.float32)))


class Film(Node, version=1, uses="device"):
    """Makes a video of a picture with a model, which takes some memory."""

    picture: Numbers
    needs: int = 0

    def run(self, ctx: Context) -> str:
        use(ctx, "videos")
        DEVICE[0].compute(self.needs)
        return f"video of {int(self.picture.array.cpu()[0])}"


REGISTRY = Registry([Choose, Draw, Film])


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FarMemory]:
    """Makes a device with so much memory, beside a host with room for so many bytes of results."""
    MOVES.clear()

    def make(total: int, results: int = 10**6) -> FarMemory:
        device = FarMemory(total, results=results)
        monkeypatch.setattr(f"{__name__}.DEVICE", [device])
        return device

    return make


def test_a_model_is_told_from_another_by_its_parts_its_motion_and_its_type() -> None:
    part, other = (ModelReference(name, "", name, "float16") for name in ("part", "other"))
    image = ImageModel("sdxl", "", "sdxl", "float16", family="Stable Diffusion XL")
    video = VideoModel("svd", "", "svd", "float16", family="Stable Video Diffusion")
    models = [
        *(replace(model, dtype=dtype) for model in (image, video, part) for dtype in ("float16", "float32")),
        *(
            replace(model, parts=parts)
            for model in (image, video)
            for parts in ({"unet": part}, {"unet": other}, {"vae": part})
        ),
        replace(video, motion=part),
        replace(video, motion=other),
    ]
    users = {user_of("Draw", "cuda:0", [model]) for model in models}
    assert len(users) == len(models)
    typed = replace(part, dtype="float32")  # a part gets the model's type, whatever its own
    assert replace(image, parts={"unet": typed}).made_of == replace(image, parts={"unet": part}).made_of


def sweep(device: FarMemory, count: int, *, needs: int = 0, models: tuple[str, ...] = ()) -> list[str]:
    """Make videos of as many pictures, by each of the models; returns the nodes in the order in which they ended."""
    graph = {f"model {name}": node("Choose", name=name) for name in models}
    for item in range(count):
        for name in models or ("",):
            given = {"model": [f"model {name}", 0]} if name else {}
            graph[f"draw {item}{name}"] = node("Draw", seed=item, **given)
            graph[f"film {item}{name}"] = node("Film", picture=[f"draw {item}{name}", 0], needs=needs)
    targets = [name for name in graph if name.startswith("film")]
    checked = check(prepare(Workflow.read(graph), REGISTRY), targets=targets)
    shared = {"cache": device.cache, "models": device.models, "activations": Activations()}
    run = Execution(checked, out=Path(), device="far:0", **shared)  # type: ignore[arg-type]
    events = list(run)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].status == "done"
    assert {name: made for name, (made,) in run.results.items()} == {
        name: f"video of {name.removeprefix('film ').rstrip('abc')}" for name in targets
    }
    return [event.node for event in events if isinstance(event, NodeFinished) and event.kind in ("Draw", "Film")]


def depth_first(count: int) -> list[str]:
    return [name for item in range(count) for name in (f"draw {item}", f"film {item}")]


def test_models_that_do_not_fit_together_change_a_few_times_in_a_sweep(make: Callable[..., FarMemory]) -> None:
    order = sweep(make(800), 20)
    assert MOVES == ["pictures", "videos"] * 2
    assert order[:2] == ["draw 0", "film 0"]
    assert order[2:] == [f"draw {item}" for item in range(1, 20)] + [f"film {item}" for item in range(1, 20)]


def test_what_was_learnt_in_one_run_holds_in_the_next(make: Callable[..., FarMemory]) -> None:
    device = make(800)
    sweep(device, 1)
    device.cache.clear()
    MOVES.clear()
    sweep(device, 20)
    assert MOVES == ["pictures", "videos"]


def test_an_item_is_finished_before_the_next_where_both_models_fit(make: Callable[..., FarMemory]) -> None:
    assert sweep(make(1000), 20) == depth_first(20)
    assert MOVES == ["pictures", "videos"]


def test_models_fit_only_if_what_nodes_take_beside_them_does(make: Callable[..., FarMemory]) -> None:
    sweep(make(1300), 20, needs=600)
    assert MOVES.count("pictures") == 2
    assert sweep(make(1700), 20, needs=600) == depth_first(20)


def test_results_do_not_wait_beyond_their_budget(make: Callable[..., FarMemory]) -> None:
    order = sweep(make(800, results=10 * NBYTES), 30)
    assert MOVES == ["pictures", "videos"] * 4
    waiting = list(accumulate(1 if name.startswith("draw") else -1 for name in order))
    assert max(waiting) == 11
    assert sweep(make(800, results=0), 20) == depth_first(20)


def test_one_kind_is_known_by_the_model_that_it_is_given(make: Callable[..., FarMemory]) -> None:
    sweep(make(800), 10, models=("a", "b", "c"))
    assert len(MOVES) <= 10  # 60 for one item after another


def test_a_node_is_likely_to_use_what_those_with_its_models_did_or_else_its_kind() -> None:
    usage = Usage()
    one, other = User("Draw far", frozenset({"a.float16"})), User("Draw far", frozenset({"b.float16"}))
    assert usage.of(one) is None
    usage.record(one, {"a": 1})
    assert usage.of(other) == {"a": 1}
    usage.record(other, {"b": 2})
    assert (usage.of(one), usage.of(other)) == ({"a": 1}, {"b": 2})


def test_models_that_a_node_is_given_are_found_in_lists_too() -> None:
    model = ImageModel("source", "path", "digest", "float16", family="Stable Diffusion XL")
    assert user_of("Draw", "far:0", ["text", (1, (model,))]) == User("Draw far", frozenset({"digest.float16"}))


def test_a_node_displaces_models_that_are_not_its_own() -> None:
    device = FarMemory(1000)
    models = device.models
    own = User("Draw far")
    assert not models.displaces("far:0", own, None)  # it isn't known what it uses
    models.begin("far:0", own, None)
    models.get("own", lambda: Movable(400), "far:0")
    models.end("far:0")
    models.release()
    assert not models.displaces("far:0", own, 900)  # which it would do no better later
    models.get("other", lambda: Movable(100), "far:0")
    models.release()
    assert [models.displaces("far:0", own, need) for need in (0, 450, 460)] == [False, False, True]
    models.offload_idle()
    models.get("other", lambda: Movable(100), "far:0")
    models.release()
    assert [models.displaces("far:0", own, need) for need in (450, 460)] == [False, True]


@pytest.mark.parametrize("seed", range(5))
def test_the_others_keep_their_order_whoever_is_chosen(seed: int) -> None:
    numbers, drawn = Random(seed), []

    def choose(ready: Sequence[tuple[int, Task]], held: Iterable[Entry]) -> Task:
        assert ready[0] == min(ready, key=itemgetter(0))
        drawn.append(ready[0 if numbers.random() < 0.5 else numbers.randrange(len(ready))][1])
        return drawn[-1]

    nodes = {str(item): node("Draw", seed=item) for item in range(30)}
    graph = check(prepare(Workflow.read(nodes), REGISTRY), targets=list(nodes))
    schedule = Schedule({"device": 1, "cpu": 1, "io": 1}, more_threads=lambda: None, choose=choose)
    schedule.add(make_plan(graph, node_keys(graph, "far"), held=lambda key: False))
    while isinstance(task := schedule.take(), Task):
        schedule.done(task, passing((), 0.0))
    assert sorted(int(task.step.id) for task in drawn) == list(range(30))
