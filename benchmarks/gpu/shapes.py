"""Models of the published shapes with random weights in fp16: what they compute is noise, what they cost is real.

The shapes are those in the published `config.json` files of stabilityai/stable-diffusion-xl-base-1.0,
stabilityai/stable-video-diffusion-img2vid, meta-llama/Llama-3.2-1B and meta-llama/Llama-3.1-8B. Tokenizers and
schedules cost nothing, and are the sprite models'.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 4096}


def _llama(width: int, inner: int, layers: int, heads: int, groups: int, *, tied: bool, words: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "vocab_size": words}
    attention = {"num_attention_heads": heads, "num_key_value_heads": groups}
    return {**sizes, **attention, "tie_word_embeddings": tied, **_TOKENS}


LLAMA = {
    "small": _llama(64, 256, 2, 2, 2, tied=True, words=259),
    "1B": _llama(2048, 8192, 16, 32, 8, tied=True, words=128256),
    "8B": _llama(4096, 14336, 32, 32, 8, tied=False, words=128256),
}
"""Settings of Llamas by their parameters."""
SPRITE = Path(__file__).parents[2] / "models" / "sprite"


def save_sdxl(folder: Path, device: str, *, small: bool) -> Path:
    """A StableDiffusionXLPipeline in diffusers' layout, 7 GB."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    width, depths = (32, (1, 1, 1)) if small else (320, (1, 2, 10))
    tokenizer = CLIPTokenizer.from_pretrained(SPRITE / "sdxl" / "tokenizer")
    first, second = (_text(64, 2, 2), _text(64, 2, 2)) if small else (_text(768, 12, 12), _text(1280, 32, 20))
    pooled = second.projection_dim
    unet = _made(
        UNet2DConditionModel,
        device,
        sample_size=16 if small else 128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(width, 2 * width, 4 * width),
        attention_head_dim=(1, 2, 4) if small else (5, 10, 20),
        transformer_layers_per_block=depths,
        cross_attention_dim=first.hidden_size + second.hidden_size,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + pooled,
    )
    vae = _made(AutoencoderKL, device, **_autoencoder(small), sample_size=1024, scaling_factor=0.13025)
    StableDiffusionXLPipeline(
        unet=unet,
        vae=vae,
        text_encoder=_made(CLIPTextModel, device, first),
        text_encoder_2=_made(CLIPTextModelWithProjection, device, second),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler.from_pretrained(SPRITE / "sdxl" / "scheduler"),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def save_svd(folder: Path, device: str, *, small: bool) -> Path:
    """A StableVideoDiffusionPipeline in diffusers' layout, 4.5 GB."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    picture = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    shape: dict[str, Any] = {}
    if small:
        picture = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        shape = {"block_out_channels": (32, 64, 64, 64), "num_attention_heads": (1, 2, 2, 2), "layers_per_block": 1}
        shape |= {"addition_time_embed_dim": 32, "projection_class_embeddings_input_dim": 96, "cross_attention_dim": 64}
    projected = 64 if small else 1024
    vision = CLIPVisionConfig(**picture, image_size=224, patch_size=14, projection_dim=projected, hidden_act="gelu")
    decoder = {name: value for name, value in _autoencoder(small).items() if name != "up_block_types"}
    StableVideoDiffusionPipeline(
        unet=_made(UNetSpatioTemporalConditionModel, device, **shape, sample_size=96, num_frames=25),
        vae=_made(AutoencoderKLTemporalDecoder, device, **decoder, sample_size=768, scaling_factor=0.18215),
        image_encoder=_made(CLIPVisionModelWithProjection, device, vision),
        feature_extractor=CLIPImageProcessorPil(),
        scheduler=EulerDiscreteScheduler.from_pretrained(SPRITE / "svd" / "scheduler"),
    ).save_pretrained(folder)
    return folder


def save_llama(folder: Path, device: str, *, small: bool) -> Path:
    """A Llama of the shape of the published one with a billion parameters, which reads and writes bytes; 2 GB."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<s>", "</s>", *letters]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    fast.save_pretrained(folder)
    shape = "small" if small else "1B"
    vocabulary = {"vocab_size": len(tokens)} if small else {}
    _made(LlamaForCausalLM, device, LlamaConfig(**LLAMA[shape] | vocabulary)).save_pretrained(folder)
    return folder


def llama(device: str, shape: str) -> torch.nn.Module:
    """A Llama of a shape in `LLAMA`, in bfloat16 on the device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = _made(LlamaForCausalLM, device, LlamaConfig(**LLAMA[shape]), dtype=torch.bfloat16)
    return made.to(device)


def _autoencoder(small: bool) -> dict[str, Any]:
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (32, 32, 32, 32) if small else (128, 256, 512, 512),
        "layers_per_block": 1 if small else 2,
        "latent_channels": 4,
    }


def _text(width: int, layers: int, heads: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
    )


def _made(
    kind: Callable[..., torch.nn.Module], device: str, *args: Any, dtype: torch.dtype = torch.float16, **settings: Any
) -> torch.nn.Module:
    """A module in host memory, whose weights are drawn on the device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return kind(*args, **settings).eval().to("cpu")
    finally:
        torch.set_default_dtype(before)
