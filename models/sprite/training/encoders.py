"""Words and pictures in one space: the tokenizer, two CLIP text encoders (for SDXL) and a vision tower (for SVD).

All are trained together, contrastively, on drawn sprites and their captions.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from models.sprite import world
from models.sprite.training.data import pictures
from models.sprite.training.loop import PARTS, Recipe, Step, train

LENGTH = 32
"""Tokens in a caption, padding included."""
EMBEDDING = 128
VISION_SIZE = 224
"""The side to which SVD's pipeline scales every picture for the vision tower."""

TOKENIZER = PARTS / "bpe"
_WEIGHTS = PARTS / "towers.safetensors"
_END = "</w>"


def train_tokenizer(folder: Path = TOKENIZER, captions: int = 20_000) -> CLIPTokenizer:
    """Learn a byte-pair vocabulary of at most 2,000 tokens from captions and write it in CLIP's own two files."""
    rng = np.random.default_rng(0)
    scenes = (world.random_scene(rng, world.SUBJECTS, world.STYLES) for _ in range(captions))
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=_END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1600, min_frequency=5, initial_alphabet=alphabet, end_of_word_suffix=_END, show_progress=False
    )
    tokenizer.train_from_iterator((world.caption(scene, rng) for scene in scenes), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    words = [*alphabet, *(letter + _END for letter in alphabet), *learnt["vocab"], "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(dict.fromkeys(words))}))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in learnt["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return load_tokenizer(folder)


def load_tokenizer(folder: Path = TOKENIZER) -> CLIPTokenizer:
    """The tokenizer that `train_tokenizer` learnt."""
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH)


def text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=EMBEDDING,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=EMBEDDING,
        intermediate_size=4 * EMBEDDING,
        projection_dim=EMBEDDING,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=VISION_SIZE,
        patch_size=VISION_SIZE // 8,
    )


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": VISION_SIZE}, crop_size=VISION_SIZE)


class Towers(nn.Module):
    """Both text encoders and the vision tower, with the contrastive temperature."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.first = CLIPTextModel(text_config(tokenizer, 64))
        self.second = CLIPTextModelWithProjection(text_config(tokenizer, 128))
        self.vision = CLIPVisionModelWithProjection(vision_config())
        self.first_projection = nn.Linear(64, EMBEDDING, bias=False)  # only while training: SDXL uses hidden states
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def look(self, pixels: Tensor) -> Tensor:
        """Pictures in [0, 1], any size → unit embeddings (N, 128)."""
        return F.normalize(self.vision(pixel_values=normalised(pixels)).image_embeds, dim=-1)


def normalised(pixels: Tensor) -> Tensor:
    """Pictures as the vision tower takes them: 224×224, normalised by CLIP's channel means and deviations."""
    processor = image_processor()
    mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (processor.image_mean, processor.image_std))
    scaled = F.interpolate(pixels, (VISION_SIZE, VISION_SIZE), mode="bilinear", align_corners=False)
    return (scaled - mean) / std


def train_towers(tokenizer: CLIPTokenizer, steps: int = 800, batch: int = 64) -> Towers:
    """Train on base sprites: find a picture's caption among the batch's by each text encoder, and vice versa."""
    torch.manual_seed(0)
    towers = Towers(tokenizer)

    def loss_of(step: Step) -> Tensor:
        scenes = [world.random_scene(step.rng) for _ in range(batch)]
        tokens = encode(tokenizer, [world.caption(scene, step.rng) for scene in scenes])
        seen = towers.look(pictures(scenes))
        read = (
            towers.first_projection(towers.first(input_ids=tokens).pooler_output),
            towers.second(input_ids=tokens).text_embeds,
        )
        scale, target = towers.scale.exp().clamp(max=100), torch.arange(batch)
        losses = []
        for embeds in read:
            logits = scale * seen @ F.normalize(embeds, dim=-1).T
            losses += [F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)]
        return torch.stack(losses).mean()

    trained = train(towers, loss_of, Recipe("towers", steps, 1e-3, ema=0.998))
    assert isinstance(trained, Towers)
    _save(trained)
    return trained


def load_towers() -> Towers:
    """The trained towers, in evaluation mode."""
    towers = Towers(load_tokenizer())
    towers.load_state_dict(load_file(_WEIGHTS))
    return towers.eval().requires_grad_(False)


class Readings(nn.Module):
    """The text encoders, with linear heads that name the attributes of the scene described."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.first, self.second = towers.first, towers.second
        widths = (self.first.config.hidden_size, self.second.config.hidden_size, EMBEDDING)
        self.heads = nn.ModuleList(
            nn.ModuleDict({slot: nn.Linear(width, len(names)) for slot, names in world.VOCABULARY.items()})
            for width in widths
        )

    def forward(self, tokens: Tensor) -> list[dict[str, Tensor]]:
        """Logits by attribute from everything that SDXL's UNet gets: both encoders' words and the text embedding."""
        first = self.first(input_ids=tokens, output_hidden_states=True)
        second = self.second(input_ids=tokens, output_hidden_states=True)
        given = (first.hidden_states[-2].mean(1), second.hidden_states[-2].mean(1), second.text_embeds)
        logits = []
        for heads, x in zip(self.heads, given, strict=True):
            assert isinstance(heads, nn.ModuleDict)
            logits.append({slot: head(x) for slot, head in heads.items()})
        return logits


def train_words(tokenizer: CLIPTokenizer, towers: Towers, steps: int = 480, batch: int = 64) -> Towers:
    """Continue with the text encoders alone, until every attribute that a caption names can be read off linearly.

    The contrastive loss teaches colours and places first and shapes last; a UNet that starts from embeddings without
    shapes learns none. The vision tower stays as it is.
    """
    torch.manual_seed(0)
    readings = Readings(towers).requires_grad_(True)

    def loss_of(step: Step) -> Tensor:
        scenes = [world.random_scene(step.rng) for _ in range(batch)]
        tokens = encode(tokenizer, [world.caption(scene, step.rng) for scene in scenes])
        losses = [
            F.cross_entropy(logits[slot], torch.tensor([names.index(getattr(s, slot)) for s in scenes]))
            for logits in readings(tokens)
            for slot, names in world.VOCABULARY.items()
        ]
        return torch.stack(losses).mean()

    trained = train(readings, loss_of, Recipe("words", steps, 5e-4, ema=0.99))
    assert isinstance(trained, Readings)
    towers.first, towers.second = trained.first, trained.second
    _save(towers)
    return towers


def _save(towers: Towers) -> None:
    save_file({name: weight.contiguous() for name, weight in towers.state_dict().items()}, _WEIGHTS)


def encode(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (N, 32), padded and cut to length."""
    ids = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
    assert isinstance(ids, Tensor)
    return ids
