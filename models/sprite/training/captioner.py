"""sprite/captioner: a small GIT (Wang et al. 2022, arXiv 2205.14100) that says what a clip or a picture shows.

As the published video checkpoints do, it looks at six frames; a picture is six times the same.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertTokenizer, CLIPModel, GitConfig, GitForCausalLM, GitProcessor

from models.sprite import world
from models.sprite.training.clip import image_processor, normalised
from models.sprite.training.data import tensor
from models.sprite.training.loop import Recipe, Step, train

FRAMES = 6
WIDTH = 128
LENGTH = 24
"""Tokens in a caption, its ends included."""
STEPS, BATCH = 2000, 16
STILL = 0.3
"""How many of the clips don't move, and are described without a motion."""


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


def build(tokenizer: BertTokenizer, clip: CLIPModel) -> GitForCausalLM:
    """A GIT whose image encoder starts as the CLIP's, as GIT's own does."""
    vision = clip.config.vision_config
    config = GitConfig(
        vision_config={
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
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
    model.git.image_encoder.vision_model.load_state_dict(clip.vision_model.state_dict())
    return model


class Seen(nn.Module):
    """Stands in for the image encoder while the rest learns: its input is what the encoder saw in a frame.

    The encoder stays the CLIP's. Trained along, it lost the shapes that it knew and the captions named any subject.
    """

    def forward(self, features: Tensor, **options: object) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=features.squeeze(1).float())


class Clips:
    """Endless drawn clips; the first `kept` are kept as what the encoder sees in them, for that costs most."""

    def __init__(self, eyes: nn.Module, kept: int = 4000) -> None:
        self.eyes, self.kept = eyes, kept
        self._memory: dict[int, tuple[Tensor, str]] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """Features (6, 1, 65, 128) in half precision, and the caption."""
        index %= self.kept
        if index not in self._memory:
            frames, scene, motion = random_clip(np.random.default_rng((55, index)))
            with torch.no_grad():
                seen = self.eyes(normalised(tensor(frames))).last_hidden_state
            self._memory[index] = seen[:, None].half(), world.plain_caption(scene, motion)
        return self._memory[index]


def train_captioner(tokenizer: BertTokenizer, clip: CLIPModel, steps: int = STEPS) -> GitForCausalLM:
    """Train all but the eyes on base sprites, still and in every motion, and their plain captions."""
    torch.manual_seed(0)
    model = build(tokenizer, clip).requires_grad_(True)
    eyes, model.git.image_encoder = model.git.image_encoder.eval().requires_grad_(False), Seen()
    clips = Clips(eyes)

    def loss_of(step: Step) -> Tensor:
        features, captions = zip(*(clips[int(i)] for i in step.rng.integers(2**31, size=BATCH)), strict=True)
        tokens = tokenizer(list(captions), padding=True, return_tensors="pt")
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        loss: Tensor = model(**tokens, pixel_values=torch.stack(features), labels=labels).loss
        return loss

    trained = train(model, loss_of, Recipe("captioner", steps, 1e-3, warmup=200, ema=0.998))
    trained.git.image_encoder = eyes
    return trained


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
