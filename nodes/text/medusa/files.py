"""Files of Medusa heads ↔ our `MedusaHeads` value.

Head `i` of a file, from 0, has for each layer `l` the tensors `i.l.linear.weight` (h, h) and `i.l.linear.bias` (h), and
then its output matrix `i.L.weight` (n, h), as FasterDecoding/Medusa writes them to `medusa_lm_head.pt` and
text-generation-inference reads them from `medusa_lm_head.safetensors`; some put `medusa_head.`, `medusa_heads.` or
`heads.` before. Without output matrices the heads use the model's own. A `config.json` beside the file may count heads
and layers. Our own files, safetensors, have the same names, and what else a value holds in their header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn, TypeVar
from zipfile import ZipFile, is_zipfile

import torch
from pydantic import BaseModel, ValidationError
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from engine.errors import InputError
from engine.values import MedusaHeads

HEADER = "kinograph.medusa"
"""Header entry of our own files: JSON of `Header`."""
TOKENS = "tokens"
"""The tensor of the tokens that the heads choose from, in our own files."""
NAMES = ("medusa_lm_head.safetensors", "medusa_lm_head.pt")
"""What the file is called in a published folder; the first that is there is read."""

_KEY = re.compile(
    r"(?:module\.)?(?:(?:medusa_heads?|heads)\.)?"
    r"(?P<head>[0-9]{1,4})\.(?P<layer>[0-9]{1,4})\.(?P<part>linear\.weight|linear\.bias|weight)"
)
_DAMAGED = "the file may be damaged: fetch or train it again"
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Header(BaseModel):
    """What our own files say of heads in their header."""

    model: str
    accuracies: tuple[tuple[float, ...], ...]


M = TypeVar("M", bound=BaseModel)


class Config(BaseModel):
    """What a published `config.json` says of heads."""

    medusa_num_heads: int | None = None
    medusa_num_layers: int | None = None


def read_heads(path: Path) -> MedusaHeads:
    """Read heads from a file, or from a folder with one.

    Raises:
        InputError: there is no such file, it can't be read, or it doesn't hold whole heads.
    """
    file = _file_of(path)
    tensors, header = _safetensors(file) if file.suffix == ".safetensors" else _pytorch(file)
    _check_tensors(file, tensors)
    known = _parsed(Header, header, f"{file.name}: the header's {HEADER}") if header is not None else None
    tokens = tensors.pop(TOKENS, None)
    parts = _parts(file.name, tensors)
    heads, layers = 1 + max(head for head, _, _ in parts), _layers(parts)
    config = _config(file.parent)
    for what, count, said in (("heads", heads, config.medusa_num_heads), ("layers", layers, config.medusa_num_layers)):
        if said is not None and said > count:
            _fail(f"{file.name} holds {count} {what}, and config.json beside it says {said}")
    weights = _stacked(file.name, parts, heads, [(layer, "linear.weight") for layer in range(layers)])
    biases = _stacked(file.name, parts, heads, [(layer, "linear.bias") for layer in range(layers)])
    outputs = _stacked(file.name, parts, heads, [(layers, "weight")]) if (0, layers, "weight") in parts else None
    if parts:
        head, layer, part = min(parts)
        _fail(f"{file.name} has more than the layers of its heads: {head}.{layer}.{part}")
    _check_sizes(file.name, weights, biases, outputs, tokens)
    return MedusaHeads(
        weights,
        biases,
        None if outputs is None else outputs[:, 0],
        tokens,
        known.accuracies if known else (),
        known.model if known else "",
    )


def write_heads(heads: MedusaHeads) -> bytes:
    """The file of heads, safetensors; equal heads give equal bytes."""
    count, layers = heads.weights.shape[:2]
    tensors = {}
    for head in range(count):
        for layer in range(layers):
            tensors[f"{head}.{layer}.linear.weight"] = heads.weights[head, layer]
            tensors[f"{head}.{layer}.linear.bias"] = heads.biases[head, layer]
        if heads.outputs is not None:
            tensors[f"{head}.{layers}.weight"] = heads.outputs[head]
    if heads.tokens is not None:
        tensors[TOKENS] = heads.tokens
    # The library refuses views that share memory, and writes several entries of a header in random order.
    apart = {key: tensor.cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    return bytes(save(apart, {HEADER: Header(model=heads.model, accuracies=heads.accuracies).model_dump_json()}))


def _fail(message: str, hint: str = _DAMAGED) -> NoReturn:
    raise InputError(message, input="file", hint=hint)


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [path / name for name in NAMES if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
    if not files or (files[0].name not in NAMES and len(files) > 1):
        _fail(f"the folder {path.name} has no {NAMES[0]}, and {len(files)} safetensors files", "give the file itself")
    return files[0]


def _safetensors(file: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file by name, and our entry of its header if there is one."""
    try:
        with safe_open(file, "pt") as opened:
            header = (opened.metadata() or {}).get(HEADER)
            return {key: opened.get_tensor(key) for key in sorted(opened.keys())}, header
    except Exception as error:  # the library's own, and what torch says of a precision or size that it doesn't have
        message = f"{file.name} is not a safetensors file ({_reason(error)})"
        raise InputError(message, input="file", hint="give Medusa heads saved as safetensors") from error


