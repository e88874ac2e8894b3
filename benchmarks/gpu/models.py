"""The methods on a GPU: whether they give what they give on a CPU, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import torch

from benchmarks.gpu.bench import GB, Bench, Figures, Json, Step, claim, node
from benchmarks.gpu.shapes import save_sdxl, save_svd
from engine.document.workflow import Workflow
from engine.events import NodeFailed, NodeFinished, NodeProgress, NodeRetried
from engine.models import find
from engine.values import LoRA
from models.sprite.world import STYLES, SUBJECTS, draw, film, random_motion, random_scene
from nodes.dataset.table import rows

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SPRITES = {
    "images": node("ImageModelLoad", source="sprite/sdxl"),
    "videos": node("VideoModelLoad", source="sprite/svd"),
}

MEAN_DIFFERENCE = {"float32": 1e-4, "float16": 5e-3}
"""The most by which channels in [0, 1] may differ from the CPU's in float32, on average. There, fp16 differs by 0.0004,
and float32 by 0.000002 with other kernels (without oneDNN); a grey picture differs by 0.3."""


def prompt_to_video(bench: Bench) -> Figures:
    """The main workflow runs on the device, and a second time everything comes from the cache."""
    graph = _main_workflow(bench)
    with bench.resources() as shared:
        first = bench.seconds(lambda: bench.run(shared, graph, "video"))
        started = time.perf_counter()
        again = bench.run(shared, graph, "video")
        second = time.perf_counter() - started
    claim(not again.nodes(NodeFinished), f"{', '.join(again.nodes(NodeFinished))} ran again")
    written = "a language model" if "llm" in graph else "given: the language model is not on this machine"
    return {"first run, s": first, "second run, s": second, "the prompt is": written}


def _main_workflow(bench: Bench) -> Json:
    graph = Workflow.parse((WORKFLOWS / "prompt_to_video.json").read_text()).document()["graph"]
    sizes = {"zipped": {"steps": 1, "pictures": 1, "sampling_steps": 1}, "keyframes": {"steps": 1, "count": 1}}
    for name, inputs in (sizes | {"videos": {"steps": 1, "frames": 2}}).items() if bench.small else ():
        graph[name]["inputs"] |= inputs
    if bench.small or find(graph["llm"]["inputs"]["source"]) is None:
        del graph["llm"], graph["prompt"]
        graph["keyframes"]["inputs"]["prompt"] = "a green mushroom in a meadow in neon style"
    return {name: entry for name, entry in graph.items() if not entry["class_type"].startswith("Save")}


def equal_to_cpu(bench: Bench) -> Figures:
    """A key frame and its video are those of the CPU: on average within 0.0001 in float32, 0.005 in fp16."""
    figures: dict[str, float] = {}
    (expected, film_expected), seconds = _frames(Bench("cpu", bench.small, bench.folder), "float32")
    figures["CPU, s"] = seconds
    for dtype, most in MEAN_DIFFERENCE.items():
        (picture, frames), seconds = _frames(bench, dtype)
        found = {"picture": picture - expected, "video": frames - film_expected}
        for name, difference in found.items():
            figures[f"{dtype}: mean difference of the {name}"] = mean = float(difference.abs().mean())
            claim(mean <= most, f"in {dtype} the {name} differs by {mean:.2g} on average")
        figures[f"{dtype}, s"] = seconds
    with _rounding_to_tf32():
        (picture, _), figures["TF32, s"] = _frames(bench, "float32")
    figures["TF32: mean difference of the picture"] = float((picture - expected).abs().mean())
    return figures


@contextmanager
def _rounding_to_tf32() -> Iterator[None]:
    """What the engine doesn't allow: float32 is rounded to TF32 where the GPU multiplies."""

    @contextmanager
    def rounded() -> Iterator[None]:
        parts = (torch.backends.cuda.matmul, torch.backends.cudnn)
        before = [part.allow_tf32 for part in parts]
        for part in parts:
            part.allow_tf32 = True
        try:
            yield
        finally:
            for part, allowed in zip(parts, before, strict=True):
                part.allow_tf32 = allowed

    with patch("engine.run.computing.exact_float32", rounded):
        yield


