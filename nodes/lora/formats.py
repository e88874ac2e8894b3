"""Writing LoRA files: kohya's, which ComfyUI, A1111 and diffusers read, and PEFT's, for diffusers.

`nodes.lora.reading` reads them.
"""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import save

from engine.errors import InputError
from nodes.diffusion.adapters import factors_of
from nodes.diffusion.bases import base_of_widths
from nodes.lora.header import SDXL, SVD, WORDS_KEY
from nodes.lora.kohya import kohya_name

if TYPE_CHECKING:
    from torch import Tensor

    from engine.values import LoRA

Format = Literal["kohya", "peft"]
_VERSIONS = {SDXL: "sdxl_base_v1-0", SVD: "svd", "Stable Diffusion 1.x": "sd_v1", "Stable Diffusion 2.x": "sd_v2"}
"""What headers call the base models that widths of layers tell; others aren't said."""
DORA = frozenset({"up", "down", "row_norms"})
"""The parts of a layer that is a DoRA as most trainers make it."""


def write_lora(lora: LoRA, format: Format = "kohya") -> bytes:
    """The file of a LoRA, its strength folded in; equal LoRAs give equal bytes.

    Kohya's alpha is the rank, a scale of 1. Where layers differ in rank it is the largest of them in every layer, and
    `up` makes up for it: diffusers (0.42) ignores alphas that differ between layers. Layers may be DoRAs whose rows
    have lengths; raises InputError for updates of other forms, for DoRAs at another strength than 1, which no lengths
    express, for layers that kohya's format has no names for, and where there are none at all.
    """
    if not lora.layers:
        raise InputError(f"the LoRA {lora.name!r} has no layers to save", input="lora", hint="give one that has")
    plain, norms = _split(lora)
    factors = factors_of(plain)
    alpha = max(len(down) for _, down, _ in factors.values())
    tensors: dict[str, Tensor] = {}
    for layer, lengths in norms.items():
        if format == "kohya":
            # (out, 1): a column says that rows are scaled.
            column = lengths.view(-1, *(1 for _ in factors[layer].down.shape[1:]))
            tensors[f"{kohya_name(layer)}.dora_scale"] = column
        else:
            tensors[f"{layer}.lora_magnitude_vector"] = lengths
    for layer, (own, down, _) in factors.items():
        scale = len(down) / alpha if format == "kohya" else 1
        up = own if scale == 1 else own.float() * scale
        if format == "kohya":
            name = kohya_name(layer)
            tensors |= {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
            tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
        else:
            tensors |= {f"{layer}.lora_B.weight": up, f"{layer}.lora_A.weight": down}
    # The library refuses views and tensors that share memory.
    apart = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    return _with_sorted_header(save(apart, _header(plain, alpha)))


def _split(lora: LoRA) -> tuple[LoRA, dict[str, Tensor]]:
    """A LoRA with the matrices of all layers, and the lengths of rows of those that are DoRAs."""
    doras = {name: parts for name, parts in lora.other.items() if parts.keys() == DORA and name not in lora.up}
    if not doras:
        return lora, {}
    if lora.strength != 1:
        raise InputError(
            f"the LoRA {lora.name!r} is a DoRA, whose strength {lora.strength:g} can't be folded into a file",
            hint="save it at a strength of 1, and apply it at another",
        )
    up = {name: parts["up"] for name, parts in doras.items()}
    down = {name: parts["down"] for name, parts in doras.items()}
    rest = {name: parts for name, parts in lora.other.items() if name not in doras}
    plain = replace(lora, up={**lora.up, **up}, down={**lora.down, **down}, other=rest)
    return plain, {name: parts["row_norms"] for name, parts in doras.items()}


def _header(lora: LoRA, alpha: int) -> dict[str, str]:
    """The metadata that tools read from a LoRA, and our trigger words."""
    ranks = {len(down) for down in lora.down.values()}
    rank = str(alpha) if len(ranks) == 1 else "Dynamic"
    convolutions = any(down.ndim == 4 for down in lora.down.values())
    base = _VERSIONS.get(base_of_widths({name: down.shape[1] for name, down in lora.down.items()}) or "")
    return {
        "format": "pt",
        "ss_v2": str(base == "sd_v2"),
        **({"ss_base_model_version": base} if base else {}),
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
