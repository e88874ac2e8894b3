"""CLIP's embeddings of pictures and texts, and heads that rate a picture's aesthetics by them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.errors import InputError, MissingError
from engine.models import identity, resolve
from nodes.files.footage import Picture
from nodes.loading import loading, unchanged
from nodes.weights import read_weights

if TYPE_CHECKING:
    from engine.node import Context

BATCH = 32


class Clip(NamedTuple):
    """A `CLIPModel` of transformers (or one with its interface), and its processor."""

    model: Any
    processor: Any

    @torch.inference_mode()
    def of_pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """Pictures (H, W, 3), BGR, of any size → float32 (N, D) of length 1, on the host."""
        found = []
        for start in range(0, len(pictures), BATCH):
            batch = [np.ascontiguousarray(picture[..., ::-1]) for picture in pictures[start : start + BATCH]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            found.append(self._normal(self.model.get_image_features(pixel_values=self._placed(pixels))))
        return torch.cat(found) if found else torch.empty(0, self.model.config.projection_dim)

    @torch.inference_mode()
    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts → float32 (N, D) of length 1, on the host; texts too long for the model are cut off."""
        found = []
        length = self.model.config.text_config.max_position_embeddings
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            tokens = self.processor(text=batch, return_tensors="pt", padding=True, truncation=True, max_length=length)
            ids, mask = tokens["input_ids"].to(self.model.device), tokens["attention_mask"].to(self.model.device)
            found.append(self._normal(self.model.get_text_features(input_ids=ids, attention_mask=mask)))
        return torch.cat(found) if found else torch.empty(0, self.model.config.projection_dim)

    def _placed(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.model.device, self.model.dtype)

    def _normal(self, output: Any) -> Tensor:
        return F.normalize(output.pooler_output.float(), dim=-1).cpu()


def load_clip(ctx: Context, source: str) -> Clip:
    """The CLIP model of a source string, loaded once and shared; raises MissingError."""
    path = resolve(source, progress=lambda done, total: ctx.progress(done, total, unit="B"))
    dtype = torch.float32 if ctx.device == "cpu" else torch.float16
    contents = identity(source)
    load = partial(_load, source, contents, path, dtype)
    found: Clip = ctx.models.get(("clip", contents, dtype), load, ctx.device)
    return found


def _load(source: str, contents: str, path: Path, dtype: torch.dtype) -> Clip:
    with unchanged(source, contents), loading(source, hint="give the folder of a CLIP model"):
        from transformers import AutoModel, AutoProcessor

        model = AutoModel.from_pretrained(path, dtype=dtype, local_files_only=True, use_safetensors=True).eval()
        processor = AutoProcessor.from_pretrained(path, local_files_only=True)
    if not hasattr(model, "get_image_features"):
        raise InputError(
            f"{source} is a {type(model).__name__}, not a CLIP model", input="clip", hint="give a CLIP model"
        )
    return Clip(model, processor)


class AestheticHead(NamedTuple):
    """Linear layers on CLIP's image embeddings, one after the other, as published by LAION; scores are 1 to 10."""

    layers: list[tuple[Tensor, Tensor]]

    def score(self, embeddings: Tensor) -> NDArray[np.float32]:
        """Embeddings (N, D) of length 1 → (N,).

        Raises:
            InputError: the head is for embeddings of another size.
        """
        if (wants := self.layers[0][0].shape[1]) != embeddings.shape[1]:
            raise InputError(
                f"the aesthetic head takes embeddings of {wants} numbers, but CLIP gives {embeddings.shape[1]}",
                hint="give the head that belongs to the CLIP model",
            )
        for weight, bias in self.layers:
            embeddings = F.linear(embeddings, weight, bias)
        return np.asarray(embeddings[:, 0].numpy(), np.float32)


def load_aesthetic_head(path: Path) -> AestheticHead:
    """A head from a safetensors or `.pth` file; the latter is read as data only.

    LAION's linear head has `weight` and `bias`, its later ones `layers.0.weight`, `layers.2.weight` and so on, with
    dropout between them and nothing else.

    Raises:
        MissingError: the file can't be read or holds something else.
    """
    return AestheticHead(_layers(path, read_weights(path, "an aesthetic head")))


def _layers(path: Path, state: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    names = [name.removesuffix("weight") for name in state if name.endswith("weight")]
    order = sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    complete = [name for name in order if f"{name}bias" in state]
    layers = [(state[f"{name}weight"].float(), state[f"{name}bias"].float()) for name in complete]
    chained = all(a.shape[0] == b.shape[1] for (a, _), (b, _) in pairwise(layers))
    if not layers or len(layers) != len(names) or not chained or layers[-1][0].shape[0] != 1:
        raise MissingError(f"{path} is not an aesthetic head: it should hold linear layers that end in one number")
    return layers
