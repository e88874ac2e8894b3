"""What the layers of a pipeline are called.

A layer's name is the pipeline's component and the path of a Linear or Conv2d inside it, as diffusers files spell it:
`unet.mid_block.attentions.0.proj_in`, `text_encoder.text_model.encoder.layers.0.mlp.fc1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def layers(pipeline: DiffusionPipeline) -> dict[str, nn.Linear | nn.Conv2d]:
    """Every Linear and Conv2d that an adapter can change, by name, in the order of the model."""
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