def _frames(bench: Bench, dtype: str) -> tuple[tuple[torch.Tensor, torch.Tensor], float]:
    graph = {name: {**entry, "inputs": {**entry["inputs"], "dtype": dtype}} for name, entry in SPRITES.items()}
    steps = bench.size(20, 1)
    graph["picture"] = node("KeyframeSampler", model=["images", 0], prompt="a red boat on a beach", steps=steps)
    frames = bench.size(14, 2)
    graph["video"] = node("SVDSampler", model=["videos", 0], image=["picture", 0], frames=frames, steps=steps)
    with bench.resources() as shared:
        bench.run(shared, graph, "picture", "video")  # the first time loads the models
        shared.cache.memory.clear()
        shared.cache.device.clear()
        started = time.perf_counter()
        results = bench.run(shared, graph, "picture", "video").results
        seconds = time.perf_counter() - started
    (picture,), (video,) = results["picture"], results["video"]
    return (picture.on_host().pixels, video.on_host().frames), seconds


def zips(bench: Bench) -> Figures:
    """ZipLoRAMerge works on the device with either start; its LoRA is finite and in host memory."""
    figures: dict[str, float] = {}
    for start in ("ones", "closed-form"):
        graph = {
            "images": SPRITES["images"],
            "subject": node("LoRALoad", file="sprite/loras/mushroom.safetensors"),
            "style": node("LoRALoad", file="sprite/loras/neon.safetensors"),
            "zipped": node(
                "ZipLoRAMerge",
                model=["images", 0],
                subject=["subject", 0],
                style=["style", 0],
                subject_prompt="a green mushroom in a meadow in flat style",
                style_prompt="a red boat on a beach in neon style",
                start=start,
                steps=bench.size(20, 1),
                pictures=bench.size(4, 1),
                sampling_steps=bench.size(20, 1),
            ),
        }
        with bench.resources() as shared:
            started = time.perf_counter()
            merged: LoRA = bench.run(shared, graph, "zipped").results["zipped"][0]
            figures[f"{start}, s"] = time.perf_counter() - started
        finite = all(bool(torch.isfinite(t).all()) for part in (merged.up, merged.down) for t in part.values())
        claim(finite, f"the LoRA of {start} is not finite")
        claim(merged.device_nbytes == 0, f"the LoRA of {start} is on the device")
    return figures


