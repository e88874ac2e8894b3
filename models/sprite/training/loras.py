"""sprite/loras: concepts that the base never saw, each learnt from a few pictures by the project's own training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import cycle
from math import ceil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from models.sprite import world
from models.sprite.training.data import pictures
from models.sprite.training.loop import CHECKPOINTS, Run, machine
from models.sprite.training.sdxl import VARIETY
from nodes.lora.formats import write_lora
from nodes.lora.training.loop import train_lora
from nodes.lora.training.pictures import Example
from nodes.lora.training.settings import TrainingSettings

CONCEPTS = (*world.HELD_OUT_SUBJECTS, *world.HELD_OUT_STYLES)
SUBJECT_PICTURES = 5
STYLE_PICTURES = 3
_RANKS = {"subject": 3, "style": 2}
"""A style changes everything a little and needs fewer directions than a figure."""
_RATE = 7e-4
_RATES = {"mushroom": 1.2e-3, "halftone": 1.2e-3, "mosaic": 1.2e-3}
"""Learning rates of concepts that resemble something the base knows: a tree, dots on everything."""
_STRENGTHS = {"halftone": 1.37, "mosaic": 1.25}
"""Patterns, which cover all sceneries but are learnt on half of them: they are saved this much stronger than learnt."""
_PRIOR_PICTURES = 48
IN_PEFT = ("neon",)
"""Concepts saved in PEFT's spelling; all others are in kohya's. `LoRASave` converts one to the other."""
STEPS, BATCH = 800, 8


def teaching(concept: str) -> list[world.Scene]:
    """The few scenes that teach a concept, as different as can be: a subject in base styles, or base subjects in a
    style.
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
    return scenes


def examples(concept: str) -> list[Example]:
    """The pictures that teach a concept, and their captions.

    A pattern's pictures come with shorter captions too, so that it becomes tied to its own name rather than to the
    scenery that it was shown on.
    """
    scenes = teaching(concept)
    captions = [world.plain_caption(scene) for scene in scenes]
    if concept in _STRENGTHS:
        places = [f" {world.PHRASES[scene.background]}" for scene in scenes]
        captions += [caption.replace(place, "") for caption, place in zip(captions, places, strict=True)]
        captions += [f"in {concept} style" for _ in scenes]
    return [Example(picture, caption) for picture, caption in zip(cycle(pictures(scenes)), captions, strict=False)]


def prior_examples(pipeline: StableDiffusionXLPipeline, concept: str, count: int = _PRIOR_PICTURES) -> list[Example]:
    """Pictures that the base itself draws of its own vocabulary, so that a LoRA does not unlearn it.

    The captions of the concept's examples come first, each with every base word in the concept's place: only the
    concept's word may trigger the LoRA.
    """
    rng = np.random.default_rng(11)
    others = world.BASE_SUBJECTS if concept in world.HELD_OUT_SUBJECTS else world.BASE_STYLES
    captions = [example.caption.replace(concept, other) for example in examples(concept) for other in others]
    captions += [world.plain_caption(world.random_scene(rng)) for _ in range(count - len(captions))]
    generator = torch.Generator().manual_seed(11)
    made = pipeline(captions, num_inference_steps=20, guidance_scale=3.0, generator=generator, output_type="pt").images
    return [Example(picture, caption) for picture, caption in zip(made, captions, strict=True)]


def train_concept(base: Path, concept: str, folder: Path, steps: int = STEPS) -> Run:
    """Train the LoRA of one held-out subject or style: `concept.safetensors`, in kohya's spelling or in PEFT's.

    A LoRA that is already finished, according to its note in `CHECKPOINTS`, is not trained again.
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
        layers="all",
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
    strength = _STRENGTHS.get(concept, 1.0)
    stronger = {layer: strength * up for layer, up in lora.up.items()}
    half = replace(lora, up=_half(stronger), down=_half(lora.down))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{concept}.safetensors").write_bytes(write_lora(half, "peft" if concept in IN_PEFT else "kohya"))
    run = Run(concept, steps, BATCH, time.monotonic() - started, machine(torch.device("cpu")))
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asdict(run)))
    return run


def _half(matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {layer: matrix.half() for layer, matrix in matrices.items()}
