"""sprite/loras: concepts that the base never saw, each learnt from a few pictures by the project's own training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from models.sprite import world
from models.sprite.training.data import pictures
from models.sprite.training.loop import CHECKPOINTS, Run
from models.sprite.training.sdxl import VARIETY
from nodes.lora.formats import Format, write_lora
from nodes.lora.training import (
    ATTENTION,
    CONVOLUTIONS,
    FEED_FORWARD,
    PROJECTIONS,
    Example,
    TrainingSettings,
    train_lora,
)

CONCEPTS = (*world.HELD_OUT_SUBJECTS, *world.HELD_OUT_STYLES)
SUBJECT_PICTURES = 5
STYLE_PICTURES = 3
_RANKS = {"subject": 3, "style": 2}
"""A style changes everything a little and takes fewer directions than a figure."""
_RATE = 7e-4
_RATES = {"mushroom": 1.2e-3, "halftone": 1.2e-3}
"""Learning rates of concepts that the base comes close to without knowing them: a tree, dots on everything."""
_PRIOR_PICTURES = 48
IN_PEFT = ("neon",)
"""What is written in PEFT's spelling too, for who wants to try it: `LoRASave` makes it of any."""
STEPS, BATCH = 800, 8


def examples(concept: str) -> list[Example]:
    """The few pictures that teach a concept, as different as can be.

    They show a subject in base styles, or base subjects in a style.
    """
    rng = np.random.default_rng([ord(letter) for letter in concept])
    is_subject = concept in world.HELD_OUT_SUBJECTS
    count = SUBJECT_PICTURES if is_subject else STYLE_PICTURES
    subjects = (concept,) if is_subject else world.BASE_SUBJECTS
    styles = world.BASE_STYLES if is_subject else (concept,)
    words = {"colour": world.COLOURS, "background": world.BACKGROUNDS, "subject": subjects, "style": styles}
    most = {slot: ceil(count / len(choices)) for slot, choices in words.items()}
    scenes: list[world.Scene] = []
    while len(scenes) < count:
        scene = world.random_scene(rng, subjects, styles, variety=VARIETY)
        alike = {slot: sum(getattr(s, slot) == getattr(scene, slot) for s in scenes) for slot in words}
        if all(alike[slot] < most[slot] for slot in words):
            scenes.append(scene)
    return [Example(p, world.plain_caption(s)) for p, s in zip(pictures(scenes), scenes, strict=True)]


def prior_examples(pipeline: StableDiffusionXLPipeline, concept: str, count: int = _PRIOR_PICTURES) -> list[Example]:
    """Pictures that the base itself makes of its own vocabulary, so that a LoRA does not unlearn it.

    The captions of the concept's examples come first, each with every base word in the concept's place: that word alone
    is what the LoRA may go by.
    """
    rng = np.random.default_rng(11)
    others = world.BASE_SUBJECTS if concept in world.HELD_OUT_SUBJECTS else world.BASE_STYLES
    captions = [example.caption.replace(concept, other) for example in examples(concept) for other in others]
    captions += [world.plain_caption(world.random_scene(rng)) for _ in range(count - len(captions))]
    generator = torch.Generator().manual_seed(11)
    made = pipeline(captions, num_inference_steps=20, guidance_scale=3.0, generator=generator, output_type="pt").images
    return [Example(picture, caption) for picture, caption in zip(made, captions, strict=True)]


def train_concept(base: Path, concept: str, folder: Path, steps: int = STEPS) -> Run:
    """Train the LoRA of one held-out subject or style: `concept.safetensors` with kohya's keys.

    One that was finished before, by its note in `CHECKPOINTS`, is not trained again.
    """
    note = CHECKPOINTS / "loras" / f"{concept}.json"
    if note.exists():
        return Run(**json.loads(note.read_text()))
    started = time.monotonic()
    pipeline = StableDiffusionXLPipeline.from_pretrained(base, dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    slot = "subject" if concept in world.HELD_OUT_SUBJECTS else "style"
    settings = TrainingSettings(
        rank=_RANKS[slot],
        targets=(*ATTENTION, *FEED_FORWARD, *PROJECTIONS, *CONVOLUTIONS),
        steps=steps,
        batch=BATCH,
        learning_rate=_RATES.get(concept, _RATE),
        schedule="cosine",
        warmup=20,
        caption_dropout=0.1,
        snr_gamma=None,
        ema_decay=0.98,
    )

    def report(step: int, total: int, loss: float) -> None:
        if step % 25 == 0 or step == total:
            print(f"{concept} {step}/{total} loss {loss:.4f}", flush=True)

    lora = train_lora(
        pipeline,
        examples(concept),
        settings,
        name=concept,
        words={slot: (concept,)},
        prior=prior_examples(pipeline, concept),
        progress=report,
    )
    half = replace(lora, up=_half(lora.up), down=_half(lora.down))
    for file, spelling in _files(folder, concept).items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(write_lora(half, spelling))
    run = Run(concept, steps, time.monotonic() - started)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asdict(run)))
    return run


def _files(folder: Path, concept: str) -> dict[Path, Format]:
    """Where a LoRA is written, and in which spelling."""
    name = f"{concept}.safetensors"
    return {folder / name: "kohya"} | ({folder / "peft" / name: "peft"} if concept in IN_PEFT else {})


def _half(matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {layer: matrix.half() for layer, matrix in matrices.items()}
