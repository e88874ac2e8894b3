"""Published weights: safetensors, or PyTorch's `.pth`, which is read as data only."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from engine.atomic import replacing
from engine.errors import MissingError, NodeError
from engine.models import home
from engine.models.digest import Watch, digest

LEFT_OVER = (".*.part", ".tmp*")
"""What processes that are killed leave beside the weights: files of `replacing`, and those of safetensors' own."""


def read_weights(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        path: safetensors if so named, else a PyTorch file.
        what: which model the weights should be of, for messages.

    Raises:
        MissingError: the file doesn't exist, can't be read, or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, ImportError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise MissingError(f"{path} can't be read as {what}: {reason}") from error
    except UnpicklingError as error:
        raise MissingError(f"{path} holds more than weights, so it isn't read", hint="give safetensors") from error
    if not isinstance(state, dict) or not all(isinstance(weight, Tensor) for weight in state.values()):
        raise MissingError(f"{path} can't be read as {what}: it should hold tensors by name")
    return state


def converted(path: Path, what: str) -> Path:
    """A PyTorch file as safetensors, converted once per contents; raises MissingError as `read_weights` does."""
    if path.suffix == ".safetensors":
        return path
    try:
        contents = digest(path)
        kept = home() / "converted" / f"{contents.removeprefix('sha256:')}.safetensors"
    except OSError as error:
        raise MissingError(f"{path} can't be read as {what}: {error}") from error
    if not kept.is_file():
        watched = Watch(contents, lambda: digest(path), lambda: (path,))
        state = {name: weight.contiguous() for name, weight in read_weights(path, what).items()}
        if not watched.unchanged():
            raise NodeError(f"{path} was replaced while it was read", hint="run the workflow again")
        _keep(state, kept)
    return kept


def _keep(state: dict[str, Tensor], kept: Path) -> None:
    """Write weights, one process at a time: what is unfinished then was left by one that was killed, and goes."""
    from filelock import FileLock
    from safetensors.torch import save_file

    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.parent.with_suffix(".lock")):
        for name in LEFT_OVER:
            for stale in kept.parent.glob(name):
                stale.unlink(missing_ok=True)
        if not kept.is_file():
            with replacing(kept, durable=True) as part:
                save_file(state, part)
