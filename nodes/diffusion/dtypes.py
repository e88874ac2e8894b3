"""The precision that a model is run in where none is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nodes.diffusion.families import family
from nodes.diffusion.weights import weight_files
from nodes.loading import loading

if TYPE_CHECKING:
    from engine.values import ImageModel, VideoModel

_HALF = {"F16": "float16", "BF16": "bfloat16"}
"""Names of half-precision types in safetensors' headers."""


def chosen_dtype(model: ImageModel | VideoModel, device: str) -> str:
    """The name of the torch dtype in which a model runs on a device.

    "auto" is float32 on a CPU, where it is the fastest too, and otherwise the half precision that the weights are kept
    in; where they are kept in another, float16 for a UNet and bfloat16 for a transformer, in which they were trained.
    So it follows from the kind of device and the files alone, which are in the keys of what is computed.

    Raises MissingError if the files that say it are gone or damaged.
    """
    if model.dtype != "auto":
        return model.dtype
    if device.partition(":")[0] == "cpu":
        return "float32"
    row = family(model.family)
    part = model.parts.get(row.denoiser)
    source = part or model
    with loading(source.source, hint="fetch or copy it again"):
        kept = Counter(_HALF.get(dtype) for dtype in _kept(_weights(Path(source.path), "" if part else row.denoiser)))
    most = kept.most_common(1)[0][0] if kept else None
    return most or ("float16" if row.denoiser == "unet" else "bfloat16")


def trainable(model: ImageModel, device: str) -> ImageModel:
    """The model in a precision that it can be trained in: in float16 gradients vanish, so "auto" is bfloat16 then."""
    halved = model.dtype == "auto" and chosen_dtype(model, device) == "float16"
    return replace(model, dtype="bfloat16") if halved else model


def _weights(path: Path, component: str) -> Path:
    """A file that says in which types weights are kept: the first of a folder's component, or a single file."""
    return path if path.is_file() else weight_files(path / component)[0]


def _kept(file: Path) -> Iterator[str]:
    """The type of each weight of a file, as its header names it; none for GGUF, which are quantised."""
    from safetensors import safe_open

    if file.suffix != ".gguf":
        with safe_open(file, framework="np") as content:
            yield from (content.get_slice(name).get_dtype() for name in content.keys())  # noqa: SIM118
