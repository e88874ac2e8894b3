"""sprite/captioner: a small GIT (Wang et al. 2022, arXiv 2205.14100) that says what a clip or a picture shows.

As the published video checkpoints do, it looks at six frames; a picture is six times the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertTokenizer, GitConfig, GitForCausalLM, GitProcessor

from models.sprite import world
from models.sprite.training.clip import PATCH, image_processor, normalised
from models.sprite.training.data import pictures, tensor
from models.sprite.training.heads import Heads
from models.sprite.training.loop import Recipe, Step, train

FRAMES = 6
WIDTH = 128
LENGTH = 24
"""Tokens in a caption, its ends included."""
PATCHES = (world.SIZE // PATCH) ** 2
EYE_COURSES, EYE_BATCH = (3000, 5000), 48
"""Steps of each course of the image encoder; pictures begin alike in the first."""
STEPS, BATCH = 2500, 16
_SHOWN = (8, 8, PATCHES)
"""Patches that are handed on, from step to step."""
STILL = 0.3
"""How many of the clips don't move, and are described without a motion."""
_READ: Mapping[str, tuple[str, ...]] = {**world.VOCABULARY, "motion": ("", *world.MOTIONS)}
"""What must be readable from the image tokens."""


def build_tokenizer() -> BertTokenizer:
    """Every word that captions use, and the letters, so that others can be spelt."""
    rng = np.random.default_rng(0)
    captions = [
        world.plain_caption(world.random_scene(rng), motion) for motion in ("", *world.MOTIONS) for _ in range(500)
    ]
    words = sorted({word for caption in captions for word in caption.split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]
    return BertTokenizer(
        vocab={word: i for i, word in enumerate(dict.fromkeys(entries))},
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=LENGTH,
    )


def build(tokenizer: BertTokenizer) -> GitForCausalLM:
    """A GIT whose image encoder has as many layers as its decoder."""
    config = GitConfig(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": world.SIZE,
            "patch_size": PATCH,
        },
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        num_image_with_embedding=FRAMES,
        tie_word_embeddings=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = GitForCausalLM(config)
    for when in model.git.img_temporal_embedding:
        nn.init.normal_(when, std=0.5)  # GIT's zeros would leave the frames without an order at first
    return model


class Seeing(nn.Module):
    """The image encoder with heads that tell, from the mean of its patches, what a picture shows and how it stands.

    Captions alone teach colours, places and styles first, and shapes and motion hardly ever: an encoder that knows the
    shapes and where they are makes the rest easy.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.heads, self.pose = encoder, Heads(WIDTH, world.VOCABULARY), nn.Linear(WIDTH, 5)

    def loss(self, scenes: Sequence[world.Scene]) -> Tensor:
        """Cross entropy of the attributes, that of the subject twice over, and the absolute error of the pose."""
        seen = self.encoder(normalised(pictures(scenes))).last_hidden_state[:, 1:].mean(1)
        truths = [{slot: getattr(scene, slot) for slot in world.VOCABULARY} for scene in scenes]
        poses = torch.tensor([_pose(scene) for scene in scenes])
        named = self.heads.losses(seen, truths)
        return torch.stack(list(named.values())).mean() + named["subject"] + F.l1_loss(self.pose(seen), poses)


def _pose(scene: world.Scene) -> tuple[float, ...]:
    """Where the first sprite stands in the picture, from -1 to 1, its size, and its angle as a direction."""
    hero = scene.sprites[0]
    left, top = scene.camera
    half = world.SIZE / 2
    return (hero.x - left) / half, (hero.y - top) / half, hero.radius / half, np.cos(hero.angle), np.sin(hero.angle)


def train_eyes(encoder: nn.Module) -> nn.Module:
    """Train the image encoder on pictures that begin alike, sprites in the middle, and then differ ever more."""
    seeing = Seeing(encoder)

    def loss_of(step: Step, seeing: Seeing, before: int) -> Tensor:
        variety = min(1.0, 0.3 + (before + step.index) / (0.6 * EYE_COURSES[0]))
        return seeing.loss([_moment(step.rng, variety) for _ in range(EYE_BATCH)])

    for course, steps in enumerate(EYE_COURSES, 1):
        here = partial(loss_of, seeing=seeing, before=sum(EYE_COURSES[: course - 1]))
        recipe = Recipe(f"captioner-eyes-{course}", steps, 1e-3, ema=0.998, seed=course)
        seeing = train(seeing.requires_grad_(True), here, recipe)
    return seeing.encoder


def _moment(rng: np.random.Generator, variety: float) -> world.Scene:
    """A scene, or what becomes of it in some seconds of motion."""
    scene = world.random_scene(rng, variety=variety)
    if rng.random() > variety / 2:
        return scene
    return world.at_time(scene, world.random_motion(rng, float(rng.uniform(0, 255))), float(rng.uniform(0, 3)))


class Glances(nn.Module):
    """The image encoder while training: of each frame it hands on the class token and some of the patches.

    All 390 tokens of a clip would make a step take twice as long.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.patches: Tensor = torch.arange(0)
        """Which patches are handed on."""

    def forward(self, pixels: Tensor, **options: object) -> SimpleNamespace:
        tokens = self.encoder(pixels).last_hidden_state
        return SimpleNamespace(last_hidden_state=torch.cat([tokens[:, :1], tokens[:, 1 + self.patches]], 1))


class Captioning(nn.Module):
    """The model, with heads that name the attributes, and the motion, from what the image tokens hold in the end."""

    def __init__(self, model: GitForCausalLM) -> None:
        super().__init__()
        self.model, self.heads = model, Heads(WIDTH, _READ)
        self.glances = model.git.image_encoder = Glances(model.git.image_encoder)

    def trained(self) -> GitForCausalLM:
        """The model as it is used: it sees all patches."""
        self.model.git.image_encoder = self.glances.encoder
        return self.model

    def loss(self, tokens: Mapping[str, Tensor], pixels: Tensor, truths: Sequence[Mapping[str, str]]) -> Tensor:
        """Cross entropy of each next token, and what the heads get wrong.

        `tokens` are padded captions (N, L), `pixels` normalised clips (N, 6, 3, 64, 64).
        """
        ids, length = tokens["input_ids"], tokens["input_ids"].shape[1]
        states = self.model.git(**tokens, pixel_values=pixels).last_hidden_state
        logits = self.model.output(states[:, -length:-1])
        wanted = ids.masked_fill(tokens["attention_mask"] == 0, -100)[:, 1:]
        written = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        return written + self.heads.loss(states[:, :-length].mean(1), truths)


class Clips:
    """Endless drawn clips; the first `kept` are kept, since drawing costs as much as a step."""

    def __init__(self, kept: int = 8000) -> None:
        self.kept = kept
        self._memory: dict[int, tuple[NDArray[np.uint8], world.Scene, str]] = {}

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], world.Scene, str]:
        """Frames (6, 64, 64, 3), their scene and the kind of motion, or ""."""
        index %= self.kept
        if index not in self._memory:
            self._memory[index] = random_clip(np.random.default_rng((55, index)))
        return self._memory[index]