def _pytorch(file: Path) -> tuple[dict[str, Tensor], None]:
    hint = "give medusa_lm_head.pt or safetensors"
    try:
        if is_zipfile(file):
            _check_packing(file)
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        message = f"{file.name} holds more than weights, or isn't PyTorch's, so it isn't read"
        raise InputError(message, input="file", hint="give safetensors") from error
    except InputError:
        raise
    except Exception as error:  # unpickling foreign bytes may raise anything
        reason = _reason(error) if isinstance(error, OSError | RuntimeError) else "it isn't a file of PyTorch's"
        raise InputError(f"{file.name} can't be read as Medusa heads: {reason}", input="file", hint=hint) from error
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        _fail(f"{file.name} can't be read as Medusa heads: it should hold tensors by name", hint)
    return dict(state), None


def _reason(error: Exception) -> str:
    """What an exception says, in a line."""
    return _short(str(error).partition("\n")[0], 200) or type(error).__name__


def _short(text: str, most: int = 80) -> str:
    """The start of a foreign text, without characters that a line can't show."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:most])
    return shown if len(text) <= most else f"{shown}…"


def _check_packing(file: Path) -> None:
    """Refuse a zip file that unpacks to more than it is long; PyTorch packs without compressing."""
    with ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > file.stat().st_size:
        _fail(f"{file.name} is {file.stat().st_size:,} bytes long, and its parts {unpacked:,}", "give safetensors")


def _check_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that aren't plain numbers in host memory, or that repeat what the file has once.

    A view may be of any size, and stacking it would fill the memory.
    """
    for key, tensor in tensors.items():
        what = f"{file.name}: the tensor {_short(key)}"
        if tensor.is_nested or tensor.layout != torch.strided or tensor.device.type != "cpu":
            _fail(f"{what} isn't a dense one with its numbers in the file", "save dense tensors from the CPU")
        if tensor.dtype not in ((torch.int64,) if key == TOKENS else _PRECISIONS):
            wanted = "int64" if key == TOKENS else "float16, bfloat16, float32 or float64"
            _fail(f"{what} is {str(tensor.dtype).removeprefix('torch.')}, not {wanted}", f"save it as {wanted}")
    claimed, length = sum(tensor.nbytes for tensor in tensors.values()), file.stat().st_size
    if claimed > length:
        hint = "save each tensor with numbers of its own"
        _fail(f"{file.name} is {length:,} bytes long, and its tensors take {claimed:,}", hint)


def _parsed(kind: type[M], text: str, what: str) -> M:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{what} can't be parsed", input="file", hint=_DAMAGED) from error


def _config(folder: Path) -> Config:
    file = folder / "config.json"
    if not file.is_file():
        return Config()
    return _parsed(Config, file.read_text(encoding="utf-8", errors="replace"), f"{file.name} beside the heads")


Parts = dict[tuple[int, int, str], Tensor]
"""A file's tensors by head, layer and part."""


def _parts(file: str, tensors: Mapping[str, Tensor]) -> Parts:
    parts: Parts = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            _fail(f"{file} has a tensor that belongs to no Medusa head: {_short(key)}", "give Medusa heads alone")
        head, layer = int(match["head"]), int(match["layer"])
        if max(head, layer) >= len(tensors):
            _fail(f"{file} has a tensor {key}, and with {len(tensors)} tensors it can't hold all before that")
        parts[head, layer, match["part"]] = tensor
    if not any(part != "weight" for _, _, part in parts):
        _fail(f"{file} holds no layers of Medusa heads", "give a file of Medusa heads")
    return parts


def _layers(parts: Parts) -> int:
    return 1 + max(layer for _, layer, part in parts if part != "weight")


def _stacked(file: str, parts: Parts, heads: int, wanted: list[tuple[int, str]]) -> Tensor:
    """(heads, len(wanted), …) of the parts of each head, which are taken out of `parts`."""
    rows = []
    for head in range(heads):
        for layer, part in wanted:
            if (head, layer, part) not in parts:
                _fail(f"{file} lacks {head}.{layer}.{part}")
            rows.append(parts.pop((head, layer, part)))
    odd = next((row for row in rows if row.shape != rows[0].shape or row.dtype != rows[0].dtype), None)
    if odd is not None:
        sizes = f"{tuple(rows[0].shape)} {rows[0].dtype} and {tuple(odd.shape)} {odd.dtype}"
        _fail(f"{file}: the {wanted[0][1]} of its heads differ in size: {sizes}")
    return torch.stack(rows).reshape(heads, len(wanted), *rows[0].shape)


def _check_sizes(file: str, weights: Tensor, biases: Tensor, outputs: Tensor | None, tokens: Tensor | None) -> None:
    """Refuse tensors (K, L, h, h), (K, L, h), (K, 1, n, h) and (n,) that don't fit each other."""
    shape = tuple(weights.shape)
    if len(shape) != 4 or shape[2] != shape[3] or tuple(biases.shape) != shape[:3]:
        _fail(f"{file}: a layer's weight {shape[2:]} and bias {tuple(biases.shape[2:])} don't make a square layer")
    if outputs is not None and (outputs.ndim != 4 or outputs.shape[-1] != shape[3]):
        _fail(f"{file}: an output matrix {tuple(outputs.shape[2:])} doesn't read what is {shape[3]} wide")
    if tokens is not None:
        rising = tokens.ndim == 1 and tokens.dtype == torch.int64 and len(tokens) and bool((tokens.diff() > 0).all())
        if not rising or int(tokens[0]) < 0:
            _fail(f"{file}: {TOKENS} aren't token numbers in rising order")
        if outputs is not None and outputs.shape[2] != len(tokens):
            _fail(f"{file}: its output matrices choose from {outputs.shape[2]} tokens, and {TOKENS} are {len(tokens)}")
    if not all(bool(tensor.isfinite().all()) for tensor in (weights, biases, outputs) if tensor is not None):
        _fail(f"{file} holds numbers that are not finite")
