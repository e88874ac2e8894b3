"""Which layers of a pipeline a LoRA is trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import InputError
from nodes.diffusion.layers import layers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

    from nodes.lora.training.settings import TrainingSettings

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The ends of layers' names."""

ENDS = {
    "attention": ATTENTION,
    "linear": (*ATTENTION, *FEED_FORWARD, *PROJECTIONS),
    "all": (*ATTENTION, *FEED_FORWARD, *PROJECTIONS, *CONVOLUTIONS),
}
"""By `TrainingSettings.layers`. "all" has the projections of the noise level too, as all layers of a block."""
TEXT = "text_encoder"
"""What the names of text encoders' layers begin with."""


def chosen(pipeline: DiffusionPipeline, denoiser: str, settings: TrainingSettings) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers to train, by name, in the order of the model.

    Args:
        denoiser: the component that denoises, such as "unet".

    Raises:
        InputError: a block of the settings isn't there, or has none of the layers.
    """
    everything = layers(pipeline)
    kind = [name for name in everything if name.startswith(f"{denoiser}.") and _ends(name, ENDS[settings.layers])]
    for block in settings.blocks:
        if not any(block in name for name in kind):
            raise InputError(
                f"no layer of the model's {settings.layers} is in a block called {block!r}",
                input="blocks",
                hint=f"name some of {', '.join(_blocks(kind))}",
            )
    names = [name for name in kind if not settings.blocks or any(block in name for block in settings.blocks)]
    if settings.text_encoders:
        names += [name for name in everything if name.startswith(TEXT) and _ends(name, TEXT_ATTENTION)]
    if not names:
        raise InputError(f"the model has no {settings.layers} layers to train", input="layers")
    check_not_quantised({name: everything[name] for name in names}, "trained")
    return {name: everything[name] for name in everything if name in set(names)}


def check_not_quantised(modules: Mapping[str, nn.Linear | nn.Conv2d], done: str) -> None:
    """Raise InputError for layers with packed weights, of which neither the shapes nor the numbers can be used."""
    for name, module in modules.items():
        if not module.weight.is_floating_point():
            message = f"the model's layer {name} is quantised, for which LoRAs can't be {done}"
            raise InputError(message, input="model", hint="take the model in bfloat16 or float32; the LoRA fits both")


def _ends(name: str, ends: tuple[str, ...]) -> bool:
    return name.endswith(tuple(f".{end}" for end in ends))


def _blocks(names: list[str]) -> list[str]:
    """The blocks that layers are in: "mid_block", "up_blocks.0"."""
    parts = (name.split(".")[1:3] for name in names)
    return list(dict.fromkeys(".".join(part if part[-1].isdigit() else part[:1]) for part in parts))
