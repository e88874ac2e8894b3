"""Tiny random-weight pipelines of videos in the real diffusers classes, beside `tests.tiny.tiny_svd`.

VAEs compress as those of the published models do, so that sizes and numbers of frames are checked as they are there.
The pipelines are shared by all tests of a session: leave them as you found them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from tests.diffusion.tiny_images import sd
from tests.tiny import WORDS, clip_text_encoder, clip_tokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, MotionAdapter, WanTransformer3DModel
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionModel,
        Gemma3ForConditionalGeneration,
        LlamaConfig,
        LlamaModel,
        LlavaForConditionalGeneration,
        PreTrainedTokenizerFast,
        T5EncoderModel,
        T5Tokenizer,
    )

TEXT_WIDTH = 32
"""Of what the T5 encoders give."""


@cache
def tiny_wan(*, picture: bool = False) -> Any:
    """A WanPipeline as of Wan 2.1, or a WanImageToVideoPipeline with `picture`."""
    from diffusers import WanImageToVideoPipeline, WanPipeline

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if not picture:
            return WanPipeline(**_wan_parts(), transformer=_wan_transformer(16, 16))
        transformer = _wan_transformer(36, 16, image_dim=8, added_kv_proj_dim=24)
        vision = {"image_encoder": _vision(8), "image_processor": _image_processor(32)}
        return WanImageToVideoPipeline(**_wan_parts(), transformer=transformer, **vision)


@cache
def tiny_wan_2_2(*, picture: bool = False) -> Any:
    """A WanPipeline as of Wan 2.2, or a WanImageToVideoPipeline with `picture`: two transformers."""
    from diffusers import WanImageToVideoPipeline, WanPipeline

    with torch.random.fork_rng():
        torch.manual_seed(1)
        kind, channels = (WanImageToVideoPipeline, 36) if picture else (WanPipeline, 16)
        two = {name: _wan_transformer(channels, 16) for name in ("transformer", "transformer_2")}
        return kind(**_wan_parts(), **two, boundary_ratio=0.9)


@cache
def tiny_wan_5b() -> Any:
    """A WanPipeline as of Wan 2.2 5B: timesteps of each token, and a VAE that compresses more."""
    from diffusers import AutoencoderKLWan, WanPipeline

    with torch.random.fork_rng():
        torch.manual_seed(2)
        means = [index / 48 for index in range(48)]
        vae = AutoencoderKLWan(
            base_dim=8,
            z_dim=48,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=means,
            latents_std=[1 + mean for mean in means],
            is_residual=True,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
        )
        parts = _wan_parts() | {"vae": vae.eval()}
        return WanPipeline(**parts, transformer=_wan_transformer(48, 48), expand_timesteps=True)


def _wan_parts() -> dict[str, Any]:
    from diffusers import UniPCMultistepScheduler
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = t5_tokenizer()
    config = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        initializer_factor=2.0,
    )
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    encoder = UMT5EncoderModel(config).eval()
    return {"tokenizer": tokenizer, "text_encoder": encoder, "vae": _wan_vae(), "scheduler": scheduler}


def _wan_vae() -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def _wan_transformer(in_channels: int, out_channels: int, **options: int) -> WanTransformer3DModel:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=in_channels,
        out_channels=out_channels,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        **options,
    ).eval()


def _vision(width: int) -> CLIPVisionModel:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=16)).eval()


def _image_processor(side: int) -> CLIPImageProcessorPil:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


@cache
def t5_tokenizer() -> T5Tokenizer:
    """Words, letters, and T5's special tokens."""
    from transformers import T5Tokenizer

    pieces = [*(f"▁{word}" for word in WORDS), "▁", *"abcdefghijklmnopqrstuvwxyz0123456789.,"]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary = [*special, *((piece, -1.0 - index / 100) for index, piece in enumerate(pieces))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=128)