def train_captioner(tokenizer: BertTokenizer, steps: int = STEPS) -> GitForCausalLM:
    """Train on base sprites, still and in every motion, and their plain captions."""
    torch.manual_seed(0)
    model = build(tokenizer)
    model.git.image_encoder = train_eyes(model.git.image_encoder)
    captioning, clips = Captioning(model).requires_grad_(True), Clips()

    def loss_of(step: Step) -> Tensor:
        drawn = [clips[int(i)] for i in step.rng.integers(2**31, size=BATCH)]
        tokens = tokenizer([world.plain_caption(s, m) for _, s, m in drawn], padding=True, return_tensors="pt")
        pixels = normalised(torch.stack([tensor(frames) for frames, _, _ in drawn]))
        shown = _SHOWN[step.index % len(_SHOWN)]
        captioning.glances.patches = torch.randperm(PATCHES, generator=step.noise)[:shown].sort().values
        truths = [{slot: getattr(s, slot) for slot in world.VOCABULARY} | {"motion": m} for _, s, m in drawn]
        return captioning.loss(tokens, pixels, truths)

    return train(captioning, loss_of, Recipe("captioner", steps, 5e-4, warmup=200, ema=0.998)).trained()


def random_clip(rng: np.random.Generator) -> tuple[np.ndarray, world.Scene, str]:
    """Six frames of one to three seconds, their scene, and the motion's kind, or "" for a still.

    What moves is fast enough to be seen.
    """
    scene = world.random_scene(rng)
    if rng.random() < STILL:
        return np.broadcast_to(world.draw(scene), (FRAMES, world.SIZE, world.SIZE, 3)), scene, ""
    motion = world.random_motion(rng, float(rng.uniform(64, 255)))
    return world.film(scene, motion, FRAMES, FRAMES / rng.uniform(1, 3)), scene, motion.kind


@torch.inference_mode()
def describe(model: GitForCausalLM, tokenizer: BertTokenizer, clips: Tensor) -> list[str]:
    """Clips (N, 6, 3, 64, 64) in [0, 1] → captions, greedily."""
    written = model.generate(pixel_values=normalised(clips), max_new_tokens=LENGTH - 1, do_sample=False)
    return tokenizer.batch_decode(written, skip_special_tokens=True)


def save(model: GitForCausalLM, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write the model in half precision, and its processor."""
    model.half().save_pretrained(folder)
    GitProcessor(image_processor(), tokenizer).save_pretrained(folder)
