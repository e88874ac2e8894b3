"""Tiny random-weight pipelines in the real diffusers classes, laid out like `models/sprite`.

Pictures of 64×64, latents of 16×16×4 (a VAE factor of 4), videos of 14 frames. Nothing is downloaded.
The pipelines are shared by all tests of a session: leave them as you found them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline, StableVideoDiffusionPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = ("a", "red", "blue", "snail", "robot", "on", "grass", "sand", "in", "watercolour", "style", ",")


@cache
def tiny_sdxl() -> StableDiffusionXLPipeline:
    """A StableDiffusionXLPipeline of about 0.3 M random parameters: two text encoders, text_time conditioning."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=6 * 8 + 24,
            cross_attention_dim=16 + 24,
        )
        text_encoder = clip_text_encoder(CLIPTextModel, 16)
        text_encoder_2 = clip_text_encoder(CLIPTextModelWithProjection, 24)
        vae = image_vae()
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def tiny_svd(levels: int = 2) -> StableVideoDiffusionPipeline:
    """A StableVideoDiffusionPipeline of about 0.3 M random parameters, with the scheduler of the published one.

    Args:
        levels: of the UNet, which has four in the published one.
    """
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNetSpatioTemporalConditionModel(
            sample_size=16,
            down_block_types=("DownBlockSpatioTemporal", *("CrossAttnDownBlockSpatioTemporal",) * (levels - 1)),
            up_block_types=(*("CrossAttnUpBlockSpatioTemporal",) * (levels - 1), "UpBlockSpatioTemporal"),
            # Its group norms have 32 groups: fewer channels would hide the time embedding.
            block_out_channels=(32, *(64,) * (levels - 1)),
            layers_per_block=1,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=3 * 8,
            cross_attention_dim=16,
            num_attention_heads=(2,) * levels,
            num_frames=14,
        )
        vae = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 3, block_out_channels=(32, 32, 32), layers_per_block=1
        )
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16,
                intermediate_size=32,
                projection_dim=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=224,
                patch_size=32,
            )
        )
    pipeline = StableVideoDiffusionPipeline(
        vae=vae.eval(),
        image_encoder=image_encoder.eval(),
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            timestep_type="continuous",
            timestep_spacing="leading",
            steps_offset=1,
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
        ),
        feature_extractor=CLIPImageProcessorPil(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def image_vae() -> AutoencoderKL:
    """A VAE of latents of a fourth of the pictures' sides, in four channels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    ).eval()


def clip_text_encoder(
    kind: type[CLIPTextModel] | type[CLIPTextModelWithProjection], width: int, *, positions: int = 24
) -> torch.nn.Module:
    """One of CLIP's text encoders, whose states have this width."""
    from transformers import CLIPTextConfig

    tokens = len(clip_tokenizer())
    return kind(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=width,
            intermediate_size=32,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=positions,
            bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
            pad_token_id=tokens - 1,
        )
    ).eval()


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """Characters, the merges that spell WORDS, and CLIP's two special tokens."""
    from transformers import CLIPTokenizer

    letters = sorted({letter for word in WORDS for letter in word} | set("abcdefghijklmnopqrstuvwxyz0123456789.,"))
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
            pieces[:2] = ["".join(pair)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=24)
