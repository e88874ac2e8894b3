"""Train the sprite family from a seed: `python -m models.sprite.train all`, or one member by its name.

A member that needs another takes it from `.train/parts`. Interrupted training goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from models.sprite import judging, world
from models.sprite.training import autoencoder, clip, loras, sdxl, svd
from models.sprite.training.card import write_card
from models.sprite.training.loop import PARTS

FAMILY = Path(__file__).parent
CONCEPTS = (*world.HELD_OUT_SUBJECTS, *world.HELD_OUT_STYLES)


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(PARTS / "autoencoder").eval().requires_grad_(False)


def train_towers(**length: int) -> None:
    clip.train_towers(clip.train_tokenizer(), **length)


def train_words(**length: int) -> None:
    clip.train_words(clip.load_tokenizer(), clip.load_towers(), **length)


def train_sdxl(steps: int = sdxl.STEPS) -> None:
    tokenizer, towers = clip.load_tokenizer(), clip.load_towers()
    unet = sdxl.train_unet(tokenizer, towers, _autoencoder(), steps)
    sdxl.save(sdxl.assemble(tokenizer, towers, _autoencoder(), unet), FAMILY / "sdxl")
    write_card(
        FAMILY / "sdxl", "A small Stable Diffusion XL of the sprite world", _recipe(steps, sdxl.BATCH), vocabulary=True
    )


def train_svd(steps: int = svd.STEPS) -> None:
    towers = clip.load_towers()
    unet = svd.train_unet(towers, _autoencoder(), steps)
    svd.save(svd.assemble(towers, _autoencoder(), unet), FAMILY / "svd")
    write_card(FAMILY / "svd", "A small Stable Video Diffusion of the sprite world", _recipe(steps, svd.BATCH))


def _recipe(steps: int, batch: int) -> dict[str, int]:
    return {"courses": len(sdxl.COURSES), "steps": steps, "batch": batch, "seed": 0}


def train_loras(concepts: Sequence[str] = CONCEPTS, **length: int) -> None:
    for concept in concepts:
        loras.train_concept(FAMILY / "sdxl", concept, FAMILY / "loras", **length)


MEMBERS: dict[str, Callable[..., object]] = {
    "judge": judging.train_judge,
    "autoencoder": autoencoder.train_autoencoder,
    "towers": train_towers,
    "words": train_words,
    "sdxl": train_sdxl,
    "svd": train_svd,
    "loras": train_loras,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("member", choices=[*MEMBERS, "all"])
    parser.add_argument("--steps", type=int, help="train for another number of steps")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--only", nargs="+", choices=CONCEPTS, help="loras: train these concepts alone")
    chosen = parser.parse_args()
    if chosen.only and chosen.member != "loras":
        parser.error("--only goes with the member loras")
    torch.set_num_threads(chosen.threads)
    options = {"steps": chosen.steps, "concepts": chosen.only}
    given = {name: value for name, value in options.items() if value}
    for member in MEMBERS if chosen.member == "all" else [chosen.member]:
        MEMBERS[member](**given)


if __name__ == "__main__":
    main()
