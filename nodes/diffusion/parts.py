"""Components in files of their own, in place of those of a model's folder or file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import InputError
from nodes.diffusion.checkpoints import check_scales, read_header
from nodes.diffusion.components import check_complete, load_weights

if TYPE_CHECKING:
    from engine.values import ModelReference

SUFFIXES = (".safetensors", ".gguf")


def check_part(source: str, path: Path, input: str) -> None:
    """Refuse what can't be a component: a file in another form, or a folder without settings; raises InputError."""
    if path.is_dir():
        if not (path / "config.json").is_file():
            hint = "give a folder with a config.json and weights, or a file"
            raise InputError(f"{source} holds no single component", input=input, hint=hint)
    elif path.suffix not in SUFFIXES:
        hint = "convert it to safetensors: pickles can run code"
        raise InputError(f"{source} is neither in safetensors nor GGUF", input=input, hint=hint)
    elif path.suffix == ".safetensors":
        check_scales(source, read_header(source, path))


def load_part(name: str, kind: Any, part: ModelReference, settings: Mapping[str, Any]) -> torch.nn.Module:
    """A component of diffusers' class `kind` from its file, or its folder, in host memory.

    The names of its weights may be diffusers' or its makers'. Quantised weights of a GGUF file stay as they are, and
    are computed with in `part.dtype`.

    Args:
        settings: of the component that it stands in for; a folder has its own.

    Raises ValueError, OSError, or KeyError if it doesn't fit.
    """
    path, dtype = Path(part.path), getattr(torch, part.dtype)
    if path.is_dir():
        return load_weights(name, kind, path, part.dtype)  # type: ignore[no-any-return]  # diffusers has no types
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(dict(settings)))
        options = {"dtype": dtype, **_quantised(path, dtype)}
        try:
            module = kind.from_single_file(str(path), config=folder, subfolder="", **options)
        except (NotImplementedError, AttributeError, IndexError) as error:  # diffusers', where weights are missing
            raise ValueError(f"it doesn't hold the whole {name} of such a model") from error
    check_complete(name, [weight for weight, value in module.state_dict().items() if value.is_meta])
    return module  # type: ignore[no-any-return]


def _quantised(path: Path, dtype: torch.dtype) -> dict[str, Any]:
    if path.suffix != ".gguf":
        return {}
    from diffusers import GGUFQuantizationConfig

    return {"quantization_config": GGUFQuantizationConfig(compute_dtype=dtype)}
