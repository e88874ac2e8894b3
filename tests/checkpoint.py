"""Pipelines written as the single files that other programs use, in the names of the models' makers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def save_checkpoint(
    pipeline: DiffusionPipeline,
    file: Path,
    *,
    markers: Mapping[str, torch.Tensor] | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """For a UNet with one layer per block and two levels, and a VAE with attention in the middle only.

    SDXL's two text encoders; of others OpenCLIP's if the activation is its "gelu", as in Stable Diffusion 2.
    """
    tensors = {f"model.diffusion_model.{name}": t for name, t in _renamed(pipeline.unet, _UNET).items()}
    tensors |= {f"first_stage_model.{name}": t for name, t in _renamed(pipeline.vae, _VAE).items()}
    first = {name.removeprefix("text_model."): t for name, t in pipeline.text_encoder.state_dict().items()}
    if "text_encoder_2" in pipeline.components:
        tensors |= {f"conditioner.embedders.0.transformer.text_model.{name}": t for name, t in first.items()}
        second = _open_clip(pipeline.text_encoder_2)
        tensors |= {f"conditioner.embedders.1.model.{name}": t for name, t in second.items()}
    elif pipeline.text_encoder.config.hidden_act == "gelu":
        tensors |= {f"cond_stage_model.model.{name}": t for name, t in _open_clip(pipeline.text_encoder).items()}
    else:
        tensors |= {f"cond_stage_model.transformer.text_model.{name}": t for name, t in first.items()}
    tensors |= markers or {}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata)


_RESNET = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)
# Layer names by pattern; every pattern that matches is replaced, in this order.
_UNET = (
    *((rf"^(.*resnets\.\d+){pattern}", rf"\1{new}") for pattern, new in _RESNET),
    (r"^time_embedding\.linear_1", "time_embed.0"),
    (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"),
    (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"),
    (r"^conv_norm_out", "out.0"),
    (r"^conv_out", "out.2"),
    (r"^down_blocks\.0\.resnets\.0", "input_blocks.1.0"),
    (r"^down_blocks\.0\.downsamplers\.0\.conv", "input_blocks.2.0.op"),
    (r"^down_blocks\.1\.resnets\.0", "input_blocks.3.0"),
    (r"^down_blocks\.1\.attentions\.0", "input_blocks.3.1"),
    (r"^mid_block\.resnets\.0", "middle_block.0"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
    (r"^mid_block\.resnets\.1", "middle_block.2"),
    (r"^up_blocks\.0\.resnets\.(\d)", r"output_blocks.\1.0"),
    (r"^up_blocks\.0\.attentions\.(\d)", r"output_blocks.\1.1"),
    (r"^up_blocks\.0\.upsamplers\.0\.conv", "output_blocks.1.2.conv"),
    (r"^up_blocks\.1\.resnets\.0", "output_blocks.2.0"),
    (r"^up_blocks\.1\.resnets\.1", "output_blocks.3.0"),
)
_VAE = (
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.0\.", "up_blocks.last."),
    (r"up_blocks\.2\.", "up_blocks.0."),
    (r"up_blocks\.last\.", "up_blocks.2."),
    (r"up_blocks\.(\d)\.resnets\.(\d)", r"up.\1.block.\2"),
    (r"up_blocks\.(\d)\.upsamplers\.0", r"up.\1.upsample"),
    (r"conv_norm_out", "norm_out"),
)


def _renamed(module: torch.nn.Module, names: tuple[tuple[str, str], ...]) -> Tensors:
    renamed: Tensors = {}
    for name, tensor in module.state_dict().items():
        for pattern, new in names:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    return renamed


def _open_clip(encoder: torch.nn.Module) -> Tensors:
    """OpenCLIP keeps the projections of queries, keys and values in one matrix, and the text projection transposed."""
    state = {name.removeprefix("text_model."): t for name, t in encoder.state_dict().items()}
    projection = state.get("text_projection.weight")
    tensors = {} if projection is None else {"text_projection": projection.T}
    tensors |= {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    for layer in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            parts = [state[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
            tensors[f"{new}.attn.out_proj.{kind}"] = state[f"{old}.self_attn.out_proj.{kind}"]
            for theirs, ours in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")):
                tensors[f"{new}.{ours}.{kind}"] = state[f"{old}.{theirs}.{kind}"]
            for theirs, ours in (("fc1", "c_fc"), ("fc2", "c_proj")):
                tensors[f"{new}.mlp.{ours}.{kind}"] = state[f"{old}.mlp.{theirs}.{kind}"]
    return tensors
