"""Layer names as kohya's trainers write them: `lora_unet_down_blocks_1_attentions_0_…_to_q`.

Dots have become underscores there, so a name is parsed as a sequence of known module names.
SDXL files name blocks either as diffusers does or as Stability's own code (SGM) does: `input_blocks_4_1_…`.
"""

from __future__ import annotations

import re

from engine.errors import InputError
from nodes.diffusion.layers import layer_name

COMPONENTS = {
    "lora_unet": "unet",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
    "lora_te": "text_encoder",
    "lycoris": "unet",
    "oft_unet": "unet",
}
"""The components by the prefix of a name: `lora_te` in files for a single text encoder, the last two in files of other
trainers."""

_WORDS = (
    "down_blocks mid_block up_blocks attentions resnets downsamplers upsamplers transformer_blocks attn1 attn2 "
    "to_q to_k to_v to_out ff net proj proj_in proj_out conv conv1 conv2 conv_in conv_out conv_shortcut time_emb_proj "
    "time_embedding add_embedding linear_1 linear_2 norm norm1 norm2 norm3 norm_in conv_norm_out "
    "temporal_transformer_blocks spatial_res_block temporal_res_block time_mixer time_pos_embed ff_in "
    "input_blocks middle_block output_blocks in_layers out_layers emb_layers skip_connection op out time_embed "
    "label_emb text_model encoder layers self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 layer_norm1 layer_norm2 "
    "final_layer_norm text_projection"
)
_STEP = re.compile(rf"({'|'.join(sorted(_WORDS.split(), key=len, reverse=True))}|\d+)(?:_(?!$)|$)")

_SGM_RESNET = {
    ("in_layers", "0"): "norm1",
    ("out_layers", "0"): "norm2",
    ("in_layers", "2"): "conv1",
    ("out_layers", "3"): "conv2",
    ("emb_layers", "1"): "time_emb_proj",
    ("skip_connection",): "conv_shortcut",
}
_SGM_PARTS = 3
"""Parts of a level: two resnets and a downsampler, or three resnets."""


_SGM_ONLY = {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
"""Layers that diffusers (0.42) finds only by SGM's name."""


def kohya_name(layer: str) -> str:
    """`unet.mid_block.attentions.0.proj_in` → `lora_unet_mid_block_attentions_0_proj_in`.

    Raises InputError for a layer of a component that has no such names here, such as a transformer.
    """
    component, _, path = layer.partition(".")
    prefix = next((prefix for prefix, name in COMPONENTS.items() if name == component), None)
    if prefix is None:
        message = f"the layer {layer} has no name in kohya's format"
        raise InputError(message, input="format", hint="save the LoRA as peft")
    return f"{prefix}_{_SGM_ONLY.get(path, path).replace('.', '_')}"


def layer_of_kohya_name(name: str) -> str | None:
    """The inverse of `kohya_name`, for SGM's block names too; None if it isn't one."""
    prefix = next((prefix for prefix in COMPONENTS if name.startswith(f"{prefix}_")), None)
    if prefix is None:
        return None
    words = _split(name.removeprefix(f"{prefix}_"))
    path = _from_sgm(words) if words else None
    return layer_name(COMPONENTS[prefix], ".".join(path)) if path else None


def _split(name: str) -> list[str] | None:
    words = []
    position = 0
    while position < len(name):
        step = _STEP.match(name, position)
        if step is None:
            return None
        words.append(step[1])
        position = step.end()
    return words


def _from_sgm(words: list[str]) -> list[str] | None:
    """SGM's block names as diffusers'; others are left as they are. None where SGM has no such block."""
    match words:
        case ["input_blocks", "0", "0"]:
            return ["conv_in"]
        case ["out", "2"]:
            return ["conv_out"]
        case ["out", "0"]:
            return ["conv_norm_out"]
        case ["time_embed", ("0" | "2") as which]:
            return ["time_embedding", _linear(which)]
        case ["label_emb", "0", ("0" | "2") as which]:
            return ["add_embedding", _linear(which)]
        case ["input_blocks", number, *rest] if number.isdigit() and int(number) > 0:
            return _in_row("down_blocks", int(number) - 1, rest)
        case ["middle_block", "1", *rest]:
            return _within(["mid_block"], "1", "0", rest)
        case ["middle_block", ("0" | "2") as which, *rest]:
            return _within(["mid_block"], "0", "0" if which == "0" else "1", rest)
        case ["output_blocks", number, *rest] if number.isdigit():
            return _in_row("up_blocks", int(number), rest)
        case ["input_blocks" | "middle_block" | "output_blocks" | "out" | "time_embed" | "label_emb", *_]:
            return None
    return words


def _linear(which: str) -> str:
    return "linear_1" if which == "0" else "linear_2"


def _in_row(side: str, row: int, rest: list[str]) -> list[str] | None:
    """A layer in the down or up blocks, where SGM counts the parts of all levels in one row."""
    level, layer = str(row // _SGM_PARTS), str(row % _SGM_PARTS)
    match side, rest:
        case "down_blocks", ["0", "op"]:
            return [side, level, "downsamplers", "0", "conv"]
        case "up_blocks", ["1" | "2", "conv"]:
            return [side, level, "upsamplers", "0", "conv"]
        case _, [part, *inner]:
            return _within([side, level], part, layer, inner)
    return None


def _within(block: list[str], part: str, layer: str, inner: list[str]) -> list[str] | None:
    """A layer of a block's resnet (part 0) or transformer (part 1)."""
    if part == "1" and inner:
        return [*block, "attentions", layer, *inner]
    if part == "0" and tuple(inner) in _SGM_RESNET:
        return [*block, "resnets", layer, _SGM_RESNET[tuple(inner)]]
    return None
