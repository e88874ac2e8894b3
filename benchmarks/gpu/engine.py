"""The engine on a GPU: where values and models are, what happens when memory runs out, and what moving costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu.bench import GB, Bench, Claim, Figures, Step, claim, node
from benchmarks.gpu.kinds import KINDS, Allocate, Invert, Noise, UseModel, WhereIs, WhereIsOnHost
from engine.client import Client
from engine.errors import NodeError
from engine.events import NodeCached, NodeFinished, NodeProgress, NodeRetried, RunFinished
from engine.run.resources import Resources
from engine.store.disk import Disk
from engine.values import Image, Video

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "engine.cli")
ASSERTS = '''
import torch
from engine.node import Context, Node


class Assert(Node, version=1, uses="device"):
    """Reads past the end of a tensor: on a GPU an assertion of the device, after which the process can't use it."""

    def run(self, ctx: Context) -> float:
        return float(torch.ones(4, device=ctx.device)[torch.tensor([10**6], device=ctx.device)].sum())
'''


def marked_tests(bench: Bench) -> Figures:
    """The tests that need a GPU pass."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", "tests"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = ended.stdout.strip().rpartition("\n")[2]
    claim(ended.returncode == 0, last or ended.stderr.strip().rpartition("\n")[2])
    claim(not bench.on_gpu or " passed" in last, f"none of them was run: {last}")
    return {"pytest": last}


def stays(bench: Bench) -> Figures:
    """A value stays on the device for the next node and for the next run; other nodes get it in host memory."""
    made = {"a": node(Noise, frames=bench.size(25, 2), side=bench.size(768, 16)), "b": node(Invert, video=["a", 0])}
    there, elsewhere = node(WhereIs, video=["b", 0]), node(WhereIsOnHost, video=["b", 0])
    with bench.resources() as shared:
        first = bench.run(shared, {**made, "where": there}, "where", kinds=KINDS)
        again = bench.run(shared, {**made, "where": there, "host": elsewhere}, "where", "host", kinds=KINDS)
    kind = torch.device(bench.device).type
    claim(first.results["where"] == (kind,), f"the next node got it on {first.results['where'][0]}")
    claim(again.results["host"] == ("cpu",), f"a node of the host got it on {again.results['host'][0]}")
    claim("b" not in again.nodes(NodeFinished), "the next run computed it again")
    return {"nodes taken from the cache": len(again.nodes(NodeCached))}


def spills(bench: Bench) -> Figures:
    """Where the device's budget is used up values move to host memory, and come back equal."""
    graph = {"a": node(Noise, frames=bench.size(25, 2), side=bench.size(1024, 16)), "b": node(Invert, video=["a", 0])}
    videos = []
    for budget in (None, 0):
        with bench.resources(budget) as shared:
            bench.run(shared, graph, "b", kinds=KINDS)
            again = bench.run(shared, graph, "b", kinds=KINDS)
            claim(again.nodes(NodeCached) == ["b"], "it was computed again")
            (video,) = again.results["b"]
            videos.append(video.on_host().frames)
            held = shared.cache.device.nbytes
            claim(budget is None or not held, f"{held} bytes are held on the device")
    claim(torch.equal(*videos), "the values differ")
    return {"bytes": int(videos[0].nbytes)}


def sweep_peak(bench: Bench) -> Figures:
    """With no budget on the device a sweep of 20 seeds into one video takes no more of it than a sweep of two."""
    frames, side = bench.size(25, 4), bench.size(768, 32)
    peaks = []
    for count in (2, 20):
        graph = {
            "seeds": node("NumberRange", count=count),
            "noise": node(Noise, seed=["seeds", 0], frames=frames, side=side),
            "video": node("JoinVideos", first=["noise", 0]),
        }
        with bench.resources(0) as shared:
            before = bench.allocated()
            with bench.peak() as peak:
                (video,) = bench.run(shared, graph, "video", kinds=KINDS).results["video"]
            peaks.append(peak[0] - before)
        claim(video.frames.device.type == "cpu", "the joined video is on the device")
    claim(peaks[1] <= 1.1 * peaks[0], f"the peak grew from {peaks[0]} to {peaks[1]} bytes")
    return {"peak of 2 in MB": peaks[0] / 1e6, "peak of 20 in MB": peaks[1] / 1e6}


def swaps(bench: Bench) -> Figures:
    """Two models that don't fit together take turns without running out of memory."""
    weights = bench.size(5 * 10**8, 10**4)
    graph = {"0": node(UseModel, model="a", weights=weights)}
    for turn in range(1, 6):
        graph[str(turn)] = node(UseModel, model="ab"[turn % 2], weights=weights, after=[str(turn - 1), 0])
    with bench.resources(6 * weights) as shared:  # bytes: one and a half models in float32
        bench.run(shared, {"0": graph["0"]}, "0", kinds=KINDS)
        took = bench.seconds(lambda: claim(not _retries(bench, shared, graph), "it ran out of memory and tried again"))
        held = shared.models.device_nbytes
    claim(bench.device == "cpu" or held <= 6 * weights, f"{held} bytes of models are on the device")
    return {"GB of a model": 4 * weights / GB, "seconds a swap": took / 5}


def _retries(bench: Bench, shared: Resources, graph: dict[str, Any]) -> list[str]:
    return bench.run(shared, graph, list(graph)[-1], kinds=KINDS).nodes(NodeRetried)


def out_of_memory(bench: Bench) -> Figures:
    """Running out of memory fails one node with a clear reason; the next run works, and nothing is left over."""
    fits = {"a": node(Noise, frames=2, side=64)}
    with bench.resources() as shared:
        bench.run(shared, fits, "a", kinds=KINDS)
        before, room = bench.allocated(), _room(bench)
        failed = bench.attempt(shared, {"b": node(Allocate, nbytes=2 * room)}, "b", kinds=KINDS)
        claim("out of memory" in failed.failures, failed.failures or "it didn't fail")
        claim(len(failed.nodes(NodeRetried)) == 1, "it wasn't tried once more")
        again = bench.run(shared, {"a": node(Noise, frames=2, side=64, seed=1)}, "a", kinds=KINDS)
        held = shared.models.device_nbytes + shared.cache.device.nbytes
        left = bench.allocated() - before
        del again
    claim(left <= max(held, 1 << 20), f"{left} bytes more are allocated, models and values hold {held}")
    return {"reason": failed.failures.partition(" (")[0]}


def _room(bench: Bench) -> int:
    return torch.cuda.mem_get_info(bench.device)[1] if bench.on_gpu else 1 << 52


def fails_once(bench: Bench) -> Figures:
    """Where memory runs out while pictures are encoded or decoded the second attempt gives the same video."""
    figures: dict[str, Any] = {}
    for dtype in ("float32", "float16") if bench.on_gpu else ("float32",):
        graph = _video(bench, dtype)
        with bench.resources() as shared:
            (expected,) = bench.run(shared, graph, "video").results["video"]
        for method in ("encode", "decode"):
            with bench.resources() as shared, _failing_once(method) as failed:
                ran = bench.run(shared, graph, "video")
                (video,) = ran.results["video"]
            claim(failed, f"{method} wasn't called")
            difference = float((video.on_host().frames - expected.on_host().frames).abs().max())
            claim(difference <= 1e-3, f"after a failure in {method} in {dtype} the video differs by {difference:.2g}")
            figures[f"{dtype} {method}: retries"] = len(ran.nodes(NodeRetried))
    return figures


def _video(bench: Bench, dtype: str) -> dict[str, Any]:
    steps, frames = bench.size(8, 1), bench.size(14, 2)
    return {
        "images": node("ImageModelLoad", source="sprite/sdxl", dtype=dtype),
        "picture": node("KeyframeSampler", model=["images", 0], prompt="a red snail at night", steps=steps),
        "videos": node("VideoModelLoad", source="sprite/svd", dtype=dtype),
        "video": node("SVDSampler", model=["videos", 0], image=["picture", 0], frames=frames, steps=steps),
    }


@contextmanager
def _failing_once(method: str) -> Iterator[list[str]]:
    """Autoencoders run out of memory the first time that a method of theirs is called."""
    from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder

    failed = list[str]()

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not failed:
                failed.append(type(self).__name__)
                raise torch.OutOfMemoryError("tried to allocate 2.00 GiB (injected)")
            return original(self, *args, **kwargs)

        return call

    with ExitStack() as stack:
        for kind in (AutoencoderKL, AutoencoderKLTemporalDecoder):
            stack.enter_context(patch.object(kind, method, failing(getattr(kind, method))))
        yield failed


def adapters(bench: Bench) -> Figures:
    """After pictures with two different LoRAs the base model draws what it drew before, to the last bit."""
    base = {"images": node("ImageModelLoad", source="sprite/sdxl")}
    inputs = {"prompt": "a green mushroom in a meadow", "steps": bench.size(8, 1)}
    with bench.resources() as shared:
        plain = {**base, "picture": node("KeyframeSampler", model=["images", 0], **inputs)}
        (before,) = bench.run(shared, plain, "picture").results["picture"]
        shared.cache.memory.clear()
        shared.cache.device.clear()
        for name in ("mushroom", "neon"):
            graph = {
                **base,
                "lora": node("LoRALoad", file=f"sprite/loras/{name}.safetensors"),
                "applied": node("LoRAApply", model=["images", 0], lora=["lora", 0]),
                "picture": node("KeyframeSampler", model=["applied", 0], **inputs),
            }
            (drawn,) = bench.run(shared, graph, "picture").results["picture"]
            claim(not torch.equal(_pixels(drawn), _pixels(before)), f"the LoRA {name} changes nothing")
        again = bench.run(shared, plain, "picture")
        claim("picture" in again.nodes(NodeFinished), "it came from the cache")
        claim(torch.equal(_pixels(again.results["picture"][0]), _pixels(before)), "the base model has changed")
    return {}


def _pixels(image: Image | Video) -> torch.Tensor:
    value = image.on_host()
    return value.pixels if isinstance(value, Image) else value.frames


def cancels(bench: Bench) -> Figures:
    """A run that is cancelled while it samples begins one more step at most, and leaves only models."""
    graph = _video(bench, "float32")
    graph["video"]["inputs"]["steps"] = bench.size(200, 20)
    steps, cancelled, took = 0, 0.0, 0.0
    with bench.resources() as shared, _denoising() as begun:
        before = bench.allocated()
        execution = bench.execution(shared, graph, "video")
        for event in execution:
            if isinstance(event, NodeProgress) and event.node == "video":
                steps += 1
                if steps == 2:
                    execution.cancel()
                    cancelled = time.perf_counter()
            if isinstance(event, RunFinished):
                took = time.perf_counter() - cancelled
                claim(event.status == "cancelled", f"the run ended as {event.status}")
        after = sum(moment > cancelled for moment in begun)
        claim(after <= 1, f"{after} steps were begun after it was cancelled")
        left = bench.allocated() - before - shared.models.device_nbytes - shared.cache.device.nbytes
    claim(left < 64 << 20, f"{left} bytes are left beside models and values")
    return {"MB left": left / 1e6, "steps begun afterwards": after, "seconds to the end": took}


@contextmanager
def _denoising() -> Iterator[list[float]]:
    """The list gets the moment, by `time.perf_counter`, at which a video model begins each step."""
    from diffusers import UNetSpatioTemporalConditionModel

    begun = list[float]()

    def note(module: torch.nn.Module, _: Any) -> None:
        if isinstance(module, UNetSpatioTemporalConditionModel):
            begun.append(time.perf_counter())

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield begun
    finally:
        hook.remove()


def two_processes(bench: Bench) -> Figures:
    """Two commands at once on one GPU both succeed."""
    settings = ["--set", f"video.steps={bench.size(20, 1)}", "--set", f"video.frames={bench.size(14, 2)}"]
    command = [*CLI, "run", "workflows/image_to_video.json", "--device", bench.device, *settings]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        own = ["--out", str(bench.folder / name), "--cache-dir", str(bench.folder / f"{name}-cache")]
        return subprocess.run([*command, *own], cwd=ROOT, capture_output=True, text=True, check=False)

    ended = list[subprocess.CompletedProcess[str]]()
    with ThreadPoolExecutor() as pool:
        took = bench.seconds(lambda: ended.extend(pool.map(run, ("one", "two"))))
    for one in ended:
        claim(one.returncode == 0, one.stderr.strip().rpartition("\n")[2])
    return {"seconds": took}


def device_assert(bench: Bench) -> Figures:
    """After an assertion of the device the job fails with the reason, and the next one runs, in a new worker."""
    nodes, home = bench.folder / "asserts.py", bench.folder / "home"
    nodes.write_text(ASSERTS)
    command = [*CLI, "serve", "--json", "--port", "0", "--device", bench.device, "--nodes", str(nodes)]
    environment = {**os.environ, "KINOGRAPH_HOME": str(home), "PYTHONPATH": str(ROOT)}
    picture = {
        "images": node("ImageModelLoad", source="sprite/sdxl"),
        "picture": node("KeyframeSampler", model=["images", 0], prompt="a red snail", steps=1),
        "save": node("SaveImage", images=["picture", 0]),
    }
    with subprocess.Popen(command, cwd=bench.folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            with Client(json.loads(server.stdout.readline())["address"]) as client:
                reason = _failure(client, {"a": node("Assert")})
                took = bench.seconds(lambda: client.run(picture, timeout=90))
        finally:
            server.terminate()
    return {"reason": reason, "seconds until the next is done": took}


def _failure(client: Client, workflow: dict[str, Any]) -> str:
    """Why a job fails."""
    try:
        client.run(workflow, targets=list(workflow), timeout=90)
    except NodeError as error:
        return str(error)
    raise Claim("the job with the assertion didn't fail")


def tiers(bench: Bench) -> Figures:
    """Values move to pinned memory at half the speed of torch's own copies, at least."""
    frames, side = bench.size(48, 2), bench.size(1024, 16)
    video = Video(torch.rand(frames, 3, side, side).to(bench.device), 7.0)
    raw = torch.empty_like(video.frames, device="cpu", pin_memory=bench.on_gpu)
    host = video.on_host(pinned=True)
    works: dict[str, Callable[[], object]] = {
        "to pinned memory": lambda: video.on_host(pinned=True),
        "to pinned memory, torch's copy": lambda: raw.copy_(video.frames),
        "to other host memory": video.on_host,
        "from pinned memory": lambda: host.frames.to(bench.device),
    }
    rounds = [{name: bench.seconds(work) for name, work in works.items()} for _ in range(5)]
    took = {name: median(each[name] for each in rounds) for name in works}
    key, folder = "0" * 64, bench.folder / "tiers"
    with closing(Disk(folder)) as disk:
        started = time.perf_counter()
        disk.write(key, (host,), 1.0, 1.0)
    took["to disk"] = time.perf_counter() - started
    with closing(Disk(folder)) as disk:
        took["from disk"] = bench.seconds(lambda: disk.read(key))
    speeds = {f"GB/s {name}": host.nbytes / GB / seconds for name, seconds in took.items()}
    share = took["to pinned memory, torch's copy"] / took["to pinned memory"]
    claim(bench.small or share >= 0.5, f"values move to pinned memory at {share:.0%} of the speed of torch's copies")
    return speeds


STEPS: Sequence[Step] = (
    stays,
    spills,
    sweep_peak,
    swaps,
    out_of_memory,
    fails_once,
    adapters,
    cancels,
    tiers,
    two_processes,
    device_assert,
    marked_tests,
)
