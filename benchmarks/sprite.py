"""How good the sprite models are, by the judge, on fresh samples: `python -m benchmarks.sprite`.

Each figure comes with its 95 % confidence interval (Wilson's for shares). The judge was trained apart from the models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline, StableVideoDiffusionPipeline
from PIL import Image as Picture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from models.sprite import world
from models.sprite.judging import ANSWERS, Judge, load_judge
from models.sprite.training.data import pictures
from nodes.lora.apply import applied
from nodes.lora.formats import read_lora

FAMILY = Path(__file__).parent.parent / "models" / "sprite"
Row = tuple[str, str, str]


def share(hits: Iterable[bool]) -> str:
    """A share in per cent with Wilson's 95 % interval."""
    tried = list(hits)
    n, p, z = len(tried), float(np.mean(tried)), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * p:.1f} % ({100 * (centre - spread):.1f}–{100 * (centre + spread):.1f}, n = {n})"


def mean(values: Sequence[float], unit: str) -> str:
    """A mean with its 95 % interval."""
    spread = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return f"{np.mean(values):.1f} ± {spread:.1f} {unit} (n = {len(values)})"


def sdxl() -> StableDiffusionXLPipeline:
    return _quiet(
        StableDiffusionXLPipeline.from_pretrained(FAMILY / "sdxl", dtype=torch.float32, add_watermarker=False)
    )


def svd() -> StableVideoDiffusionPipeline:
    return _quiet(StableVideoDiffusionPipeline.from_pretrained(FAMILY / "svd", dtype=torch.float32))


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: StableDiffusionXLPipeline, prompts: Sequence[str], steps: int, seed: int = 0) -> Tensor:
    """Pictures (N, 3, 64, 64) in [0, 1], each with a seed of its own."""
    made = []
    for start in range(0, len(prompts), 25):
        part = list(prompts[start : start + 25])
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        output = pipeline(part, num_inference_steps=steps, guidance_scale=3.0, generator=generators, output_type="pt")
        made.append(output.images)
    return torch.cat(made)


def verdicts(judge: Judge, images: Tensor, scenes: Sequence[world.Scene]) -> dict[str, list[bool]]:
    """By attribute: was each picture judged to show what its scene says?"""
    found = judge.answers(images)
    return {slot: [f[slot] == getattr(s, slot) for f, s in zip(found, scenes, strict=True)] for slot in ANSWERS}


def drawn_rows(judge: Judge, count: int) -> list[Row]:
    rng = np.random.default_rng(1001)
    scenes = [world.random_scene(rng, world.SUBJECTS, world.STYLES) for _ in range(count)]
    return [
        ("judge on drawn sprites", slot, share(hits))
        for slot, hits in verdicts(judge, pictures(scenes), scenes).items()
    ]


def picture_rows(judge: Judge, count: int, steps: int) -> list[Row]:
    rng = np.random.default_rng(1002)
    scenes = [world.random_scene(rng) for _ in range(count)]
    images = generate(sdxl(), [world.plain_caption(s) for s in scenes], steps)
    return [("sdxl, judged right", slot, share(hits)) for slot, hits in verdicts(judge, images, scenes).items()]


def lora_rows(judge: Judge, count: int, steps: int) -> list[Row]:
    pipeline, rows = sdxl(), []
    for file in track(sorted((FAMILY / "loras").glob("*.safetensors")), "LoRAs", console=Console(stderr=True)):
        concept = file.stem
        slot = "subject" if concept in world.HELD_OUT_SUBJECTS else "style"
        rng = np.random.default_rng(1003)
        subjects = (concept,) if slot == "subject" else world.BASE_SUBJECTS
        styles = (concept,) if slot == "style" else world.BASE_STYLES
        scenes = [world.random_scene(rng, subjects, styles) for _ in range(count)]
        with applied(pipeline, [read_lora(file)]):
            images = generate(pipeline, [world.plain_caption(s) for s in scenes], steps)
        right = verdicts(judge, images, scenes)
        rest = [hit for other, hits in right.items() if other != slot for hit in hits]
        rows += [(f"lora {concept}", slot, share(right[slot])), (f"lora {concept}", "the rest", share(rest))]
    return rows


def video_rows(judge: Judge, count: int, steps: int) -> list[Row]:
    pipeline = svd()
    rng = np.random.default_rng(1004)
    buckets, moved, fidelity, kept = [], [], [], []
    for index in track(range(count), "videos", console=Console(stderr=True)):
        scene = world.random_scene(rng)
        key_frame = pictures([scene])[0]
        bucket = (16, 64, 127, 191, 255)[index % 5]
        frames = animate(pipeline, key_frame, bucket, steps, seed=index)
        error = (frames[0] - key_frame).square().mean().item()
        fidelity.append(-10 * np.log10(max(error, 1e-10)))
        moved.append((frames[1:] - frames[:-1]).abs().mean().item() * 255)
        buckets.append(bucket)
        kept.append(judge.answers(frames[-1:])[0]["subject"] == scene.subject)
    by_bucket = {b: [m for m, own in zip(moved, buckets, strict=True) if own == b] for b in sorted(set(buckets))}
    rows = [
        ("svd, 14 frames", "first frame PSNR", mean(fidelity, "dB")),
        ("svd, 14 frames", "subject right in the last frame", share(kept)),
    ]
    return rows + [
        ("svd, 14 frames", f"change a frame at motion bucket {b}", mean(changes, "/255"))
        for b, changes in by_bucket.items()
    ]


def animate(pipeline: StableVideoDiffusionPipeline, key_frame: Tensor, bucket: int, steps: int, seed: int) -> Tensor:
    """Frames (14, 3, 64, 64) in [0, 1] of a key frame (3, 64, 64)."""
    picture = Picture.fromarray((key_frame * 255).round().byte().permute(1, 2, 0).numpy())
    return pipeline(
        picture,
        height=world.SIZE,
        width=world.SIZE,
        motion_bucket_id=bucket,
        fps=7,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).frames[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200, help="pictures to judge")
    parser.add_argument("--lora-pictures", type=int, default=50, help="pictures for each LoRA")
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--only", choices=["judge", "sdxl", "loras", "svd"], help="one part of the table")
    chosen = parser.parse_args()
    judge = load_judge()
    parts: dict[str, Callable[[], list[Row]]] = {
        "judge": lambda: drawn_rows(judge, 5 * chosen.pictures),
        "sdxl": lambda: picture_rows(judge, chosen.pictures, chosen.steps),
        "loras": lambda: lora_rows(judge, chosen.lora_pictures, chosen.steps),
        "svd": lambda: video_rows(judge, chosen.videos, chosen.steps),
    }
    table = Table("model", "what", "figure")
    for name, rows in parts.items():
        if chosen.only in (None, name):
            for row in rows():
                table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
