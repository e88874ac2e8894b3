"""Tiny random-weight pipelines of the families of image models whose denoisers are transformers: straight flows.

In the real classes of diffusers and transformers, each built once a session: leave them as you found them. Nothing is
downloaded.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from tests.diffusion.tiny_images import put_together
from tests.tiny import clip_text_encoder, clip_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
    from transformers import Qwen2Tokenizer, T5EncoderModel, T5TokenizerFast

BYTES = 256
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template, which takes texts and lists of texts."""


def _vae(channels: int) -> AutoencoderKL:
    """Of a fourth of the pictures' sides, with a shift."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.4,
        shift_factor=0.1,
    )


def _scheduler(**settings: Any) -> FlowMatchEulerDiscreteScheduler:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


@cache
def _t5_tokenizer() -> T5TokenizerFast:
    """Letters, as pieces of words."""
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5TokenizerFast(vocab=pieces + [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz,."], extra_ids=0)


def _t5(width: int) -> T5EncoderModel:
    from transformers import T5Config, T5EncoderModel

    tokens = len(_t5_tokenizer())
    return T5EncoderModel(
        T5Config(vocab_size=tokens, d_model=width, d_kv=8, d_ff=16, num_layers=2, num_heads=2, dropout_rate=0.0)
    )


@cache
def _byte_tokenizer() -> Qwen2Tokenizer:
    """A token for each byte, and Qwen's special ones."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokens = [*sorted(ByteLevel.alphabet()), *special]
    return Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        additional_special_tokens=list(special[1:]),
        chat_template=CHAT,
    )


def _flux(kind: str, scheduler: FlowMatchEulerDiscreteScheduler, **settings: Any) -> DiffusionPipeline:
    import diffusers
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        **{"in_channels": 16, "guidance_embeds": True} | settings,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    )
    return put_together(
        getattr(diffusers, kind),
        transformer=transformer,
        vae=_vae(4),
        text_encoder=clip_text_encoder(CLIPTextModel, 16),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5(16),
        tokenizer_2=_t5_tokenizer(),
        scheduler=scheduler,
    )


@cache
def flux() -> DiffusionPipeline:
    """Flux 1 dev."""
    return _flux("FluxPipeline", _scheduler(use_dynamic_shifting=True, shift=3.0))


@cache
def flux_schnell() -> DiffusionPipeline:
    """Flux 1 schnell, which takes no guidance."""
    return _flux("FluxPipeline", _scheduler(shift=1.0), guidance_embeds=False)


@cache
def flux_fill() -> DiffusionPipeline:
    """Flux 1 Fill, whose transformer sees what is around the mask, and 4 × 4 of its pixels per cell."""
    scheduler = _scheduler(use_dynamic_shifting=True, shift=3.0)
    return _flux("FluxFillPipeline", scheduler, in_channels=16 + 16 + 4 * 4 * 4, out_channels=16)


@cache
def flux_kontext() -> DiffusionPipeline:
    """Flux 1 Kontext."""
    return _flux("FluxKontextPipeline", _scheduler(use_dynamic_shifting=True, shift=3.0))


def _sd3(**settings: Any) -> DiffusionPipeline:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=16,
        **settings,
    )
    return put_together(
        StableDiffusion3Pipeline,
        transformer=transformer,
        vae=_vae(16),
        text_encoder=clip_text_encoder(CLIPTextModelWithProjection, 16),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text_encoder(CLIPTextModelWithProjection, 16),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=_t5(32),
        tokenizer_3=_t5_tokenizer(),
        scheduler=_scheduler(shift=3.0),
    )


@cache
def sd3() -> DiffusionPipeline:
    """Stable Diffusion 3."""
    return _sd3()


@cache
def sd3_5() -> DiffusionPipeline:
    """Stable Diffusion 3.5, with normed queries and keys, and second attention in its first layers."""
    return _sd3(qk_norm="rms_norm", dual_attention_layers=(0,))


@cache
def qwen_image() -> DiffusionPipeline:
    """Qwen-Image, with a VAE of videos."""
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _byte_tokenizer()
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=12,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.8, 1.2, 1.0],
    )
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=heads
            | {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "vocab_size": len(tokenizer),
                "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 10000.0},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
        )
    )
    return put_together(
        QwenImagePipeline,
        transformer=transformer,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=_scheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9),
    )


def _z_image(shift: float) -> DiffusionPipeline:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _byte_tokenizer()
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
        )
    )
    return put_together(
        ZImagePipeline,
        transformer=transformer,
        vae=_vae(16),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=_scheduler(shift=shift),
    )


@cache
def z_image() -> DiffusionPipeline:
    """Z-Image."""
    return _z_image(6.0)


@cache
def z_image_turbo() -> DiffusionPipeline:
    """Z-Image Turbo."""
    return _z_image(3.0)


def _flux2_parts(text_width: int, **settings: Any) -> dict[str, Any]:
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * text_width,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        **settings,
    )
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return {"transformer": transformer, "vae": vae, "scheduler": _scheduler(use_dynamic_shifting=True, shift=3.0)}


@cache
def flux_2() -> DiffusionPipeline:
    """Flux 2 dev, with a language model of 30 layers, three of which it reads."""
    from diffusers import Flux2Pipeline
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    tokenizer = _byte_tokenizer()
    parts = _flux2_parts(8)
    text_encoder = Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config={
                "model_type": "mistral",
                "vocab_size": len(tokenizer),
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 30,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 4,
            },
            vision_config={
                "model_type": "pixtral",
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "image_size": 32,
                "patch_size": 16,
            },
        )
    )
    return put_together(Flux2Pipeline, **parts, text_encoder=text_encoder, tokenizer=tokenizer)


def _klein(*, distilled: bool) -> DiffusionPipeline:
    from diffusers import Flux2KleinPipeline
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _byte_tokenizer()
    parts = _flux2_parts(8, guidance_embeds=False)
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=27,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
        )
    )
    return put_together(
        Flux2KleinPipeline, **parts, text_encoder=text_encoder, tokenizer=tokenizer, is_distilled=distilled
    )


@cache
def flux_2_klein() -> DiffusionPipeline:
    """Flux 2 Klein, distilled to four steps."""
    return _klein(distilled=True)


@cache
def flux_2_klein_base() -> DiffusionPipeline:
    """Flux 2 Klein before it is distilled."""
    return _klein(distilled=False)
