"""Train the sprite family from a seed: `python -m models.sprite.train all`, or one member by its name.

A member that needs another takes it from `.train/parts`. Interrupted training is resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from models.sprite import judging
from models.sprite.training import autoencoder, captioner, clip, encoders, loras, sdxl, svd
from models.sprite.training.card import write_card
from models.sprite.training.loop import Run, finished, run_name

FAMILY = Path(__file__).parent
C = TypeVar("C", sdxl.Course, svd.Course)


def train_judge(steps: int = judging.STEPS) -> None:
    judging.train_judge(steps)
    write_card(judging.WEIGHTS.parent, "A classifier that only measures", [finished("judge", judging.BATCH)])


def train_towers(**length: int) -> None:
    encoders.train_towers(encoders.train_tokenizer(), **length)


def train_words(**length: int) -> None:
    encoders.train_words(encoders.load_tokenizer(), encoders.load_towers(), **length)


def train_sdxl(steps: int | None = None, device: str = "cpu") -> None:
    tokenizer, towers = encoders.load_tokenizer(), encoders.load_towers().to(device)
    vae = autoencoder.load().to(device)
    courses = _planned(sdxl.COURSES, sdxl.COURSES_OF_A_GPU, vae.device, steps)
    unet = sdxl.train_unet(tokenizer, towers, vae, courses)
    sdxl.save(sdxl.assemble(tokenizer, towers, vae, unet), FAMILY / "sdxl")
    runs = _runs("sdxl", vae.device, courses)
    write_card(FAMILY / "sdxl", "A small Stable Diffusion XL of the sprite world", runs, vocabulary=True)


def train_svd(steps: int | None = None, device: str = "cpu") -> None:
    towers, vae = encoders.load_towers().to(device), autoencoder.load().to(device)
    courses = _planned(svd.COURSES, svd.COURSES_OF_A_GPU, vae.device, steps)
    svd.save(svd.assemble(towers, vae, svd.train_unet(towers, vae, courses)), FAMILY / "svd")
    runs = _runs("svd", vae.device, courses)
    write_card(FAMILY / "svd", "A small Stable Video Diffusion of the sprite world", runs)


def _planned(of_a_cpu: Sequence[C], of_a_gpu: Sequence[C], device: torch.device, steps: int | None) -> list[C]:
    """The courses for a device, with another number of steps if one is given."""
    planned = of_a_cpu if device.type == "cpu" else of_a_gpu
    return [replace(course, steps=steps or course.steps) for course in planned]


def _runs(member: str, device: torch.device, courses: Sequence[C]) -> list[Run]:
    """The finished runs of a member's courses."""
    names = [run_name(f"{member}-{number}", device) for number in range(1, len(courses) + 1)]
    return [finished(name, course.batch) for name, course in zip(names, courses, strict=True)]


def train_clip(steps: int = clip.STEPS) -> None:
    tokenizer = encoders.load_tokenizer()
    model = clip.train_clip(tokenizer, steps)
    clip.save(model, tokenizer, clip.train_aesthetic(model), FAMILY / "clip")
    write_card(FAMILY / "clip", "A small CLIP and an aesthetic head", [finished("clip", clip.BATCH)])


def train_captioner(steps: int = captioner.STEPS) -> None:
    tokenizer = captioner.build_tokenizer()
    captioner.save(captioner.train_captioner(tokenizer, steps), tokenizer, FAMILY / "captioner")
    courses = [f"captioner-eyes-{course}" for course in range(1, len(captioner.EYE_COURSES) + 1)]
    runs = [finished(course, captioner.EYE_BATCH) for course in courses] + [finished("captioner", captioner.BATCH)]
    write_card(FAMILY / "captioner", "A small GIT of the sprite world", runs)


def train_loras(concepts: Sequence[str] = loras.CONCEPTS, **length: int) -> None:
    runs = [loras.train_concept(FAMILY / "sdxl", concept, FAMILY / "loras", **length) for concept in concepts]
    if len(runs) == len(loras.CONCEPTS):
        write_card(FAMILY / "loras", "LoRAs of what the base never saw", runs)


MEMBERS: dict[str, Callable[..., object]] = {
    "judge": train_judge,
    "autoencoder": autoencoder.train_autoencoder,
    "towers": train_towers,
    "words": train_words,
    "sdxl": train_sdxl,
    "svd": train_svd,
    "loras": train_loras,
    "clip": train_clip,
    "captioner": train_captioner,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("member", choices=[*MEMBERS, "all"])
    parser.add_argument("--steps", type=int, help="train for another number of steps")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--device", help="sdxl and svd: train there, say on cuda")
    parser.add_argument("--only", nargs="+", choices=loras.CONCEPTS, help="loras: train these concepts alone")
    chosen = parser.parse_args()
    if chosen.only and chosen.member != "loras":
        parser.error("--only goes with the member loras")
    torch.set_num_threads(chosen.threads)
    if chosen.device and chosen.member not in ("sdxl", "svd"):
        parser.error("--device goes with the members sdxl and svd")
    options = {"steps": chosen.steps, "concepts": chosen.only, "device": chosen.device}
    given = {name: value for name, value in options.items() if value}
    for member in MEMBERS if chosen.member == "all" else [chosen.member]:
        MEMBERS[member](**given)


if __name__ == "__main__":
    main()
