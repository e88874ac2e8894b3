"""How a LoRA is trained: all settings, and the presets that nodes start from. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from math import ceil
from typing import Any, Literal

from engine.errors import InputError, MissingError

Layers = Literal["attention", "linear", "all"]
Schedule = Literal["constant", "cosine", "linear"]
Optimiser = Literal["adamw", "adamw8bit", "adafactor", "prodigy"]
Precision = Literal["model", "bfloat16"]
Preset = Literal["paper", "diffusers", "kohya", "fast"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a LoRA is trained."""

    # The matrices.
    rank: int = 16
    alpha: float | None = None
    """ΔW = alpha/rank · up @ down; None means the rank, a scale of 1."""
    rslora: bool = False
    """ΔW = alpha/√rank · up @ down instead (Kalajdzievski 2023, arXiv 2312.03732)."""
    dora: bool = False
    """Train the length of each row of the weight apart from its direction (Liu et al. 2024, arXiv 2402.09353)."""
    layers: Layers = "attention"
    """Layers of the denoiser: attention's projections, all matrices of its transformers, or convolutions too."""
    blocks: tuple[str, ...] = ()
    """Parts of layers' names, such as "up_blocks.0": only layers with one of them are trained; none means all."""
    text_encoders: bool = False
    """Train the text encoders' attention too."""
    dropout: float = 0.0
    """Share of each layer's ranks that are left out, chosen anew for each picture and step."""
    max_norm: float | None = None
    """The largest ‖ΔW‖ of a layer: after each step larger ones are scaled down to it."""
    # The steps.
    steps: int = 500
    batch: int = 1
    accumulation: int = 1
    """Batches whose gradients are averaged for one step."""
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-4
    text_learning_rate: float = 5e-6
    schedule: Schedule = "constant"
    """What the learning rate does after the warm-up."""
    warmup: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 1e-4
    max_gradient_norm: float = 1.0
    ema_decay: float | None = None
    """Decay of the weights' moving average; 0.99 suits a few hundred steps, None keeps the last weights."""
    precision: Precision = "model"
    """What passes compute in: the model's own type, or bfloat16 where torch's autocast takes it."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: slower, but in much less memory."""
    deterministic: bool = False
    """Equal digits in every run on a GPU too, at some cost in speed."""
    # The pictures and captions.
    resolution: int = 0
    """Pictures get about resolution² pixels; 0 is the model's own size."""
    buckets: bool = True
    """Keep about each picture's proportions, rather than cut all to squares."""
    flip: bool = False
    """Show half of the pictures mirrored."""
    crop_conditioning: bool = True
    """Tell the model each picture's own size and how it was cropped, rather than that it is whole."""
    shuffle_captions: bool = False
    """Put the parts of a caption, between commas, in a new order each time."""
    caption_dropout: float = 0.0
    """Share of captions left out, so that guidance keeps working."""
    prior_weight: float = 1.0
    """Weight of the prior-preservation loss, where there are prior pictures."""
    # The noise.
    snr_gamma: float | None = None
    """Limit of the signal-to-noise weighting (min-SNR, Hang et al. 2023); 5 is usual; None or 0: none."""
    noise_offset: float = 0.0
    """How much noise each channel has in common over the whole picture, beside that of each place."""
    held_out: int = 0
    """How many of the pictures, the last ones, are only used to measure the loss."""
    seed: int = 0


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    # ZipLoRA (arXiv 2311.13600), section 4: DreamBooth with LoRAs of rank 64, by Adam; text encoders frozen.
    "paper": {"rank": 64, "learning_rate": 5e-5, "steps": 1000, "weight_decay": 0.0},
    # The example for diffusers' train_dreambooth_lora_sdxl.py.
    "diffusers": {"rank": 4, "learning_rate": 1e-4, "steps": 500, "accumulation": 4, "weight_decay": 1e-4},
    # The example for sd-scripts' sdxl_train_network.py, whose epochs depend on the pictures.
    "kohya": {
        "rank": 32,
        "alpha": 16.0,
        "layers": "linear",
        "learning_rate": 1e-4,
        "text_learning_rate": 1e-5,
        "steps": 1000,
        "weight_decay": 1e-2,
        "precision": "bfloat16",
        "gradient_checkpointing": True,
    },
    # A first look: few steps at a high rate.
    "fast": {
        "rank": 8,
        "layers": "linear",
        "learning_rate": 5e-4,
        "steps": 150,
        "schedule": "cosine",
        "warmup": 10,
        "weight_decay": 1e-2,
        "snr_gamma": 5.0,
    },
}
"""What the presets say where it isn't `TrainingSettings`' own default."""

EXTRA = {"prodigy": ("prodigyopt", "prodigyopt"), "adamw8bit": ("bitsandbytes", "bitsandbytes")}
"""The module and the package of optimisers that not everyone has installed."""
PRODIGY_RATE = 1.0
"""Prodigy finds the rate itself, and multiplies it by this."""
NAMES = frozenset(field.name for field in fields(TrainingSettings))


def settled(preset: Preset, *given: Mapping[str, Any]) -> TrainingSettings:
    """The preset's settings, with those that are given instead: later ones over earlier ones, None says nothing.

    Raises:
        InputError: they don't go together.
        MissingError: the optimiser isn't installed.
    """
    said = {name: value for some in given for name, value in some.items() if value is not None}
    if said.get("optimiser") == "prodigy":
        said = {"learning_rate": PRODIGY_RATE, "text_learning_rate": PRODIGY_RATE} | said
    settings = replace(TrainingSettings(), **PRESETS[preset])
    if "rank" in said and "alpha" not in said and settings.alpha is not None:
        said["alpha"] = settings.alpha * said["rank"] / settings.rank  # the same scale as in the preset
    if "steps" in said and "warmup" not in said:
        warmup = ceil(settings.warmup * min(said["steps"] / settings.steps, 1))
        said["warmup"] = min(warmup, said["steps"] - 1)
    settings = replace(settings, **said)
    check(settings)
    return settings


def check(settings: TrainingSettings) -> None:
    """Refuse settings that don't go together.

    Raises:
        InputError: they don't.
        MissingError: the optimiser isn't installed.
    """
    if min(settings.rank, settings.batch, settings.steps, settings.accumulation) < 1:
        raise InputError("rank, batch, accumulation and steps must be at least 1", input="settings")
    if settings.warmup and settings.warmup >= settings.steps:
        raise InputError(
            f"the warm-up takes {settings.warmup} steps, and the training only {settings.steps}",
            input="warmup",
            hint="lower warmup, or raise steps",
        )
    if (
        settings.optimiser == "prodigy"
        and settings.text_encoders
        and settings.learning_rate != settings.text_learning_rate
    ):
        raise InputError(
            "Prodigy has one learning rate for all that is trained",
            input="text_learning_rate",
            hint=f"set it to {settings.learning_rate:g} as well",
        )
    require(settings.optimiser)


def require(optimiser: Optimiser) -> None:
    """Raise MissingError if the package of an optimiser isn't installed."""
    module, package = EXTRA.get(optimiser, ("", ""))
    if module and find_spec(module) is None:
        raise MissingError(
            f"the optimiser {optimiser} needs {package}, which is not installed",
            input="optimiser",
            hint=f'pip install "kinograph[train]" or {package}, or choose adamw',
        )
