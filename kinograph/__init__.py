"""Kinograph in Python: run workflows, build them, and write custom nodes.

    import kinograph

    results = kinograph.run("keyframes", {"prompt": "a red fish on a beach in watercolour style"})
    results.paths

Heavy libraries are imported when a run needs them, the server client when it is first accessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.document.reading import Document
from engine.document.workflow import Workflow
from engine.errors import (
    Cancelled,
    InputError,
    KinographError,
    MissingError,
    NodeError,
    Problem,
    ServerError,
    UsageError,
    WorkflowError,
)
from engine.node import Context, Deprecated, Figure, FilePrefix, InputFile, Lazy, ModelFile, Node
from engine.values import (
    Files,
    Folder,
    Image,
    ImageModel,
    LanguageModel,
    Latents,
    LoRA,
    Media,
    MedusaHeads,
    Messages,
    Table,
    TrainingOptions,
    UpscaleModel,
    Value,
    Video,
    VideoModel,
    Vocabulary,
)
from kinograph.calls import WorkflowWarning, close, run, sweep, validate
from kinograph.documents import load
from kinograph.graph import Graph
from kinograph.handles import Handle, Inlet, Outlet
from kinograph.results import File, Results
from kinograph.session import Combination, Session, Sweep

if TYPE_CHECKING:
    from engine.client import AsyncClient, Client

    __version__: str

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "Combination",
    "Context",
    "Deprecated",
    "Document",
    "Figure",
    "File",
    "FilePrefix",
    "Files",
    "Folder",
    "Graph",
    "Handle",
    "Image",
    "ImageModel",
    "Inlet",
    "InputError",
    "InputFile",
    "KinographError",
    "LanguageModel",
    "Latents",
    "Lazy",
    "LoRA",
    "Media",
    "MedusaHeads",
    "Messages",
    "MissingError",
    "ModelFile",
    "Node",
    "NodeError",
    "Outlet",
    "Problem",
    "Results",
    "ServerError",
    "Session",
    "Sweep",
    "Table",
    "TrainingOptions",
    "UpscaleModel",
    "UsageError",
    "Value",
    "Video",
    "VideoModel",
    "Vocabulary",
    "Workflow",
    "WorkflowError",
    "WorkflowWarning",
    "close",
    "load",
    "run",
    "sweep",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in ("AsyncClient", "Client"):
        import engine.client

        return getattr(engine.client, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("kinograph")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