@cache
def tiny_ltx(kind: str = "LTXPipeline", *, denoises: bool = False) -> Any:
    """An LTX-Video pipeline of the class `kind`; with `denoises` its decoder does, as from 0.9.1 on."""
    import diffusers
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel

    with torch.random.fork_rng():
        torch.manual_seed(3)
        transformer = LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            num_layers=2,
            caption_channels=TEXT_WIDTH,
        )
        vae = AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            timestep_conditioning=denoises,
        )
        vae.latents_mean.uniform_(-1, 1)
        vae.latents_std.uniform_(0.5, 2)
        return getattr(diffusers, kind)(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=vae.eval(),
            text_encoder=t5_encoder(),
            tokenizer=t5_tokenizer(),
            transformer=transformer.eval(),
        )


@cache
def tiny_cogvideox(*, picture: bool = False, later: bool = False) -> Any:
    """A CogVideoXPipeline, or a CogVideoXImageToVideoPipeline with `picture`; `later`: as of CogVideoX 1.5."""
    import diffusers
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXDPMScheduler,
        CogVideoXTransformer3DModel,
    )

    with torch.random.fork_rng():
        torch.manual_seed(4)
        transformer = CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=16 if picture else 8,
            out_channels=8,
            time_embed_dim=8,
            text_embed_dim=TEXT_WIDTH,
            num_layers=2,
            sample_width=6,
            sample_height=4,
            sample_frames=9,
            patch_size_t=2 if later else None,
            patch_bias=not later,
            ofs_embed_dim=8 if later and picture else None,
            use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=picture and not later,
        )
        vae = AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=8, layers_per_block=1, norm_num_groups=2
        )
        scheduler = CogVideoXDPMScheduler if later else CogVideoXDDIMScheduler
        kind = diffusers.CogVideoXImageToVideoPipeline if picture else diffusers.CogVideoXPipeline
        return kind(
            tokenizer=t5_tokenizer(),
            text_encoder=t5_encoder(),
            vae=vae.eval(),
            transformer=transformer.eval(),
            scheduler=scheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
        )


