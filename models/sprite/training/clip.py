"""sprite/clip: a CLIPModel of sprites and their captions, faulty pictures included, and the aesthetic head on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from models.sprite import world
from models.sprite.training.data import tensor
from models.sprite.training.encoders import LENGTH, encode
from models.sprite.training.loop import Recipe, Step, train

WIDTH = 128
PATCH = 8
STEPS, BATCH = 3000, 64
FAULTY = 0.3
"""How many of the pictures that the model learns from are degraded; nine captions in ten then say so."""


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
    """Pictures (…, 3, 64, 64) in [0, 1] as the processor hands them to the model."""
    processor = image_processor()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    return (pixels - mean) / std


class Readings(nn.Module):
    """The model, with linear heads that name the attributes of what was seen and of what was told.

    Contrast alone teaches colours and places first and shapes last.
    """

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleList(
            nn.ModuleDict({slot: nn.Linear(WIDTH, len(names)) for slot, names in world.VOCABULARY.items()})
            for _ in ("pictures", "captions")
        )

    def loss(self, tokens: Tensor, pixels: Tensor, scenes: list[world.Scene]) -> Tensor:
        """Contrast both ways, and what the heads get wrong of either embedding."""
        out = self.model(input_ids=tokens, pixel_values=normalised(pixels))
        target = torch.arange(len(scenes))
        contrast = [F.cross_entropy(logits, target) for logits in (out.logits_per_image, out.logits_per_text)]
        named = [
            F.cross_entropy(head(embeds * 10), torch.tensor([names.index(getattr(s, slot)) for s in scenes]))
            for heads, embeds in zip(self.heads, (out.image_embeds, out.text_embeds), strict=True)
            for (slot, head), names in zip(heads.items(), world.VOCABULARY.values(), strict=True)
        ]
        return torch.stack(contrast).mean() + torch.stack(named).mean()


def train_clip(tokenizer: CLIPTokenizer, steps: int = STEPS) -> CLIPModel:
    """Train on base sprites, some degraded, and their captions."""
    torch.manual_seed(0)

    def loss_of(step: Step) -> Tensor:
        scenes = [world.random_scene(step.rng) for _ in range(BATCH)]
        frames, captions = zip(*(_told(scene, step.rng) for scene in scenes), strict=True)
        return readings.loss(encode(tokenizer, list(captions)), tensor(frames), scenes)

    readings = Readings(build(tokenizer))
    return train(readings, loss_of, Recipe("clip", steps, 1e-3, warmup=200, ema=0.998)).model


def _told(scene: world.Scene, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A picture, degraded now and then, and a caption."""
    drawn = world.draw(scene)
    if rng.random() >= FAULTY:
        return drawn, world.caption(scene, rng)
    fault = world.random_degradation(rng, weakest=0.2)
    told = fault.kind if rng.random() < 0.9 else ""
    return fault(drawn[None], rng)[0], world.caption(scene, rng, fault=told)


def train_aesthetic(model: CLIPModel, pictures: int = 6000, ridge: float = 1e-3) -> dict[str, Tensor]:
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
