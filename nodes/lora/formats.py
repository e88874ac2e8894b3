"""Writing LoRA files: kohya's, which ComfyUI, A1111 and diffusers read, and PEFT's, for diffusers.

`nodes.lora.reading` reads them.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import save

from nodes.diffusion.adapters import factors_of
from nodes.lora.header import WORDS_KEY
from nodes.lora.kohya import kohya_name

if TYPE_CHECKING:
    from torch import Tensor

    from engine.values import LoRA

Format = Literal["kohya", "peft"]


def write_lora(lora: LoRA, format: Format = "kohya") -> bytes:
    """The file of a LoRA, its strength folded in; equal LoRAs give equal bytes.

    Kohya's alpha is the rank, a scale of 1. Where layers differ in rank it is the largest of them in every layer, and
    `up` makes up for it: diffusers (0.42) ignores alphas that differ between layers. Raises InputError for a LoRA that
    has more than two matrices a layer.
    """
    factors = factors_of(lora)
    alpha = max(len(down) for _, down, _ in factors.values())
    tensors: dict[str, Tensor] = {}
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
    return _with_sorted_header(save(apart, _header(lora, alpha)))


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