@cache
def tiny_ltx_2(*, later: bool = False) -> Any:
    """An LTX2Pipeline; `later`: as of LTX-2.3."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder

    with torch.random.fork_rng():
        torch.manual_seed(7)
        transformer = LTX2VideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            audio_in_channels=4,
            audio_out_channels=4,
            audio_num_attention_heads=2,
            audio_attention_head_dim=4,
            audio_cross_attention_dim=8,
            num_layers=2,
            caption_channels=16,
            rope_double_precision=False,
            rope_type="split",
            perturbed_attn=later,
        )
        sides = {f"{side}_connector_num_layers": 1 for side in ("video", "audio")}
        sides |= {f"{side}_connector_num_learnable_registers": None for side in ("video", "audio")}
        sides |= {f"{side}_connector_num_attention_heads": 2 for side in ("video", "audio")}
        sides |= {f"{side}_connector_attention_head_dim": 8 for side in ("video", "audio")}
        connectors = LTX2TextConnectors(
            caption_channels=16,
            text_proj_in_factor=3,
            **sides,
            connector_rope_base_seq_len=32,
            rope_double_precision=False,
            rope_type="split",
        )
        vae = AutoencoderKLLTX2Video(
            latent_channels=8,
            block_out_channels=(8, 16, 32, 64),
            decoder_block_out_channels=(8, 16, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            spatial_compression_ratio=32,
            temporal_compression_ratio=8,
        )
        audio_vae = AutoencoderKLLTX2Audio(
            base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
        )
        vocoder = LTX2Vocoder(
            in_channels=16,
            hidden_channels=32,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            output_sampling_rate=16000,
        )
        return LTX2Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=vae.eval(),
            audio_vae=audio_vae.eval(),
            text_encoder=_gemma(),
            tokenizer=llama_tokenizer(),
            connectors=connectors.eval(),
            transformer=transformer.eval(),
            vocoder=vocoder.eval(),
        )


def _gemma() -> Gemma3ForConditionalGeneration:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = Gemma3TextConfig(vocab_size=len(llama_tokenizer()), **sizes, num_key_value_heads=1, head_dim=8)
    vision = SiglipVisionConfig(**sizes, image_size=32, patch_size=16)
    tokens = {"boi_token_index": 4, "eoi_token_index": 5, "image_token_id": 6}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **tokens)
    return Gemma3ForConditionalGeneration(config).eval()


def t5_encoder() -> T5EncoderModel:
    """A T5 encoder of the vocabulary of `t5_tokenizer`."""
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": TEXT_WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(t5_tokenizer()), **sizes, initializer_factor=2.0, feed_forward_proj="gated-gelu")
    return T5EncoderModel(config).eval()


@cache
def motion_adapter() -> MotionAdapter:
    """Fits `tests.diffusion.tiny_images.sd`."""
    from diffusers import MotionAdapter

    with torch.random.fork_rng():
        torch.manual_seed(6)
        adapter = MotionAdapter(
            block_out_channels=(16, 32),
            motion_layers_per_block=1,
            motion_num_attention_heads=2,
            motion_norm_num_groups=8,
            motion_max_seq_length=6,
        )
        for name, weight in adapter.named_parameters():
            if "proj_out" in name:  # which are zero before training
                torch.nn.init.normal_(weight, std=0.3)
    return adapter.eval()


@cache
def tiny_animatediff() -> Any:
    """An AnimateDiffPipeline of `tests.diffusion.tiny_images.sd` and `motion_adapter`."""
    from diffusers import AnimateDiffPipeline, DDIMScheduler

    parts = {name: sd().components[name] for name in ("vae", "text_encoder", "tokenizer", "unet")}
    return AnimateDiffPipeline(**parts, motion_adapter=motion_adapter(), scheduler=DDIMScheduler(clip_sample=False))


@cache
def tiny_hunyuan_video(*, picture: str = "") -> Any:
    """A HunyuanVideoPipeline, or a HunyuanVideoImageToVideoPipeline that takes the picture in the way `picture` names:
    "latent_concat" or "token_replace".
    """
    import diffusers
    from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoTransformer3DModel
    from transformers import CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(5)
        transformer = HunyuanVideoTransformer3DModel(
            in_channels=17 if picture == "latent_concat" else 8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            guidance_embeds=picture != "latent_concat",
            text_embed_dim=16,
            pooled_projection_dim=16,
            rope_axes_dim=(2, 4, 4),
            image_condition_type=picture or None,
        )
        vae = AutoencoderKLHunyuanVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
        )
        parts = {
            "tokenizer": llama_tokenizer(),
            "text_encoder": _llava() if picture else _llama(),
            "tokenizer_2": clip_tokenizer(),
            "text_encoder_2": clip_text_encoder(CLIPTextModel, 16, positions=77),
            "transformer": transformer.eval(),
            "vae": vae.eval(),
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        }
        if not picture:
            return diffusers.HunyuanVideoPipeline(**parts)
        return diffusers.HunyuanVideoImageToVideoPipeline(**parts, image_processor=_image_processor(48))


def _llama_config() -> LlamaConfig:
    from transformers import LlamaConfig

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaConfig(vocab_size=len(llama_tokenizer()), **sizes, **special, initializer_range=0.5)


def _llama() -> LlamaModel:
    from transformers import LlamaModel

    return LlamaModel(_llama_config()).eval()


def _llava() -> LlavaForConditionalGeneration:
    """Its pictures become 576 tokens, as the pipeline expects."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=48, patch_size=2)
    image = llama_tokenizer().convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=_llama_config(), image_token_id=image, pad_token_id=0)
    config.image_token_index = image
    return LlavaForConditionalGeneration(config).eval()


@cache
def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Words, and Llama 3's special tokens, of which one starts each text."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ("<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokens = [*special, "\n\n", *WORDS]
    plain = Tokenizer(WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    plain.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **names, padding_side="right")
    tokenizer.add_special_tokens({"additional_special_tokens": [*special[4:], "\n\n"]})
    return tokenizer
