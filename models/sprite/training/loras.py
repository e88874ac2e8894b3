"""sprite/loras: concepts that the base never saw, each learnt from a few pictures by the project's own training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from models.sprite import world
from models.sprite.training.data import pictures
from models.sprite.training.sdxl import VARIETY
from nodes.lora.formats import write_lora
from nodes.lora.training import (
    ATTENTION,
    CONVOLUTIONS,
    FEED_FORWARD,
    PROJECTIONS,
    Example,
    TrainingSettings,
    train_lora,
)

SUBJECT_PICTURES = 5
STYLE_PICTURES = 3
_PRIOR_PICTURES = 48


def examples(concept: str) -> list[Example]:
    """The few pictures that teach a concept: a subject in base styles, or base subjects in a style."""
    rng = np.random.default_rng([ord(letter) for letter in concept])
    is_subject = concept in world.HELD_OUT_SUBJECTS
    count = SUBJECT_PICTURES if is_subject else STYLE_PICTURES
    subjects = (concept,) if is_subject else world.BASE_SUBJECTS
    styles = world.BASE_STYLES if is_subject else (concept,)
    scenes: list[world.Scene] = []
    while len(scenes) < count:  # no colour, background, and no base subject or style, twice
        scene = world.random_scene(rng, subjects, styles, variety=VARIETY)
        other = (scene.colour, scene.background, scene.style if is_subject else scene.subject)
        if all(
            mine != theirs
            for s in scenes
            for mine, theirs in zip(other, (s.colour, s.background, s.style if is_subject else s.subject), strict=True)
        ):
            scenes.append(scene)
    return [Example(p, world.plain_caption(s)) for p, s in zip(pictures(scenes), scenes, strict=True)]


def prior_examples(pipeline: StableDiffusionXLPipeline, count: int = _PRIOR_PICTURES) -> list[Example]:
    """Pictures that the base itself makes of its own vocabulary, so that a LoRA does not unlearn it."""
    rng = np.random.default_rng(11)
    captions = [world.plain_caption(world.random_scene(rng)) for _ in range(count)]
    generator = torch.Generator().manual_seed(11)
    made = pipeline(captions, num_inference_steps=20, guidance_scale=3.0, generator=generator, output_type="pt").images
    return [Example(picture, caption) for picture, caption in zip(made, captions, strict=True)]


def train_concept(base: Path, concept: str, folder: Path, steps: int = 400) -> Path:
    """Train the LoRA of one held-out subject or style and write `concept.safetensors` with kohya's keys."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(base, dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    settings = TrainingSettings(
        rank=8,
        targets=(*ATTENTION, *FEED_FORWARD, *PROJECTIONS, *CONVOLUTIONS),
        steps=steps,
        batch=8,
        learning_rate=2e-3,
        schedule="cosine",
        warmup=20,
        caption_dropout=0.1,
        snr_gamma=None,
        ema_decay=0.98,
    )

    def report(step: int, total: int, loss: float) -> None:
        if step % 25 == 0 or step == total:
            print(f"{concept} {step}/{total} loss {loss:.4f}", flush=True)

    slot = "subject" if concept in world.HELD_OUT_SUBJECTS else "style"
    lora = train_lora(
        pipeline,
        examples(concept),
        settings,
        name=concept,
        words={slot: (concept,)},
        prior=prior_examples(pipeline),
        progress=report,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{concept}.safetensors"
    half = replace(lora, up=_half(lora.up), down=_half(lora.down))
    path.write_bytes(write_lora(half))
    return path


def _half(matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {layer: matrix.half() for layer, matrix in matrices.items()}
