"""A node's outputs as one safetensors file: arrays as they are, everything else as JSON in the header.

Every array has an xxh3 checksum in the header, and so has the header's text, to detect files that are incomplete or
were altered. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file
from xxhash import xxh3_64_hexdigest

from engine.spec import Outputs
from engine.values import Value

if TYPE_CHECKING:
    import numpy as np

    from engine.values import Array


class CorruptFileError(Exception):
    """The file does not hold what was written."""


def storable(outputs: Outputs) -> bool:
    """Whether `save` can take these."""
    return all(
        storable(value)
        if isinstance(value, tuple)
        else value.storable
        if isinstance(value, Value)
        else _is_plain(value)
        for value in outputs
    )


class Stored(NamedTuple):
    """What a file holds."""

    outputs: Outputs
    seconds: float
    """What computing them took."""
    restore: float
    """What computing them took, or would have taken, with the sources that weren't held."""


def save(path: Path, outputs: Outputs, seconds: float, restore: float) -> None:
    """Write a `Stored`, without copying arrays that lie in host memory; raises OSError if it can't be written."""
    arrays: dict[str, _Raw] = {}
    described = [_described(str(index), value, arrays) for index, value in enumerate(outputs)]
    text = json.dumps({"outputs": described, "seconds": seconds, "restore": restore})
    specs = {name: raw.spec() for name, raw in arrays.items()}
    try:
        serialize_file(specs, path, {"kinograph": text, "xxh3": xxh3_64_hexdigest(text.encode())})
    except SafetensorError as error:  # it tells the system's reason in its text alone
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise


def _described(name: str, value: Any, arrays: dict[str, _Raw]) -> dict[str, Any]:
    """The header's description of a value; its arrays are added to `arrays`, under names that begin with `name`."""
    if isinstance(value, tuple):
        return {"list": [_described(f"{name}.{index}", item, arrays) for index, item in enumerate(value)]}
    if not isinstance(value, Value):
        return {"constant": value}
    tensors, metadata = value.to_tensors()
    own = {f"{name}.{part}": _Raw.of(array) for part, array in tensors.items()}
    arrays |= own
    checksums = {part: raw.checksum() for part, raw in own.items()}
    return {"type": _type_name(type(value)), "metadata": metadata, "checksums": checksums}


def load(path: Path) -> Stored:
    """Load what `save` wrote; torch tensors are memory-mapped, not read.

    Raises:
        CorruptFileError: the file does not hold what was written.
        FileNotFoundError: the file doesn't exist.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
        text = header.get("kinograph", "")
        if xxh3_64_hexdigest(text.encode()) != header.get("xxh3"):
            raise CorruptFileError("its header was altered")
        content = json.loads(text)
        with ExitStack() as stack:
            opened = cache(lambda framework: stack.enter_context(safe_open(path, framework=framework)))
            described = enumerate(content["outputs"])
            outputs = tuple(_output(opened, str(index), about) for index, about in described)
            seconds = content["seconds"]
            return Stored(outputs, seconds, content.get("restore", seconds))  # version 0.1.0 didn't write it
    except SafetensorError as error:
        raise CorruptFileError(str(error)) from error


def _output(opened: Callable[[str], Any], name: str, about: Mapping[str, Any]) -> Any:
    if "constant" in about:
        return about["constant"]
    if "list" in about:
        return tuple(_output(opened, f"{name}.{index}", item) for index, item in enumerate(about["list"]))
    kind = _type_named(about["type"])
    tensors = {}
    for part, checksum in about["checksums"].items():
        array = opened(kind.framework).get_tensor(part)
        if _Raw.of(array).checksum() != checksum:
            raise CorruptFileError(f"{part} was altered")
        tensors[part.removeprefix(f"{name}.")] = array
    return kind.from_tensors(tensors, about["metadata"])


@dataclass(frozen=True, slots=True)
class _Raw:
    """An array as bytes in host memory."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray[Any, np.dtype[np.uint8]]

    @classmethod
    def of(cls, array: Array) -> _Raw:
        import numpy as np

        if isinstance(array, np.ndarray):
            return cls(array.dtype.name, array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        import torch

        data = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return cls(str(array.dtype).removeprefix("torch."), tuple(array.shape), data)

    def checksum(self) -> str:
        return f"{self.dtype} {self.shape} {xxh3_64_hexdigest(self.data.data)}"

    def spec(self) -> TensorSpec:
        return TensorSpec(dtype=self.dtype, shape=self.shape, data_ptr=self.data.ctypes.data, data_len=self.data.nbytes)


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bool)


def _type_name(kind: type[Value]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _type_named(name: str) -> type[Value]:
    """The value class of that name; its module has been imported by the kind of node whose outputs these are."""
    module, _, qualname = name.partition(":")
    kind = getattr(sys.modules.get(module), qualname, None)
    if not (isinstance(kind, type) and issubclass(kind, Value)):
        raise CorruptFileError(f"there is no value class {name}")
    return kind
