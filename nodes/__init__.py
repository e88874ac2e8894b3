"""The nodes that come with Kinograph, a package per field."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.registry import Registry, load_file


def registry(files: Iterable[Path] = ()) -> Registry:
    """All kinds of node that come with Kinograph, and those that Python files define.

    Nothing heavy is imported until one of them runs.

    Raises:
        MissingError: a file doesn't exist.
        UsageError: a file can't be read or run, or two kinds have the same name.
    """
    from nodes.dataset import nodes as dataset
    from nodes.files import nodes as saving
    from nodes.flow import nodes as flow
    from nodes.image import nodes as image
    from nodes.lora import nodes as lora
    from nodes.text import nodes as text
    from nodes.video import nodes as video

    shipped = Registry.of_modules(dataset, saving, flow, image, lora, text, video)
    added = Registry.of_modules(*map(load_file, files))
    return Registry([*shipped.values(), *added.values()]) if added else shipped
