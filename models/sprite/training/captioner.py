"""sprite/captioner: a small GIT (Wang et al. 2022, arXiv 2205.14100) that says what a clip or a picture shows.

Like the published video checkpoints, it sees six frames; a picture is shown six times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from models.sprite.training.ahead import Ahead
from models.sprite.training.clip import PATCH, image_processor, normalised
from models.sprite.training.data import pictures, tensor
from models.sprite.training.heads import Heads
from models.sprite.training.loop import Recipe, Step, train

Pictures = NDArray[np.uint8]
"""(N, 64, 64, 3)."""

FRAMES = 6
WIDTH = 128
LENGTH = 24
"""Tokens in a caption, including its ends."""
PATCHES = (world.SIZE // PATCH) ** 2
EYE_COURSES, EYE_BATCH = (3000, 5000, 4000, 5000), 48
"""Steps of each course of the image encoder; the first starts with similar pictures, the last two use pairs."""
PAIRED = 3
"""The first course with pairs."""
SECONDS = (2.0, 4.0)
"""Shortest and longest clips, in seconds."""
STEPS, BATCH = 4000, 24
STILL = 0.3
"""Share of the clips that don't move, and are described without a motion."""
_READ: Mapping[str, tuple[str, ...]] = {**world.VOCABULARY, "motion": ("", *world.MOTIONS)}
"""What must be readable from the image tokens."""
_half = partial(torch.autocast, "cpu", torch.bfloat16)
"""The precision of training: a step takes two thirds of the time."""


def build_tokenizer() -> BertTokenizer:
    """Every word that captions use, and the letters, so that other words can be spelt."""
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
    """The image encoder with heads that predict what a picture shows and its pose, from the mean of its patches and
    from its class token, and how two pictures of a clip differ.

    Captions alone teach colours, places and styles first, and shapes and motion hardly ever: an encoder that knows
    shapes and positions makes the rest easy.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.heads, self.pose = encoder, Heads(WIDTH, world.VOCABULARY), nn.Linear(WIDTH, 5)
        self.moves = nn.Linear(WIDTH, 6)

    def loss(self, scenes: Sequence[world.Scene], drawn: Pictures, *, pairs: bool) -> Tensor:
        """Cross entropy of the attributes, counting the subject twice, and the absolute error of the pose; with
        `pairs` (scenes 0 and 1, 2 and 3 and so on) also that of the change from one to the other.
        """
        with _half():
            tokens = self.encoder(normalised(tensor(drawn))).last_hidden_state.float()
        truths = [{slot: getattr(scene, slot) for slot in world.VOCABULARY} for scene in scenes]
        poses = torch.tensor([_pose(scene) for scene in scenes])
        moved = moves(scenes)[::2]
        losses = []
        for seen in (tokens[:, 1:].mean(1), tokens[:, 0]):
            named = self.heads.losses(seen, truths)
            losses += [torch.stack(list(named.values())).mean(), named["subject"], F.l1_loss(self.pose(seen), poses)]
            if pairs:
                losses.append(3 * F.l1_loss(self.moves(seen[1::2] - seen[::2]), moved))
        return torch.stack(losses).sum() / 2


def _pose(scene: world.Scene) -> tuple[float, ...]:
    """The first sprite's position in the picture, from -1 to 1, its size, and its angle as a direction."""
    hero = scene.sprites[0]
    left, top = scene.camera
    half = world.SIZE / 2
    return (hero.x - left) / half, (hero.y - top) / half, hero.radius / half, np.cos(hero.angle), np.sin(hero.angle)


def moves(scenes: Sequence[world.Scene]) -> Tensor:
    """How pose and camera change from each scene to the next: float32 (N - 1, 6), in tenths of their units."""
    where = torch.tensor([(*_pose(scene), scene.camera[0] / world.SIZE) for scene in scenes])
    return 10 * where.diff(dim=0).float()


