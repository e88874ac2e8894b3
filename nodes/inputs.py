"""The annotations of inputs that kinds of several fields share."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from engine.node import FileContents, FilePrefix

ImageModelFile = Annotated[
    str,
    FileContents(
        "model",
        categories=("checkpoints", "diffusers", "diffusion_models"),
        takes=("safetensors", "gguf", "folder"),
    ),
]


VAEFile = Annotated[str, FileContents("model", categories=("vae",), takes=("safetensors", "folder"))]


VideoModelFile = Annotated[str, FileContents("model", categories=("checkpoints", "diffusers"), takes=("folder",))]


MotionFile = Annotated[str, FileContents("model", categories=("animatediff_models",), takes=("folder",))]


LanguageModelFile = Annotated[str, FileContents("model", categories=("llm", "text_encoders"), takes=("gguf", "folder"))]


LoRAFile = Annotated[str, FileContents("model", categories=("loras",), takes=("safetensors", "folder"))]


UpscaleModelFile = Annotated[
    str,
    FileContents("model", categories=("upscale_models",), takes=("safetensors", "pth", "pt", "ckpt", "bin", "folder")),
]


DType = Literal["float32", "float16", "bfloat16"]
OwnDType = Literal["auto", "float32", "float16", "bfloat16"]


Method = Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]


Side = Annotated[int, Field(ge=0, le=8192, multiple_of=8)]


def _own_or_guided(scale: float) -> float:
    """A guidance scale; raises ValueError if it lies between the model's own and that of no guidance."""
    if 0 < scale < 1:
        raise ValueError("give 0 for the model's own, or 1 and more: 1 is no guidance")
    return scale


OwnGuidance = Annotated[float, Field(ge=0, le=50), AfterValidator(_own_or_guided)]
"""A guidance scale, where 0 is the model's own."""


Factor = Annotated[float, Field(ge=0, le=16)]
Tile = Annotated[int, Field(ge=0, le=8192, multiple_of=8)]
Overlap = Annotated[int, Field(ge=0, le=512)]


Seed = Annotated[int, Field(ge=0, lt=2**64, json_schema_extra={"widget": "seed"})]


_PATTERN = re.compile(r"%([^%]+)%")
PART_BYTES = 200
"""File systems allow 255 bytes for a name, and to a prefix a number and an ending are added."""


def _inside(prefix: str) -> str:
    """Normalise a file prefix; raises ValueError if it leaves the output folder, or isn't valid, on some system."""
    written, prefix = str(PurePosixPath(prefix)), _PATTERN.sub(_stand_in, prefix)
    path = PurePosixPath(prefix)
    if not path.name or prefix.endswith("/"):
        raise ValueError("a file name is needed, such as 'kinograph' or 'folder/kinograph'")
    if ".." in path.parts or path.is_absolute() or PureWindowsPath(prefix).anchor:
        raise ValueError("the name may not lead out of the output folder")
    if any(part.startswith(".") for part in path.parts):
        raise ValueError("names that start with a dot are hidden; give another")
    if any(len(part.encode("utf-8", "replace")) > PART_BYTES for part in path.parts):
        raise ValueError(f"names of files and folders may have {PART_BYTES} bytes in UTF-8 here")
    if bad := sorted({letter for letter in prefix if letter in '<>:"\\|?*' or not letter.isprintable()}):
        raise ValueError(f"file names on some systems can't contain {' '.join(map(repr, bad))}")
    return written


def _stand_in(pattern: re.Match[str]) -> str:
    """What is checked in place of a pattern: a date's format, and a letter for a node's value."""
    if pattern[1].startswith("date:"):
        return pattern[1].removeprefix("date:").replace(":", "_")
    return "x" if "." in pattern[1] else pattern[0]


Prefix = Annotated[str, FilePrefix(), Field(max_length=200), AfterValidator(_inside)]
