"""LoRA files: safetensors in the spellings found in the wild ↔ our `LoRA` value.

Read: PEFT (`unet.….to_q.lora_A.weight`), the older diffusers spellings (`….to_q.lora.down.weight`,
`….processor.to_q_lora.down.weight`), kohya (`lora_unet_…_to_q.lora_down.weight`, `lora_te1_…`, with diffusers' or SGM's
block names). Written: kohya, which ComfyUI, A1111 and diffusers read, and PEFT, for diffusers.
"""

from __future__ import annotations

import json
import re
import struct
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.layers import layer_name
from nodes.lora.kohya import kohya_name, layer_of_kohya_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

T = TypeVar("T")
Format = Literal["kohya", "peft"]

WORDS_KEY = "kinograph.words"
"""Header entry: a JSON object of trigger words by vocabulary slot."""

UNSUPPORTED = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
}
"""Kinds of adapter other than LoRA, by a part of their keys."""

_DAMAGED = "the file may be damaged: save or fetch it again"
_MATRIX = re.compile(r"(?P<layer>.+?)[._]lora(_linear_layer)?[._](?P<side>down|up|A|B)(\.default)?\.weight")
_ALPHA = re.compile(r"(?P<layer>.+?)([._]lora)?\.alpha")
_TEXT_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def read_lora(path: Path) -> LoRA:
    """Read a LoRA file. Its name and trigger words come from the header.

    alpha/r is folded into `up`; where a file gives no alpha the scale is 1. Raises InputError for a file that isn't
    safetensors, holds another kind of adapter, or has an unknown key.
    """
    try:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except SafetensorError as error:
        message = f"{path.name} is not a safetensors file ({error})"
        raise InputError(message, input="file", hint="give a LoRA saved as safetensors") from error
    up, down, alphas = _sides(path.name, tensors)
    peft = _entry(path.name, header, "lora_adapter_metadata", dict[str, Any])
    for layer in up:
        _check_pair(path.name, layer, up[layer], down[layer])
        scale = _scale(layer, len(down[layer]), alphas, peft)
        up[layer] = up[layer] if scale == 1 else up[layer].float() * scale
    words = _entry(path.name, header, WORDS_KEY, dict[str, tuple[str, ...]])
    return LoRA(up, down, header.get("ss_output_name", "lora"), words)


def write_lora(lora: LoRA, format: Format = "kohya") -> bytes:
    """The file of a LoRA, its strength folded in; equal LoRAs give equal bytes.

    Kohya's alpha is the rank, a scale of 1. Where layers differ in rank it is the largest of them in every layer, and
    `up` makes up for it: diffusers (0.42) ignores alphas that differ between layers.
    """
    alpha = max(len(down) for down in lora.down.values())
    tensors: dict[str, Tensor] = {}
    for layer, down in lora.down.items():
        scale = lora.strength * (len(down) / alpha if format == "kohya" else 1)
        up = lora.up[layer] if scale == 1 else lora.up[layer].float() * scale
        if format == "kohya":
            name = kohya_name(layer)
            tensors |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
            tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
        else:
            tensors |= {f"{layer}.lora_B.weight": up, f"{layer}.lora_A.weight": down}
    # The library refuses views and tensors that share memory.
    apart = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    return _with_sorted_header(save(apart, _header(lora, alpha)))


def _entry(file: str, header: Mapping[str, str], key: str, kind: type[T]) -> T:
    """A JSON object in the header, empty where there is none."""
    try:
        return TypeAdapter(kind).validate_json(header.get(key, "{}"))
    except ValidationError as error:
        raise InputError(f"{file}: the header's {key} can't be parsed", input="file", hint=_DAMAGED) from error


