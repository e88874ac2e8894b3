"""How good the sprite models are, according to the judge, on fresh samples: `python -m benchmarks.sprite`.

Each figure has a 95 % confidence interval (Wilson's for shares). The judge was trained separately from the models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline, StableVideoDiffusionPipeline
from PIL import Image as Picture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoProcessor, CLIPModel, CLIPProcessor

from benchmarks.cards import write_card
from benchmarks.measures import auc, flow, frechet, mean, share, share_of_groups
from engine.values import LoRA
from models.sprite import world
from models.sprite.judging import ANSWERS, Judge, load_judge
from models.sprite.training import captioner, clip, loras
from models.sprite.training.data import pictures, tensor
from models.sprite.training.sdxl import VARIETY
from nodes.diffusion.adapters import applied
from nodes.lora.reading import read_lora
from nodes.lora.ziplora import ZipSettings, zip_loras

FAMILY = Path(__file__).parent.parent / "models" / "sprite"
Row = tuple[str, str, str]


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
    """By attribute, whether each picture was judged to show what its scene says."""
    found = judge.answers(images)
    return {slot: [f[slot] == getattr(s, slot) for f, s in zip(found, scenes, strict=True)] for slot in ANSWERS}


def drawn_rows(judge: Judge, count: int) -> list[Row]:
    """The judge on pictures as drawn: each attribute, its worst class, and the error of its confidence."""
    rng = np.random.default_rng(1001)
    scenes = [world.random_scene(rng, world.SUBJECTS, world.STYLES) for _ in range(count)]
    rows = []
    for slot, hits in verdicts(judge, pictures(scenes), scenes).items():
        rows.append(("judge, as drawn", slot, share(hits)))
        by_class = {
            name: [hit for hit, scene in zip(hits, scenes, strict=True) if getattr(scene, slot) == name]
            for name in ANSWERS[slot]
        }
        worst = min(by_class, key=lambda name: float(np.mean(by_class[name])))
        rows.append(("judge, as drawn", f"worst {slot}: {worst}", share(by_class[worst])))
    return [*rows, ("judge, worn pictures", "calibration error", f"{100 * calibration_error(judge, count):.2f} %")]


@torch.inference_mode()
def calibration_error(judge: Judge, count: int) -> float:
    """Mean gap between confidence and accuracy, in ten bins of confidence, on noisy and blurred pictures."""
    rng = np.random.default_rng(1011)
    scenes = [world.random_scene(rng, world.SUBJECTS, world.STYLES) for _ in range(count)]
    faults = [world.Degradation(("blur", "noise")[i % 2], float(rng.uniform(0, 0.3))) for i in range(count)]
    worn = tensor(fault(world.draw(s)[None], rng)[0] for fault, s in zip(faults, scenes, strict=True))
    sure, right = [], []
    for slot, logits in judge(worn).items():
        confidence, chosen = logits.softmax(1).max(1)
        sure += confidence.tolist()
        right += [ANSWERS[slot][int(c)] == getattr(s, slot) for c, s in zip(chosen, scenes, strict=True)]
    bins = np.minimum((np.asarray(sure) * 10).astype(int), 9)
    gaps = [abs(np.mean(np.asarray(sure)[bins == b]) - np.mean(np.asarray(right)[bins == b])) for b in set(bins)]
    return float(np.average(gaps, weights=[(bins == b).mean() for b in set(bins)]))


def picture_rows(judge: Judge, count: int, steps: int) -> list[Row]:
    """Pictures of plain captions, judged; and their distance to drawn ones, relative to that of two drawn sets."""
    rng = np.random.default_rng(1002)
    one, other = ([world.random_scene(rng, variety=VARIETY) for _ in range(count)] for _ in range(2))
    images = generate(sdxl(), [world.plain_caption(s) for s in one], steps)
    rows = [("sdxl, judged right", slot, share(hits)) for slot, hits in verdicts(judge, images, one).items()]
    with torch.inference_mode():
        made, drawn, also_drawn = (judge.features(p) for p in (images, pictures(one), pictures(other)))
    ratio = frechet(made, also_drawn) / frechet(drawn, also_drawn)
    return [
        *rows,
        ("sdxl, Fréchet distance", "to drawn ones, over that of two drawn sets", f"{ratio:.2f} (n = {count})"),
    ]


def lora_rows(judge: Judge, count: int, steps: int) -> list[Row]:
    """Each LoRA by itself: whether its concept appears, and whether the rest of the prompt is followed."""
    pipeline, rows = sdxl(), []
    for concept in track(taught(), "LoRAs", console=Console(stderr=True)):
        slot = "subject" if concept in world.HELD_OUT_SUBJECTS else "style"
        rng = np.random.default_rng(1003)
        scenes = [world.random_scene(rng, *holding(concept)) for _ in range(count)]
        with applied(pipeline, [read_lora(lora_file(concept))]):
            images = generate(pipeline, [world.plain_caption(s) for s in scenes], steps)
        right = verdicts(judge, images, scenes)
        rest = [hit for other, hits in right.items() if other != slot for hit in hits]
        rows += [(f"lora {concept}", slot, share(right[slot])), (f"lora {concept}", "the rest", share(rest))]
    return rows


def taught() -> list[str]:
    """The concepts that have a LoRA."""
    return [concept for concept in loras.CONCEPTS if lora_file(concept).is_file()]


def taught_sides() -> tuple[list[str], list[str]]:
    """The subjects and the styles among them."""
    subjects, styles = ([c for c in taught() if c in held] for held in (world.HELD_OUT_SUBJECTS, world.HELD_OUT_STYLES))
    return subjects, styles


def lora_file(concept: str) -> Path:
    return FAMILY / "loras" / f"{concept}.safetensors"


def holding(concept: str) -> tuple[Sequence[str], Sequence[str]]:
    """Subjects and styles for pictures that show a held-out concept, with base words otherwise."""
    if concept in world.HELD_OUT_SUBJECTS:
        return (concept,), world.BASE_STYLES
    return world.BASE_SUBJECTS, (concept,)


def zip_rows(judge: Judge, count: int, steps: int) -> list[Row]:
    """Every pair of a held-out subject and a held-out style, zipped."""
    pipeline, rows = sdxl(), []
    everything: dict[str, list[bool]] = {slot: [] for slot in (*ANSWERS, "both")}
    pairs = list(product(*taught_sides()))
    for subject, style in track(pairs, "zipped pairs", console=Console(stderr=True)):
        rng = np.random.default_rng(1007)
        scenes = [world.random_scene(rng, (subject,), (style,)) for _ in range(count)]
        with applied(pipeline, [zipped(pipeline, subject, style)]):
            images = generate(pipeline, [world.plain_caption(s) for s in scenes], steps)
        right = verdicts(judge, images, scenes)
        right["both"] = [a and b for a, b in zip(right["subject"], right["style"], strict=True)]
        for slot, hits in right.items():
            everything[slot] += hits
        figures = ", ".join(f"{slot} {100 * np.mean(right[slot]):.0f} %" for slot in ("subject", "style", "both"))
        rows.append(("zipped", f"{subject} in {style}", f"{figures} (n = {count})"))
    return [*rows, *(("zipped, all pairs", slot, share(hits)) for slot, hits in everything.items())]


def zipped(pipeline: StableDiffusionXLPipeline, subject: str, style: str) -> LoRA:
    """Both LoRAs merged with the settings of the main workflow."""
    settings = ZipSettings(pictures=4, sampling_steps=20, guidance_scale=4.0)
    return zip_loras(
        pipeline,
        read_lora(lora_file(subject)),
        read_lora(lora_file(style)),
        settings,
        subject_prompt=f"a green {subject} in a meadow in flat style",
        style_prompt=f"a red boat on a beach in {style} style",
    )[0]


BUCKETS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
FPS = 7


def video_rows(judge: Judge, count: int, steps: int, frames: int, device: str) -> list[Row]:
    """Videos of `count` drawn key frames, each at all motion buckets, and once more at half the frame rate."""
    pipeline, name, rng = svd().to(device), f"svd, {frames} frames", np.random.default_rng(1004)
    scenes = [world.random_scene(rng, variety=VARIETY) for _ in range(count)]
    key_frames = pictures(scenes)
    fidelity, kept, moved, drawn = list[float](), list[list[bool]](), list[list[float]](), list[list[float]]()
    for bucket in track(BUCKETS, name, console=Console(stderr=True)):
        videos = animate(pipeline, key_frames, bucket, steps, frames)
        fidelity += (-10 * (videos[:, 0] - key_frames).square().mean((1, 2, 3)).log10()).tolist()
        kept.append(verdicts(judge, videos[:, -1], scenes)["subject"])
        moved.append([flow(video) for video in videos])
        films = [world.film(scene, world.own_motion(scene, bucket), frames, FPS) for scene in scenes]
        drawn.append([flow(tensor(film)) for film in films])
    fast, slow = (animate(pipeline, key_frames, 160, steps, frames, fps) for fps in (14, 7))
    slower = [flow(one) / flow(other) for one, other in zip(fast, slow, strict=True)]
    by_bucket = np.asarray(moved)
    return [
        (name, "first frame PSNR", mean(fidelity, "dB")),
        (name, "subject right in the last frame", share_of_groups(np.transpose(kept), "key frames")),
        (name, "flow by bucket, pixels a frame", " ".join(f"{value:.2f}" for value in by_bucket.mean(1))),
        (name, "the same of drawn clips", " ".join(f"{value:.2f}" for value in np.mean(drawn, 1))),
        (name, "rank correlation of bucket and flow", f"{spearmanr(BUCKETS, by_bucket.mean(1)).statistic:.2f}"),
        (name, "moves more at ≥ 64 than at 0", share((by_bucket[2:] > by_bucket[:1]).flatten().tolist())),
        (name, "flow at 14 over flow at 7 frames a second", mean(slower, "")),
    ]


def animate(
    pipeline: StableVideoDiffusionPipeline,
    key_frames: Tensor,
    bucket: int,
    steps: int,
    frames: int = 14,
    fps: int = FPS,
) -> Tensor:
    """Videos (N, frames, 3, 64, 64) in [0, 1] of key frames (N, 3, 64, 64), each with a seed of its own.

    Without guidance, as the key frame decides everything else.
    """
    shown = (key_frames * 255).round().byte().permute(0, 2, 3, 1).numpy()
    videos: Tensor = pipeline(
        [Picture.fromarray(picture) for picture in shown],
        height=world.SIZE,
        width=world.SIZE,
        num_frames=frames,
        motion_bucket_id=bucket,
        fps=fps,
        max_guidance_scale=1.0,
        num_inference_steps=steps,
        generator=[torch.Generator().manual_seed(seed) for seed in range(len(shown))],
        output_type="pt",
    ).frames
    return videos.cpu()


def clip_model() -> tuple[CLIPModel, Any, dict[str, Tensor]]:
    """The CLIP model, its tokenizer and the aesthetic head."""
    model = CLIPModel.from_pretrained(FAMILY / "clip", dtype=torch.float32).eval()
    tokenizer = CLIPProcessor.from_pretrained(FAMILY / "clip").tokenizer
    return model, tokenizer, load_file(FAMILY / "clip" / "aesthetic.safetensors")


@torch.inference_mode()
def read(model: CLIPModel, tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Unit embeddings (N, 128) of captions."""
    tokens = tokenizer(list(captions), padding=True, return_tensors="pt")
    return F.normalize(model.text_projection(model.text_model(**tokens).pooler_output), dim=-1)


