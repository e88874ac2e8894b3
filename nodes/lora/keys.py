"""The keys of LoRA files: which layer each is about, and which part of its update it holds."""

from __future__ import annotations

import re
from typing import NamedTuple

from nodes.diffusion.layers import layer_name
from nodes.lora.kohya import layer_of_kohya_name

_ADAPTER = r"(\.(?!weight$|bias$)[\w-]+)?"
_ENDS = tuple(
    (re.compile(rf"(?P<stem>.+?){end}"), part)
    for end, part in (
        (r"\.lora_(up|down|mid|A|B)\.(?P<part>scale_weight|weight_scale)", None),
        (rf"[._]lora(_linear_layer)?[._](down|A){_ADAPTER}(\.weight)?", "down"),
        (rf"[._]lora(_linear_layer)?[._](up|B){_ADAPTER}(\.weight)?", "up"),
        (rf"[._]lora(_linear_layer)?[._](up|B){_ADAPTER}\.bias", "up_bias"),
        (r"\.lora_mid\.weight", "mid"),
        (rf"\.(?P<part>lora_E){_ADAPTER}", None),
        (r"([._]lora)?\.alpha", "alpha"),
        (r"(\.lora)?\.dora_scale", "dora_scale"),
        (rf"\.(lora_magnitude_vector{_ADAPTER}(\.weight)?|magnitude)", "magnitude"),
        (rf"\.(?P<part>(hada|lokr)_\w+?){_ADAPTER}", None),
        (rf"\.(?P<part>oft_blocks|oft_R|oft_r|boft_R|boft_s|rescale){_ADAPTER}(\.weight)?", None),
        (rf"\.ia3_l{_ADAPTER}", "ia3_l"),
        (r"\.(?P<part>[ab][12]|bm)\.weight", None),
        (r"\.(?P<part>diff|diff_b|w_norm|b_norm|on_input|set_weight|reshape_weight|scalar)", None),
        (r"\.weight", "weight"),
    )
)
"""Ends of keys, by what they say of the layer that comes before."""

_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_WRAPPERS = ("base_model.model.", "model.diffusion_model.", "diffusion_model.")
_ENCODERS = {
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
    "clip_l.transformer.": "text_encoder",
    "clip_g.transformer.": "text_encoder_2",
    "clip_l.": "text_encoder",
    "clip_g.": "text_encoder_2",
}
"""The text encoders as ComfyUI's own files spell them, and OneTrainer's."""
_OF_UNET = re.compile(
    r"(down_blocks|mid_block|up_blocks|conv_in|conv_out|conv_norm_out|time_embedding|add_embedding)(\.|$)"
)
_OF_SGM = re.compile(r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\.\d")
_OF_TEXT = re.compile(r"(text_model\.|encoder\.layers\.|text_projection$)")
_TEXT_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class Key(NamedTuple):
    """What a key says."""

    layer: str
    """The layer's name, as `nodes.diffusion.layers` has it."""
    part: str


def read_own_key(key: str) -> Key | None:
    """What a key says that we wrote in PEFT's format for a layer of a transformer; None if it is no such key."""
    if key.startswith("transformer."):
        for pattern, part in _ENDS:
            if match := pattern.fullmatch(key):
                return Key(match["stem"], part or match["part"])
    return None


def read_key(key: str, component: str | None = None) -> Key | None:
    """What a key says; None if it names no part of an adapter, or no layer of a UNet or of CLIP's text encoders.

    Args:
        key: the key.
        component: the component that a key without one is about, if it is known.
    """
    for pattern, part in _ENDS:
        if match := pattern.fullmatch(key):
            layer = layer_of(match["stem"], component)
            return Key(layer, part or match["part"]) if layer else None
    return None


def stem_of(key: str) -> str | None:
    """The start of a key that ends as adapters' do, which spells its layer; None if it is no key of an adapter."""
    stems = (pattern.fullmatch(key) for pattern, part in _ENDS if part != "weight")
    return next((match["stem"] for match in stems if match), None)


def layer_of(stem: str, component: str | None = None) -> str | None:
    """Our name for the layer that the start of a key spells, or None where no model has such a layer."""
    if stem.startswith(("lora_", "lycoris_", "oft_")):
        return layer_of_kohya_name(stem)
    for start, encoder in _ENCODERS.items():
        if stem.startswith(start):
            return layer_name(encoder, stem.removeprefix(start))
    named, path = component, stem
    while wrapper := next((start for start in _WRAPPERS if path.startswith(start)), None):
        path = path.removeprefix(wrapper)
    while (first := path.partition(".")[0]) in _COMPONENTS and path != first:
        named, path = first, path.removeprefix(f"{first}.")
        path = path.removeprefix("base_model.model.")
    if _OF_SGM.match(path) and named in (None, "unet"):
        return layer_of_kohya_name(f"lora_unet_{path.replace('.', '_')}")
    named = named or ("unet" if _OF_UNET.match(path) else "text_encoder" if _OF_TEXT.match(path) else None)
    return layer_name(named, _modern(path)) if named else None


def _modern(path: str) -> str:
    """A path in the spelling of today's diffusers."""
    path = path.replace(".processor.", ".")
    parent, _, last = path.rpartition(".")
    if parent.endswith("self_attn"):
        return f"{parent}.{_TEXT_PROJECTIONS.get(last, last)}"
    return f"{path}.0" if last == "to_out" else path
