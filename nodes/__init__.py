"""The nodes that come with Kinograph, a package per field."""

from __future__ import annotations

from engine.registry import Registry


def registry() -> Registry:
    """All kinds of node that come with Kinograph. Nothing heavy is imported until one of them runs."""
    from nodes.dataset import nodes as dataset
    from nodes.files import nodes as files
    from nodes.flow import nodes as flow
    from nodes.image import nodes as image
    from nodes.lora import nodes as lora
    from nodes.text import nodes as text
    from nodes.video import nodes as video

    return Registry.of_modules(dataset, files, flow, image, lora, text, video)