def train_eyes(encoder: nn.Module) -> nn.Module:
    """Train the image encoder on pictures that are similar at first, with sprites in the middle, and vary more and
    more, and finally on pairs from clips.
    """
    seeing = Seeing(encoder)

    def loss_of(step: Step, seeing: Seeing, ahead: Ahead[tuple[list[world.Scene], Pictures]], pairs: bool) -> Tensor:
        return seeing.loss(*ahead(step.index), pairs=pairs)

    for course, steps in enumerate(EYE_COURSES, 1):
        ahead = Ahead(partial(draw_scenes, course=course), steps)
        here = partial(loss_of, seeing=seeing, ahead=ahead, pairs=course >= PAIRED)
        recipe = Recipe(f"captioner-eyes-{course}", steps, 1e-3, ema=0.998)
        seeing = train(seeing.requires_grad_(True), here, recipe)
    return seeing.encoder


def draw_scenes(step: int, course: int) -> tuple[list[world.Scene], Pictures]:
    """Scenes for a step of a course, and their pictures."""
    rng = np.random.default_rng((course, step))
    if course >= PAIRED:
        scenes = [scene for _ in range(EYE_BATCH // 2) for scene in _pair(rng)]
    else:
        variety = min(1.0, 0.3 + (sum(EYE_COURSES[: course - 1]) + step) / (0.6 * EYE_COURSES[0]))
        scenes = [_moment(rng, variety) for _ in range(EYE_BATCH)]
    return scenes, np.stack([world.draw(scene) for scene in scenes])


def _moment(rng: np.random.Generator, variety: float) -> world.Scene:
    """A scene, sometimes after some seconds of motion."""
    scene = world.random_scene(rng, variety=variety)
    if rng.random() > variety / 2:
        return scene
    return world.at_time(scene, world.random_motion(rng, float(rng.uniform(0, 255))), float(rng.uniform(0, 3)))


def _pair(rng: np.random.Generator) -> tuple[world.Scene, world.Scene]:
    """Two frames of a clip, at any distance."""
    scenes, _ = random_moments(rng)
    first, second = rng.choice(FRAMES, 2, replace=False)
    return scenes[first], scenes[second]


class Seen(nn.Module):
    """Stands in for the image encoder while the words are learnt: its input is the encoder's output for a frame.

    It passes on the class token and some of the patches; all 390 tokens of a clip would make most steps eight times as
    long.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patches: Tensor = torch.arange(PATCHES)
        """Which patches are passed on."""

    def forward(self, tokens: Tensor, **options: object) -> SimpleNamespace:
        kept = torch.cat([torch.zeros(1).long(), 1 + self.patches])
        return SimpleNamespace(last_hidden_state=tokens[:, 0, kept].float())


class Captioning(nn.Module):
    """The model, with heads on the final states of the image tokens: they name attributes and motion, and predict how
    the sprite and the camera move from frame to frame.
    """

    def __init__(self, model: GitForCausalLM) -> None:
        super().__init__()
        self.model, self.heads, self.moves = model, Heads(WIDTH, _READ), nn.Linear(WIDTH, 6)
        self.seen = model.git.image_encoder = Seen()

    def loss(self, tokens: Mapping[str, Tensor], clips: Sequence[Clip]) -> Tensor:
        """Cross entropy of each next token of the padded captions (N, L), plus the heads' losses."""
        ids, length = tokens["input_ids"], tokens["input_ids"].shape[1]
        seen = torch.stack([clip.tokens for clip in clips])[:, :, None]  # with as many dimensions as pictures have
        with _half():
            states = self.model.git(**tokens, pixel_values=seen).last_hidden_state.float()
            logits = self.model.output(states[:, -length:-1]).float()
        wanted = ids.masked_fill(tokens["attention_mask"] == 0, -100)[:, 1:]
        written = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        by_frame = states[:, :-length].unflatten(1, (FRAMES, -1)).mean(2)
        moved = F.l1_loss(self.moves(by_frame), torch.stack([clip.moves for clip in clips]))
        return written + self.heads.loss(by_frame.mean(1), [clip.truth for clip in clips]) + moved


@dataclass(frozen=True)
class Clip:
    """A drawn clip, as used in training."""

    tokens: Tensor  # (6, 65, 128): the image encoder's output for the frames, in half precision
    moves: Tensor  # (6, 6): how pose and camera change to the next frame
    truth: Mapping[str, str]
    caption: str

    def backwards(self) -> Clip:
        """The clip played backwards: as good an example, since every motion keeps its kind."""
        steps = self.moves[:-1].flip(0)
        return replace(self, tokens=self.tokens.flip(0), moves=-torch.cat([steps, steps[-1:]]))


class Clips:
    """Endless drawn clips; the encoder's output for the first `kept` of them is kept, since it costs most."""

    def __init__(self, encoder: nn.Module, kept: int = 20_000) -> None:
        self.encoder, self.kept = encoder, kept
        self._memory: dict[int, Clip] = {}

    def __getitem__(self, index: int) -> Clip:
        index %= self.kept
        if index not in self._memory:
            self._memory[index] = self._film(np.random.default_rng((55, index)))
        return self._memory[index]

    @torch.no_grad()
    def _film(self, rng: np.random.Generator) -> Clip:
        scenes, motion = random_moments(rng)
        tokens = self.encoder(normalised(pictures(scenes))).last_hidden_state.half()
        steps = moves(scenes)
        truth = {slot: getattr(scenes[0], slot) for slot in world.VOCABULARY} | {"motion": motion}
        return Clip(tokens, torch.cat([steps, steps[-1:]]), truth, world.plain_caption(scenes[0], motion))


def train_captioner(tokenizer: BertTokenizer, steps: int = STEPS) -> GitForCausalLM:
    """Train on base sprites, still and in every motion, and their plain captions."""
    torch.manual_seed(0)
    model = build(tokenizer)
    encoder = train_eyes(model.git.image_encoder).eval().requires_grad_(False)
    captioning, clips = Captioning(model).requires_grad_(True), Clips(encoder)

    def loss_of(step: Step) -> Tensor:
        drawn = [clips[int(i)] for i in step.rng.integers(2**31, size=BATCH)]
        drawn = [clip.backwards() if step.rng.random() < 0.5 else clip for clip in drawn]
        tokens = tokenizer([clip.caption for clip in drawn], padding=True, return_tensors="pt")
        shown = PATCHES if step.index % 8 == 0 else 8
        captioning.seen.patches = torch.randperm(PATCHES, generator=step.noise)[:shown].sort().values
        return captioning.loss(tokens, drawn)

    trained = train(captioning, loss_of, Recipe("captioner", steps, 1e-3, warmup=200, ema=0.998)).model
    trained.git.image_encoder = encoder
    return trained


def random_clip(rng: np.random.Generator) -> tuple[np.ndarray, world.Scene, str]:
    """Six frames of two to four seconds, their scene, and the motion's kind, or "" for a still."""
    scenes, motion = random_moments(rng)
    return np.stack([world.draw(scene) for scene in scenes]), scenes[0], motion


def random_moments(rng: np.random.Generator) -> tuple[list[world.Scene], str]:
    """The scenes of six frames of a clip, and the motion's kind; motion is fast enough to be seen."""
    scene = world.random_scene(rng)
    if rng.random() < STILL:
        return [scene] * FRAMES, ""
    motion = world.random_motion(rng, float(rng.uniform(64, 255)))
    fps = FRAMES / rng.uniform(*SECONDS)
    return [world.at_time(scene, motion, index / fps) for index in range(FRAMES)], motion.kind


@torch.inference_mode()
def describe(model: GitForCausalLM, tokenizer: BertTokenizer, clips: Tensor) -> list[str]:
    """Clips (N, 6, 3, 64, 64) in [0, 1] → captions, greedily."""
    written = model.generate(pixel_values=normalised(clips), max_new_tokens=LENGTH - 1, do_sample=False)
    captions: list[str] = tokenizer.batch_decode(written, skip_special_tokens=True)
    return captions


def save(model: GitForCausalLM, tokenizer: BertTokenizer, folder: Path) -> None:
    """Write the model in half precision, and its processor."""
    model.half().save_pretrained(folder)
    GitProcessor(image_processor(), tokenizer).save_pretrained(folder)
