"""The model cards of the sprite family: what each model is, how it was trained, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

FAMILY = Path(__file__).parent.parent / "models" / "sprite"
SHEETS = "../../../docs/sprite"
"""The folder of the contact sheets, relative to a card."""


@dataclass(frozen=True)
class Card:
    """What people want to know about a model that is in no file."""

    about: str
    data: str
    sheets: tuple[str, ...]


CARDS = {
    "judge": Card(
        about="A classifier of subject, colour, background and style, with the features that picture sets are compared "
        "by. It only measures: no other member of the family was trained with it. `models.sprite.judging.load_judge` "
        "loads it.",
        data="Freshly drawn sprites of every class, held-out ones too, in half of the pictures turned, scaled or moved "
        "as by a video, softened and noisy as a generator might leave them.",
        sheets=("world",),
    ),
    "sdxl": Card(
        about="A Stable Diffusion XL with 7.7 million parameters in its UNet: captions → pictures of 64×64 pixels. "
        "`StableDiffusionXLPipeline.from_pretrained` loads it.",
        data="Drawn sprites and their captions: at first 30,000 of the named subjects and styles, then 100,000 with "
        "made-up ones for half of either, so that a LoRA can teach it new ones.",
        sheets=("sdxl",),
    ),
    "svd": Card(
        about="A Stable Video Diffusion with 5.5 million parameters in its UNet: a picture → 14 or 25 frames of 64×64 "
        "pixels, as fast as the motion bucket asks. `StableVideoDiffusionPipeline.from_pretrained` loads it. A "
        "`max_guidance_scale` of 1 is enough, as the key frame decides how all goes on.",
        data="Drawn clips of 25 frames at any motion bucket, 30 % of them out of focus: at first 40,000 of 4 to 20 "
        "frames per second, of which most steps see 14 frames, with made-up subjects and styles in 40 %; then "
        "60,000 of 4 to 14 per second, of which most steps see all, with made-up ones in 30 %; then 2,400 fast ones "
        "of 5 to 9. Fish and cars drift where their head is (at first, down as far as it looked up), cats bounce, "
        "stars and flowers spin, trees grow, boats shake, the camera pans over houses, and all else bounces.",
        sheets=("svd",),
    ),
    "loras": Card(
        about="LoRAs of the subjects and styles that no base model has seen, in kohya's spelling; that of "
        "neon is in PEFT's. `LoRALoad` and `load_lora_weights` load both.",
        data="Five pictures for each subject, three for each style, drawn as unlike each other as can be; and pictures "
        "that the base makes of its own words, so that it keeps them.",
        sheets=("loras", "zipped"),
    ),
    "clip": Card(
        about="A CLIP with a small vocabulary: captions and pictures → 128 numbers. `CLIPModel.from_pretrained` loads "
        "it. `aesthetic.safetensors` is a linear head on its image embeddings, in the form of LAION's: 10 for a "
        "picture as drawn, 1 for one that is hardly worth looking at.",
        data="Freshly drawn sprites and their captions, half of them blurred, noisy, too bright, too dark or with a "
        "title burnt in, by known amounts.",
        sheets=("clip",),
    ),
    "captioner": Card(
        about="A GIT that looks at six frames of a clip, or at a picture six times, and says what it shows. "
        "`AutoModelForCausalLM.from_pretrained` loads it, `AutoProcessor` what goes with it.",
        data="Freshly drawn clips of two to four seconds in every motion, a third of them still, and their captions.",
        sheets=("captioner",),
    ),
}


def write_card(member: str, figures: Sequence[tuple[str, str]]) -> Path:
    """Write a member's `README.md` around its measured figures, as (what, figure)."""
    card, folder = CARDS[member], FAMILY / member
    table = "\n".join(f"| {what} | {figure} |" for what, figure in figures)
    pictures = "\n".join(f"![{sheet}]({SHEETS}/{sheet}.png)" for sheet in card.sheets)
    path = folder / "README.md"
    path.write_text(
        f"# sprite/{member}\n\n{card.about}\n\n{pictures}\n\n"
        f"**Data.** {card.data}\n\n**Training.** {_training(folder, member)}\n\n"
        f"**Measured** on fresh samples, with 95 % confidence intervals, by "
        f"`python -m benchmarks.sprite --only {member}`:\n\n"
        f"| what | figure |\n|---|---|\n{table}\n"
    )
    return path


def _training(folder: Path, member: str) -> str:
    training = json.loads((folder / "card.json").read_text())["training"]
    stretches = [
        _stretch(list(runs)) for _, runs in groupby(training["runs"], lambda run: (run["batch"], run["machine"]))
    ]
    on_a_cpu = all(run["machine"].endswith(("thread", "threads")) for run in training["runs"])
    device = "" if on_a_cpu else " --device cuda"
    return (
        f"From seed {training['seed']}, {', then '.join(stretches)}: `python -m models.sprite.train {member}{device}`."
    )


def _stretch(runs: list[dict[str, Any]]) -> str:
    """Consecutive courses of one batch size on one machine."""
    steps = " + ".join(f"{run['steps']:,}" for run in runs)
    minutes = sum(run["minutes"] for run in runs)
    return f"{steps} steps of batch {runs[0]['batch']} in {minutes:.0f} minutes ({runs[0]['machine']})"
