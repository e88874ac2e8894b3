"""The settings of published models whose single files hold weights alone: what their folders say, as facts.

Only what differs from the defaults of diffusers' and transformers' classes is written down. `clip_merges.txt.gz` has
the merges of CLIP's byte-pair encoding, in order, by OpenAI (github.com/openai/CLIP, MIT licence).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodes.diffusion.families import SD, SDXL, Family

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

Config = Mapping[str, Any]

_END = "<|endoftext|>"
_MERGES = Path(__file__).with_name("clip_merges.txt.gz")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A model's components and their settings."""

    family: Family
    index: Config = field(default_factory=dict)
    """The pipeline's own settings."""
    unet: Config
    vae: Config
    scheduler: Config
    """With the class's name."""
    text_encoders: Mapping[str, tuple[str, Config]]
    """Class and settings, by component."""
    padding: Mapping[str, str]
    """What pads a prompt, by tokenizer."""

    def write(self, folder: Path) -> None:
        """Write the settings in the layout of a diffusers folder."""
        for name, settings in self.all_settings.items():
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(settings))
        (folder / "model_index.json").write_text(json.dumps(self.model_index))

    @property
    def all_settings(self) -> dict[str, dict[str, Any]]:
        """The settings of all components that have some, by name."""
        encoders = {name: dict(settings) for name, (_, settings) in self.text_encoders.items()}
        return {"unet": dict(self.unet), "vae": dict(self.vae), "scheduler": dict(self.scheduler), **encoders}

    @property
    def model_index(self) -> dict[str, Any]:
        """What the folder's index says."""
        encoders = {name: ["transformers", kind] for name, (kind, _) in self.text_encoders.items()}
        classes = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
        classes |= {"scheduler": ["diffusers", self.scheduler["_class_name"]]}
        classes |= {name: ["transformers", "CLIPTokenizer"] for name in self.padding}
        return dict(self.index) | encoders | classes | {"_class_name": next(iter(self.family.pipelines.values()))}


def _text_encoder(width: int, layers: int, *, heads: int, activation: str = "gelu", **other: Any) -> Config:
    size = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    # The published ids aren't the tokenizer's; an end of 2 makes transformers look for the token of the largest id.
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    kind = {"model_type": "clip_text_model", "num_attention_heads": heads, "hidden_act": activation}
    return {**kind, **size, **ends, **other}


_VIT_L = _text_encoder(768, 12, heads=12, activation="quick_gelu", projection_dim=768)
_VIT_H = _text_encoder(1024, 23, heads=16, projection_dim=512)
_VIT_BIG_G = _text_encoder(1280, 32, heads=20, projection_dim=1280)

_SIDES = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
_VAE = {**_SIDES, "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4}
_XL_VAE = {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}

_CROSS, _PLAIN = "CrossAttn{}Block2D", "{}Block2D"


def _unet(levels: str, channels: list[int], **other: Any) -> Config:
    """Settings of a UNet whose levels, from the largest on, have attention ("a") or not ("-")."""
    kinds = [_CROSS if level == "a" else _PLAIN for level in levels]
    blocks = {
        "down_block_types": [kind.format("Down") for kind in kinds],
        "up_block_types": [kind.format("Up") for kind in reversed(kinds)],
    }
    return {**blocks, "block_out_channels": channels, "layers_per_block": 2, **other}


_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_EULER = {"_class_name": "EulerDiscreteScheduler", **_NOISE, "timestep_spacing": "leading"}
_PNDM = {"_class_name": "PNDMScheduler", **_NOISE, "set_alpha_to_one": False, "skip_prk_steps": True}
DDIM = {"_class_name": "DDIMScheduler", **_NOISE, "set_alpha_to_one": False, "clip_sample": False}
PLAYGROUND = {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
"""The scheduler of Playground 2.5, an SDXL whose latents are standardised (arXiv 2402.17245)."""

_SD2 = _unet(
    "aaa-",
    [320, 640, 1280, 1280],
    attention_head_dim=[5, 10, 20, 20],
    cross_attention_dim=1024,
    use_linear_projection=True,
)
_XL_UNET = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "use_linear_projection": True}

SD1 = Published(
    family=SD,
    unet=_unet("aaa-", [320, 640, 1280, 1280], attention_head_dim=8, cross_attention_dim=768, sample_size=64),
    vae={**_VAE, "sample_size": 512},
    scheduler=_PNDM,
    text_encoders={"text_encoder": ("CLIPTextModel", _VIT_L)},
    padding={"tokenizer": _END},
)
SD2_V = Published(
    family=SD,
    unet={**_SD2, "sample_size": 96, "upcast_attention": True},
    vae={**_VAE, "sample_size": 768},
    scheduler={**DDIM, "prediction_type": "v_prediction"},
    text_encoders={"text_encoder": ("CLIPTextModel", _VIT_H)},
    padding={"tokenizer": "!"},
)
SD2_BASE = Published(
    family=SD,
    unet={**_SD2, "sample_size": 64},
    vae={**_VAE, "sample_size": 512},
    scheduler=_PNDM,
    text_encoders=SD2_V.text_encoders,
    padding=SD2_V.padding,
)
XL = Published(
    family=SDXL,
    index={"force_zeros_for_empty_prompt": True},
    unet=_unet(
        "-aa",
        [320, 640, 1280],
        attention_head_dim=[5, 10, 20],
        transformer_layers_per_block=[1, 2, 10],
        cross_attention_dim=2048,
        projection_class_embeddings_input_dim=2816,
        sample_size=128,
        **_XL_UNET,
    ),
    vae=_XL_VAE,
    scheduler=_EULER,
    text_encoders={
        "text_encoder": ("CLIPTextModel", _VIT_L),
        "text_encoder_2": ("CLIPTextModelWithProjection", _VIT_BIG_G),
    },
    padding={"tokenizer": _END, "tokenizer_2": "!"},
)


def scheduler(settings: Config) -> Any:
    """A scheduler of diffusers' by its settings."""
    import diffusers

    return getattr(diffusers, settings["_class_name"]).from_config(dict(settings))


@cache
def _merges() -> list[tuple[str, str]]:
    lines = gzip.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines()
    return [(first, second) for first, _, second in (line.partition(" ") for line in lines)]


def tokenizer(padding: str) -> CLIPTokenizer:
    """CLIP's tokenizer, of 49,408 tokens and up to 77 of them."""
    from transformers import CLIPTokenizer

    letters = _letters()
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _merges())]
    tokens = [*pieces, "<|startoftext|>", _END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=_merges(), model_max_length=77, pad_token=padding)


def _letters() -> list[str]:
    """A printable character for each byte, in the order of CLIP's vocabulary: those that are printable come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + extra) for extra in range(256 - len(printable))]
