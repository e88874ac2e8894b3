"""Captions of clips, by a captioner of transformers that sees one view or several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from engine.errors import InputError
from engine.models import identity, resolve
from nodes.files.footage import Picture
from nodes.loading import loading, unchanged

if TYPE_CHECKING:
    from engine.node import Context

BATCH = 16
TOKENS = 40
"""The most tokens of a caption."""


class Captioner(NamedTuple):
    """A model of transformers that generates text from pictures, and its processor."""

    model: Any
    processor: Any
    frames: int
    """How many frames of a clip it sees; 1 if it captions pictures."""

    def of_pictures(self, pictures: Sequence[Picture]) -> list[str]:
        """A caption for each picture (H, W, 3), BGR; a captioner for clips sees it as a still clip."""
        return self.of_clips([[picture] for picture in pictures])

    @torch.inference_mode()
    def of_clips(self, clips: Sequence[Sequence[Picture]]) -> list[str]:
        """A caption for each clip of at least one view, in order; a captioner for pictures sees the middle view."""
        captions: list[str] = []
        for start in range(0, len(clips), BATCH):
            batch = [self._seen(clip) for clip in clips[start : start + BATCH]]
            flat = [np.ascontiguousarray(picture[..., ::-1]) for views in batch for picture in views]
            pixels = self.processor.image_processor(images=flat, return_tensors="pt")["pixel_values"]
            pixels = pixels.to(self.model.device, self.model.dtype)
            if self.frames > 1:
                pixels = pixels.unflatten(0, (len(batch), self.frames))
            ids = self.model.generate(pixel_values=pixels, max_new_tokens=self._tokens, do_sample=False)
            captions += [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]
        return captions

    @property
    def _tokens(self) -> int:
        """How many tokens it may write: no more than it has positions for, one of which starts the text."""
        positions: int = getattr(self.model.config.get_text_config(), "max_position_embeddings", TOKENS + 1)
        return min(TOKENS, positions - 1)

    def _seen(self, clip: Sequence[Picture]) -> list[Picture]:
        if self.frames == 1:
            return [clip[len(clip) // 2]]
        return [clip[i] for i in np.linspace(0, len(clip) - 1, self.frames).round().astype(int)]


def load_captioner(ctx: Context, source: str) -> Captioner:
    """The captioner of a source string (BLIP, GIT and their like), loaded once and shared; raises MissingError."""
    path = resolve(source, progress=lambda done, total: ctx.progress(done, total, unit="B"))
    dtype = torch.float32 if ctx.device == "cpu" else torch.float16
    contents = identity(source)
    load = partial(_load, source, contents, path, dtype)
    found: Captioner = ctx.models.get(("captioner", contents, dtype), load, ctx.device)
    return found


def _load(source: str, contents: str, path: Path, dtype: torch.dtype) -> Captioner:
    with unchanged(source, contents), loading(source, hint="give the folder of a captioner"):
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

        config = AutoConfig.from_pretrained(path, local_files_only=True)
        kind = AutoModelForCausalLM if config.model_type == "git" else AutoModelForImageTextToText
        model = kind.from_pretrained(path, dtype=dtype, local_files_only=True, use_safetensors=True).eval()
        processor = AutoProcessor.from_pretrained(path, local_files_only=True)
    if not hasattr(processor, "image_processor"):
        raise InputError(
            f"{source} has no image processor, so it can't caption pictures",
            input="captioner",
            hint="give a captioner, such as BLIP or GIT",
        )
    return Captioner(model, processor, getattr(config, "num_image_with_embedding", None) or 1)
