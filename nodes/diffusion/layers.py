"""What the layers of a pipeline are called.

A layer's name is the pipeline's component and the path of a Linear or Conv2d inside it, as diffusers files spell it:
`unet.mid_block.attentions.0.proj_in`, `text_encoder.text_model.encoder.layers.0.mlp.fc1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


Layer = nn.Linear | nn.Conv2d | nn.Conv3d | nn.GroupNorm | nn.LayerNorm
"""What an adapter of any form can change."""


def all_layers(pipeline: DiffusionPipeline) -> dict[str, Layer]:
    """Every layer that an adapter can change, by name, in the order of the model: those of `layers`, and norms too."""
    return {
        layer_name(component, path): module
        for component, model in pipeline.components.items()
        if isinstance(model, nn.Module)
        for path, module in model.named_modules()
        if isinstance(module, Layer) and module.weight is not None
    }


def layers(pipeline: DiffusionPipeline) -> dict[str, nn.Linear | nn.Conv2d]:
    """Every Linear and Conv2d by name, in the order of the model: what low-rank matrices change."""
    return {
        layer_name(component, path): module
        for component, model in pipeline.components.items()
        if isinstance(model, nn.Module)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def layer_name(component: str, path: str) -> str:
    """The name of the layer at `path` in `component`.

    Files keep the `text_model.` of CLIP's text encoders; whether the class still has that attribute depends on the
    version of transformers.
    """
    if component.startswith("text_encoder") and path.startswith("encoder."):
        path = f"text_model.{path}"
    return f"{component}.{path}"