def _sides(file: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    """The file's matrices and alphas by our layer names: up, down, alphas."""
    up: dict[str, Tensor] = {}
    down: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    stray = []
    for key, tensor in tensors.items():
        _check_kind(file, key)
        matrix, alpha = _MATRIX.fullmatch(key), _ALPHA.fullmatch(key)
        layer = _layer((matrix or alpha or {"layer": ""})["layer"])
        if layer is None:
            stray.append(key)
        elif matrix:
            (down if matrix["side"] in ("down", "A") else up)[layer] = tensor
        else:
            alphas[layer] = tensor.item()
    if stray:
        more = f" and {len(stray) - 3} more" if len(stray) > 3 else ""
        message = f"{file} has keys that belong to no known LoRA layer: {', '.join(stray[:3])}{more}"
        raise InputError(message, input="file", hint="give a LoRA for Stable Diffusion XL")
    if not up and not down:
        raise InputError(f"{file} holds no LoRA layers", input="file", hint="give a LoRA")
    lone = sorted(up.keys() ^ down.keys())
    if lone:
        raise InputError(f"{file} has only one of the two matrices of {lone[0]}", input="file", hint=_DAMAGED)
    return up, down, alphas


def _check_kind(file: str, key: str) -> None:
    for mark, kind in UNSUPPORTED.items():
        if mark in key:
            hint = "convert it to a plain LoRA with the tool that made it"
            raise InputError(f"{file} is a {kind}, not a LoRA (key {key})", input="file", hint=hint)


def _check_pair(file: str, layer: str, up: Tensor, down: Tensor) -> None:
    alike = up.ndim == down.ndim and up.ndim in (2, 4)
    if not (alike and up.shape[1] == down.shape[0] > 0 and up.shape[2:].numel() == 1):
        message = f"{file}: the matrices of {layer}, {tuple(up.shape)} and {tuple(down.shape)}, do not multiply"
        raise InputError(message, input="file", hint=_DAMAGED)
    if not (torch.isfinite(up).all() and torch.isfinite(down).all()):
        raise InputError(f"{file}: {layer} holds numbers that are not finite", input="file", hint=_DAMAGED)


def _layer(stem: str) -> str | None:
    """Our name for a key's layer, or None where there is no such layer."""
    if stem.startswith("lora_"):
        return layer_of_kohya_name(stem)
    component, _, path = stem.partition(".")
    if component not in ("unet", "text_encoder", "text_encoder_2"):
        return None
    path = path.replace(".processor.", ".")
    parent, _, last = path.rpartition(".")
    if parent.endswith("self_attn"):
        path = f"{parent}.{_TEXT_PROJECTIONS.get(last, last)}"
    elif last == "to_out":
        path = f"{path}.0"
    return layer_name(component, path)


def _scale(layer: str, rank: int, alphas: Mapping[str, float], peft: Mapping[str, Any]) -> float:
    """alpha / rank: from the file's tensors, from the PEFT configuration in its header, or 1."""
    if layer in alphas:
        return alphas[layer] / rank
    component, _, path = layer.partition(".")
    if f"{component}.lora_alpha" not in peft:
        return 1.0
    patterns: Mapping[str, float] = peft.get(f"{component}.alpha_pattern") or {}
    matching = (alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", path))
    alpha = next(matching, peft[f"{component}.lora_alpha"])
    return float(alpha / (rank**0.5 if peft.get(f"{component}.use_rslora") else rank))


def _header(lora: LoRA, alpha: int) -> dict[str, str]:
    """The metadata that tools read from a LoRA, and our trigger words."""
    ranks = {len(down) for down in lora.down.values()}
    rank = str(alpha) if len(ranks) == 1 else "Dynamic"
    convolutions = any(down.ndim == 4 for down in lora.down.values())
    return {
        "format": "pt",
        "ss_v2": "False",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": str(alpha),
        "ss_network_args": json.dumps({"conv_dim": rank, "conv_alpha": str(alpha)} if convolutions else {}),
        "ss_output_name": lora.name,
        WORDS_KEY: json.dumps(dict(lora.words), ensure_ascii=False),
    }


def _with_sorted_header(file: bytes) -> bytes:
    """The same safetensors file with its metadata sorted, which the library writes in random order."""
    (size,) = struct.unpack_from("<Q", file)
    header = json.loads(file[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + file[8 + size :]
