"""sprite/clip: a CLIPModel of sprites and their captions, faulty pictures included, and the aesthetic head on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from models.sprite import world
from models.sprite.training.data import tensor
from models.sprite.training.encoders import LENGTH, encode
from models.sprite.training.heads import Heads
from models.sprite.training.loop import Recipe, Step, train

WIDTH = 128
PATCH = 8
STEPS, BATCH = 3500, 64
FAULTY = 0.5
"""Share of the training pictures that are degraded; nine of ten captions then say so."""
_NO_FAULT = "none"
_READ: Mapping[str, tuple[str, ...]] = {**world.VOCABULARY, "fault": (_NO_FAULT, *world.DEGRADATIONS)}
"""What must be readable from an embedding."""


@dataclass(frozen=True)
class Shown:
    """A picture of a scene, sometimes degraded, with what it shows and what its caption says."""

    frame: NDArray[np.uint8]
    seen: Mapping[str, str]
    caption: str
    described: Mapping[str, str]

    @classmethod
    def by_chance(cls, rng: np.random.Generator) -> Shown:
        scene = world.random_scene(rng)
        frame, named = world.draw(scene), {slot: str(getattr(scene, slot)) for slot in world.VOCABULARY}
        if rng.random() >= FAULTY:
            truth = {**named, "fault": _NO_FAULT}
            return cls(frame, truth, world.caption(scene, rng), truth)
        fault = world.random_degradation(rng, weakest=0.2)
        mentioned = fault.kind if rng.random() < 0.9 else ""
        caption = world.caption(scene, rng, fault=mentioned)
        seen = {**named, "fault": fault.kind}
        return cls(fault(frame[None], rng)[0], seen, caption, {**named, "fault": mentioned or _NO_FAULT})


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "intermediate_size": 4 * 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": world.SIZE,
        "patch_size": PATCH,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": world.SIZE}, crop_size=world.SIZE)


def normalised(pixels: Tensor) -> Tensor:
    """Pictures (…, 3, 64, 64) in [0, 1], normalised as the processor does for the model."""
    processor = image_processor()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    return (pixels - mean) / std


class Readings(nn.Module):
    """The model, with linear heads that name the attributes of pictures and of captions.

    The contrastive loss alone teaches colours and places first, shapes last and titles in a picture never.
    """

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model
        self.pictures, self.captions = Heads(WIDTH, _READ), Heads(WIDTH, _READ)

    def loss(self, tokens: Tensor, shown: Sequence[Shown]) -> Tensor:
        """The contrastive loss both ways, plus the heads' losses on either embedding."""
        out = self.model(input_ids=tokens, pixel_values=normalised(tensor(one.frame for one in shown)))
        target = torch.arange(len(shown))
        contrast = [F.cross_entropy(logits, target) for logits in (out.logits_per_image, out.logits_per_text)]
        named = [
            self.pictures.loss(out.image_embeds * 10, [one.seen for one in shown]),
            self.captions.loss(out.text_embeds * 10, [one.described for one in shown]),
        ]
        return torch.stack(contrast).mean() + torch.stack(named).mean()


def train_clip(tokenizer: CLIPTokenizer, steps: int = STEPS) -> CLIPModel:
    """Train on base sprites, some degraded, and their captions."""
    torch.manual_seed(0)

    def loss_of(step: Step) -> Tensor:
        shown = [Shown.by_chance(step.rng) for _ in range(BATCH)]
        return readings.loss(encode(tokenizer, [one.caption for one in shown]), shown)

    readings = Readings(build(tokenizer))
    return train(readings, loss_of, Recipe("clip", steps, 1e-3, warmup=200, ema=0.998)).model


def train_aesthetic(model: CLIPModel, pictures: int = 10_000, ridge: float = 1e-3) -> dict[str, Tensor]:
    """A linear head on the model's unit embeddings, in the form of LAION's first aesthetic predictors.

    Fitted by least squares to scores from 10, as drawn, down to 1, hardly worth looking at. Returns `weight` (1, 128)
    and `bias` (1,).
    """
    rng = np.random.default_rng(17)
    frames, scores = zip(*(_scored(rng) for _ in range(pictures)), strict=True)
    seen = torch.cat([embeddings(model, tensor(part)) for part in _parts(frames, 100)])
    x = torch.cat([seen, torch.ones(len(seen), 1)], 1).double()
    solution = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]).double(), x.T @ torch.tensor(scores).double())
    return {"weight": solution[:-1].float()[None], "bias": solution[-1:].float()}


def _scored(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    drawn = world.draw(world.random_scene(rng))
    if rng.random() < 0.5:
        return drawn, 10.0
    fault = world.random_degradation(rng)
    return fault(drawn[None], rng)[0], 10 - 9 * fault.strength


def _parts(frames: tuple[np.ndarray, ...], size: int) -> list[tuple[np.ndarray, ...]]:
    return [frames[start : start + size] for start in range(0, len(frames), size)]


@torch.inference_mode()
def embeddings(model: CLIPModel, pixels: Tensor) -> Tensor:
    """Pictures (N, 3, 64, 64) in [0, 1] → unit embeddings (N, 128)."""
    vision = model.vision_model(pixel_values=normalised(pixels))
    return F.normalize(model.visual_projection(vision.pooler_output), dim=-1)


def save(model: CLIPModel, tokenizer: CLIPTokenizer, aesthetic: dict[str, Tensor], folder: Path) -> None:
    """Write model, processor and aesthetic head, the model in half precision."""
    model.half().save_pretrained(folder)
    CLIPProcessor(image_processor(), tokenizer).save_pretrained(folder)
    save_file(aesthetic, folder / "aesthetic.safetensors")
