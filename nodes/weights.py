"""Published weights: safetensors, or PyTorch's `.pth`, which is read as data only."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from engine.atomic import replacing
from engine.errors import MissingError, NodeError
from engine.models import home
from engine.models.digest import Watch, digest

LEFT_OVER = (".*.part", ".tmp*")
"""What processes that are killed leave beside the weights: files of `replacing`, and those of safetensors' own."""
DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, ImportError, LookupError),
    *(ArithmeticError, AssertionError, AttributeError, TypeError, struct.error, BadZipFile),
)
"""What torch raises for files that are damaged, or made to look like weights."""
EXCESS = 4
"""How many times a file's bytes its tensors may take: those that share memory are there several times."""


def read_weights(path: Path, what: str, within: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        path: safetensors if so named, else a PyTorch file.
        what: which model the weights should be of, for messages.
        within: names under which a PyTorch file may hold the tensors; the first that it has counts.

    Raises:
        MissingError: the file doesn't exist, can't be read, or holds more than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix.lower() == ".safetensors":
            state: Any = load_file(path)
        else:
            _check_packing(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickles that others than torch have written
                state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        message = f"{path} is damaged or holds more than weights, so it isn't read"
        raise MissingError(message, hint="fetch it again, or give safetensors") from error
    except (SafetensorError, *DAMAGED) as error:
        reason = str(error).partition("\n")[0]
        raise MissingError(f"{path} can't be read as {what}: {reason}") from error
    if isinstance(state, dict):
        state = next((state[name] for name in within if isinstance(state.get(name), dict)), state)
    if not isinstance(state, dict) or not all(map(_is_plain, state, state.values())):
        raise MissingError(f"{path} can't be read as {what}: it should hold tensors by name")
    if sum(weight.nbytes for weight in state.values()) > EXCESS * path.stat().st_size:
        raise MissingError(f"{path} can't be read as {what}: its tensors are larger than the file")
    return state


def _check_packing(path: Path) -> None:
    """Raise ValueError if torch would unpack more of a file than it may hold. Files before torch 1.6 aren't packed."""
    if not is_zipfile(path):
        return
    with ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != ZIP_STORED for entry in entries):
        raise ValueError("it is compressed, as torch compresses none")
    if sum(entry.file_size for entry in entries) > EXCESS * path.stat().st_size:
        raise ValueError("its parts are larger than the file")


def _is_plain(name: object, weight: object) -> bool:
    """Whether this is a named tensor whose numbers are there, one after the other."""
    if not (isinstance(name, str) and isinstance(weight, Tensor)):
        return False
    return weight.layout is torch.strided and weight.device.type == "cpu" and not weight.is_quantized


def converted(path: Path, what: str, within: Sequence[str] = ()) -> Path:
    """A PyTorch file as safetensors, converted once per contents; arguments and errors are those of `read_weights`."""
    if path.suffix.lower() == ".safetensors":
        return path
    try:
        contents = digest(path)
        kept = home() / "converted" / f"{contents.removeprefix('sha256:')}.safetensors"
    except OSError as error:
        raise MissingError(f"{path} can't be read as {what}: {error}") from error
    if not kept.is_file():
        watched = Watch(contents, lambda: digest(path), lambda: (path,))
        # A copy of each, as safetensors refuses those that share memory.
        state = {
            name: weight.detach().clone(memory_format=torch.contiguous_format)
            for name, weight in read_weights(path, what, within).items()
        }
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