def trains(bench: Bench) -> Figures:
    """A LoRA is trained on the device, its loss falls, and the base model is as before."""
    from engine.models import Models
    from engine.node import Context
    from nodes.diffusion.pipelines import pipeline_for
    from nodes.image.nodes import ImageModelLoad
    from nodes.lora.training.loop import train_lora
    from nodes.lora.training.pictures import Example
    from nodes.lora.training.settings import TrainingSettings

    draws = np.random.default_rng(0)
    scenes = [random_scene(draws, SUBJECTS, STYLES) for _ in range(2)]
    examples = [Example(torch.from_numpy(draw(one)).permute(2, 0, 1).float() / 255, one.subject) for one in scenes]
    ctx = Context(bench.device, models=Models())
    pipeline = pipeline_for(ctx, ImageModelLoad(source="sprite/sdxl", dtype="float32").run(ctx), "text to image")
    before = {name: weight.detach().cpu().clone() for name, weight in pipeline.unet.named_parameters()}
    losses: list[float] = []
    steps = bench.size(60, 2)
    settings = TrainingSettings(rank=4, steps=steps, learning_rate=1e-3)
    took = bench.seconds(
        lambda: train_lora(
            pipeline, examples, settings, name="trained", progress=lambda done, total, loss: losses.append(loss)
        )
    )
    after = pipeline.unet.named_parameters()
    claim(all(torch.equal(weight.detach().cpu(), before[name]) for name, weight in after), "the base has changed")
    first, last = (float(np.mean(part)) for part in (losses[: steps // 3 + 1], losses[-steps // 3 :]))
    claim(bench.small or last < first, f"the loss went from {first:.3g} to {last:.3g}")
    return {"steps a second": steps / took, "loss at first": first, "loss at last": last}


def curates(bench: Bench) -> Figures:
    """LVDCurate describes clips on the device."""
    folder = bench.folder / "films"
    folder.mkdir()
    count = bench.size(8, 1)
    for seed in range(count):
        _write_film(folder / f"{seed}.mp4", seed)
    named = {"clip": "sprite/clip", "aesthetics": "sprite/clip/aesthetic.safetensors"}
    named |= {"image_captioner": "sprite/captioner", "video_captioner": "sprite/captioner"}
    graph = {"clips": node("LVDCurate", videos=str(folder), find_text=False, **named)}
    before, started = bench.allocated(), time.perf_counter()
    with bench.resources() as shared, bench.peak() as peak:
        ran = bench.run(shared, graph, "clips")
    took = time.perf_counter() - started
    found = rows(ran.results["clips"][0])
    claim(len(found) >= count, f"{len(found)} clips were found in {count} videos")
    claim(all(row["image_caption"] for row in found), "some clips have no caption")
    claim(not bench.on_gpu or peak[0] > before, "nothing was computed on the device")
    return {"clips": len(found), "peak in MB": (peak[0] - before) / 1e6, "seconds": took}


def _write_film(path: Path, seed: int) -> None:
    draws = np.random.default_rng(seed)
    frames = film(random_scene(draws), random_motion(draws, 200.0), 48, 24.0).repeat(2, 1).repeat(2, 2)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", 24)
        stream.height, stream.width = frames.shape[1:3]
        for frame in frames:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        target.mux(stream.encode())


def sdxl_shape(bench: Bench) -> Figures:
    """SDXL's shape in fp16 draws a picture of 1024 × 1024 pixels."""
    source = save_sdxl(bench.folder / "sdxl", bench.device, small=bench.small)
    side, steps = bench.size(1024, 64), bench.size(20, 2)
    graph = {
        "model": node("ImageModelLoad", source=str(source), dtype="float16"),
        "picture": node(
            "KeyframeSampler", model=["model", 0], prompt="a red boat", steps=steps, width=side, height=side
        ),
    }
    return _cost(bench, graph, "picture")


def svd_shape(bench: Bench) -> Figures:
    """SVD's shape in fp16 makes 14 and 25 frames of 1024 × 576 pixels."""
    source = save_svd(bench.folder / "svd", bench.device, small=bench.small)
    return {
        f"{frames} frames: {name}": value for frames in (14, 25) for name, value in _svd(bench, source, frames).items()
    }


def svd_in_16_gb(bench: Bench) -> Figures:
    """SVD's shape makes 25 frames of 1024 × 576 pixels in 16 GB."""
    source = bench.folder / "svd"
    if not source.is_dir():
        save_svd(source, bench.device, small=bench.small)
    with _capped(bench, 16 * 10**9):
        return _svd(bench, source, 25)


def _svd(bench: Bench, source: Path, frames: int) -> Figures:
    width, height = bench.size((1024, 576), (64, 64))
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    png = bench.folder / "start.png"
    _write_png(png, picture[0])
    graph = {
        "model": node("VideoModelLoad", source=str(source), dtype="float16"),
        "picture": node("LoadImage", image=str(png)),
        "video": node(
            "SVDSampler",
            model=["model", 0],
            image=["picture", 0],
            frames=bench.size(frames, 2),
            steps=bench.size(10, 1),
        ),
    }
    return _cost(bench, graph, "video")


def _write_png(path: Path, picture: torch.Tensor) -> None:
    from PIL import Image as Picture

    Picture.fromarray((picture.permute(1, 2, 0) * 255).byte().numpy()).save(path)


def _cost(bench: Bench, graph: Json, target: str) -> Figures:
    """Seconds and memory of a sampler, retries included."""
    stamps: list[float] = []
    retries, started = 0, time.perf_counter()
    with bench.resources() as shared:
        with bench.peak() as peak:
            for event in bench.execution(shared, graph, target):
                if isinstance(event, NodeFailed):
                    claim(False, event.problem.message)
                if isinstance(event, NodeProgress) and event.node == target and event.unit == "step":
                    stamps.append(time.perf_counter())
                retries += isinstance(event, NodeRetried)
        took, held = time.perf_counter() - started, shared.models.device_nbytes
    steps = np.diff(stamps)
    claim(len(stamps), "it made no step")
    return {
        "seconds, loading included": took,
        "seconds a step": float(np.median(steps)) if len(steps) else 0.0,
        "peak in GB": peak[0] / GB,
        "models in GB": held / GB,
        "retries": retries,
    }


@contextmanager
def _capped(bench: Bench, nbytes: int) -> Iterator[None]:
    """Within it this process can take no more of the GPU's memory."""
    if not bench.on_gpu:
        yield
        return
    total = torch.cuda.mem_get_info(bench.device)[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, nbytes / total), torch.device(bench.device))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, torch.device(bench.device))


STEPS: Sequence[Step] = (
    prompt_to_video,
    equal_to_cpu,
    zips,
    trains,
    curates,
    sdxl_shape,
    svd_shape,
    svd_in_16_gb,
)