@torch.inference_mode()
def clip_rows(count: int) -> list[Row]:
    """Whether a caption's picture is found among 50; whether the aesthetic head separates clean and spoilt pictures."""
    model, tokenizer, head = clip_model()
    rng = np.random.default_rng(1005)
    found = []
    for _ in range(count // 50):
        scenes = [world.random_scene(rng) for _ in range(50)]
        texts = read(model, tokenizer, [world.plain_caption(s) for s in scenes])
        found += ((texts @ clip.embeddings(model, pictures(scenes)).T).argmax(1) == torch.arange(50)).tolist()
    drawn = [world.draw(world.random_scene(rng)) for _ in range(count)]
    spoilt = [world.random_degradation(rng)(picture[None], rng)[0] for picture in drawn[: count // 2]]
    good, bad = (
        (clip.embeddings(model, tensor(p)) @ head["weight"].T + head["bias"]).flatten().tolist()
        for p in (drawn[count // 2 :], spoilt)
    )
    return [
        ("clip, a caption's picture", "first among 50", share(found)),
        ("aesthetic head", "AUC, as drawn against spoilt", f"{auc(good, bad):.3f} (n = {count})"),
    ]


def captioner_model() -> tuple[Any, Any]:
    """The captioner and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(FAMILY / "captioner", dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(FAMILY / "captioner").tokenizer


def captioner_rows(count: int) -> list[Row]:
    """How often the captioner names each attribute of still and moving clips correctly."""
    model, tokenizer = captioner_model()
    rng = np.random.default_rng(1006)
    hits: dict[str, list[bool]] = {slot: [] for slot in (*ANSWERS, "motion")}
    for _ in track(range(count // 20), "captions", console=Console(stderr=True)):
        truths = [captioner.random_clip(rng) for _ in range(20)]
        clips = torch.stack([tensor(frames) for frames, _, _ in truths])
        for text, (_, scene, motion) in zip(captioner.describe(model, tokenizer, clips), truths, strict=True):
            for slot in ANSWERS:
                hits[slot].append(getattr(scene, slot) in text.split())
            if motion:
                hits["motion"].append(world.MOVES[motion] in text)
    return [("captioner, named right", slot, share(tried)) for slot, tried in hits.items()]


PARTS: dict[str, Callable[[Judge, argparse.Namespace], list[Row]]] = {
    "judge": lambda judge, chosen: drawn_rows(judge, 10 * chosen.pictures),
    "sdxl": lambda judge, chosen: picture_rows(judge, chosen.pictures, chosen.steps),
    "loras": lambda judge, chosen: [
        *lora_rows(judge, chosen.lora_pictures, chosen.steps),
        *zip_rows(judge, chosen.lora_pictures // 2, chosen.steps),
    ],
    "svd": lambda judge, chosen: [
        row for frames in (14, 25) for row in video_rows(judge, chosen.videos, chosen.steps, frames, chosen.device)
    ],
    "clip": lambda judge, chosen: clip_rows(chosen.pictures),
    "captioner": lambda judge, chosen: captioner_rows(chosen.pictures),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500, help="pictures to judge and captions to write")
    parser.add_argument("--lora-pictures", type=int, default=60, help="for each LoRA; half as many for a pair")
    parser.add_argument("--videos", type=int, default=40, help="key frames, each set moving in 22 ways")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--device", default="cpu", help="where svd makes its videos")
    parser.add_argument("--only", choices=PARTS, help="one part of the table")
    parser.add_argument("--cards", action="store_true", help="write the figures into the models' cards too")
    chosen = parser.parse_args()
    judge = load_judge()
    table = Table("model", "what", "figure")
    for name, rows in PARTS.items():
        if chosen.only == name or (chosen.only is None and (FAMILY / name).is_dir()):
            measured = rows(judge, chosen)
            for row in measured:
                table.add_row(*row)
            if chosen.cards:
                write_card(name, [(f"{model}: {what}", figure) for model, what, figure in measured])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
