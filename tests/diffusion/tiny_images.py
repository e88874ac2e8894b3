"""Tiny random-weight pipelines of the families of image models, in the real classes of diffusers and transformers.

Each is built once a session: leave them as you found them. Nothing is downloaded.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from tests.tiny import clip_text_encoder, clip_tokenizer, image_vae

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DConditionModel

NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""The schedule of Stable Diffusion."""


def put_together(kind: type[DiffusionPipeline], **parts: Any) -> DiffusionPipeline:
    """A pipeline of its parts, without a progress bar."""
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _unet(channels: int = 4, width: int = 16, **settings: Any) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        cross_attention_dim=width,
        **settings,
    )


def _sd(scheduler: SchedulerMixin, *, kind: str = "StableDiffusionPipeline", **settings: Any) -> DiffusionPipeline:
    import diffusers
    from transformers import CLIPTextModel

    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return put_together(
        getattr(diffusers, kind),
        unet=_unet(**settings),
        vae=image_vae(),
        text_encoder=clip_text_encoder(CLIPTextModel, 16),
        tokenizer=clip_tokenizer(),
        scheduler=scheduler,
        **parts,
    )


@cache
def sd() -> DiffusionPipeline:
    """Stable Diffusion 1.x, with its scheduler."""
    from diffusers import PNDMScheduler

    return _sd(PNDMScheduler(skip_prk_steps=True, steps_offset=1, **NOISE))


@cache
def sd_2_1() -> DiffusionPipeline:
    """Stable Diffusion 2.1, which predicts v."""
    from diffusers import EulerDiscreteScheduler

    return _sd(EulerDiscreteScheduler(prediction_type="v_prediction", steps_offset=1, **NOISE))


@cache
def sd_inpainting() -> DiffusionPipeline:
    """Stable Diffusion's model for inpainting."""
    from diffusers import PNDMScheduler

    scheduler = PNDMScheduler(skip_prk_steps=True, steps_offset=1, **NOISE)
    return _sd(scheduler, kind="StableDiffusionInpaintPipeline", channels=9)


@cache
def sdxl_inpainting() -> DiffusionPipeline:
    """SDXL's model for inpainting."""
    from diffusers import StableDiffusionXLInpaintPipeline

    from tests.tiny import tiny_sdxl

    parts = tiny_sdxl().components
    config = {name: value for name, value in parts["unet"].config.items() if not name.startswith("_")}
    torch.manual_seed(1)
    unet = type(parts["unet"])(**config | {"in_channels": 9})
    return put_together(StableDiffusionXLInpaintPipeline, **parts | {"unet": unet})


@cache
def sd_turbo() -> DiffusionPipeline:
    """Stable Diffusion Turbo."""
    from diffusers import EulerDiscreteScheduler

    return _sd(EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1, **NOISE))


@cache
def sd_lcm() -> DiffusionPipeline:
    """Stable Diffusion, distilled to a consistency model by an adapter that is merged."""
    from diffusers import LCMScheduler

    return _sd(LCMScheduler(steps_offset=1, **NOISE))


@cache
def lcm() -> DiffusionPipeline:
    """A latent consistency model that is told its guidance."""
    from diffusers import LCMScheduler

    return _sd(LCMScheduler(steps_offset=1, **NOISE), kind="LatentConsistencyModelPipeline", time_cond_proj_dim=16)


def _sdxl(scheduler: SchedulerMixin, **settings: Any) -> DiffusionPipeline:
    from diffusers import StableDiffusionXLPipeline

    from tests.tiny import tiny_sdxl

    parts = tiny_sdxl().components
    config = {name: value for name, value in parts["unet"].config.items() if not name.startswith("_")}
    torch.manual_seed(1)
    unet = type(parts["unet"])(**config | settings)
    return put_together(StableDiffusionXLPipeline, **parts | {"scheduler": scheduler, "unet": unet})


@cache
def sdxl_turbo() -> DiffusionPipeline:
    """SDXL Turbo, made for smaller pictures."""
    from diffusers import EulerAncestralDiscreteScheduler

    scheduler = EulerAncestralDiscreteScheduler(timestep_spacing="trailing", steps_offset=1, **NOISE)
    return _sdxl(scheduler, sample_size=64)


@cache
def sdxl_lightning() -> DiffusionPipeline:
    """SDXL Lightning."""
    from diffusers import EulerDiscreteScheduler

    return _sdxl(EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1, **NOISE))


@cache
def sdxl_lcm() -> DiffusionPipeline:
    """SDXL, distilled to a consistency model."""
    from diffusers import LCMScheduler

    return _sdxl(LCMScheduler(steps_offset=1, **NOISE))


@cache
def sdxl_refiner() -> DiffusionPipeline:
    """SDXL's refiner, which reads the second text encoder alone, and a score of aesthetics."""
    from diffusers import StableDiffusionXLImg2ImgPipeline

    from tests.tiny import tiny_sdxl

    parts = tiny_sdxl().components | {"text_encoder": None, "tokenizer": None}
    settings = {"projection_class_embeddings_input_dim": 5 * 8 + 24, "addition_time_embed_dim": 8}
    parts["unet"] = _unet(width=24, addition_embed_type="text_time", **settings)
    return put_together(StableDiffusionXLImg2ImgPipeline, **parts, requires_aesthetics_score=True)
