"""sprite/captioner: a small GIT (Wang et al. 2022, arXiv 2205.14100) that says what a clip or a picture shows.

As the published video checkpoints do, it looks at six frames; a picture is six times the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
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


def train_captioner(tokenizer: BertTokenizer, clip: CLIPModel, steps: int = STEPS) -> GitForCausalLM:
    """Train on base sprites, still and in every motion, and their plain captions."""
    torch.manual_seed(0)
    model = build(tokenizer, clip).requires_grad_(True)

    def loss_of(step: Step) -> Tensor:
        clips, scenes, motions = zip(*(random_clip(step.rng) for _ in range(BATCH)), strict=True)
        captions = [world.plain_caption(scene, motion) for scene, motion in zip(scenes, motions, strict=True)]
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        pixels = normalised(torch.stack([tensor(clip) for clip in clips]))
        loss: Tensor = model(**tokens, pixel_values=pixels, labels=labels).loss
        return loss

    return train(model, loss_of, Recipe("captioner", steps, 8e-4, warmup=200, ema=0.998))


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
