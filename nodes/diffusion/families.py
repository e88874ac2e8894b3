"""The families of models that draw pictures and videos: a row for each, all run by diffusers' own pipelines.

A row says what a family can do, by which of diffusers' classes, and how its calls differ. Everything else is the same
for all: which files a model consists of, how it is loaded, sampled, adapted and shown while it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.errors import InputError

Task = Literal["text to image", "image to image", "inpainting", "text to video", "image to video"]

PICTURES: frozenset[Task] = frozenset({"text to image", "image to image", "inpainting"})
"""The tasks of image models; the others are those of video models."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models of one architecture."""

    name: str
    """As its makers call it."""
    pipelines: Mapping[Task, str]
    """diffusers' class for each task. Folders of any of these classes are of this family."""
    denoiser: Literal["unet", "transformer"]
    """The component that predicts the noise."""
    unit: int
    """Widths and heights are multiples of this, in pixels."""
    steps: int
    """Denoising steps where none are asked for."""
    guidance: float
    """Guidance scale where none is asked for; 1 is none."""
    guidance_argument: str = "guidance_scale"
    """The pipelines' argument that weighs the prompt against the negative one."""
    negative_prompt: bool = True
    """Whether the pipelines take a negative prompt."""
    without: tuple[str, ...] = ()
    """Components of the folders that aren't loaded."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the pipelines' constructors."""

    @property
    def makes_pictures(self) -> bool:
        """Whether it is a family of image models, and not of video models."""
        return not PICTURES.isdisjoint(self.pipelines)

    def pipeline_for(self, task: Task) -> str:
        """diffusers' class for a task; raises InputError if the family can't do it."""
        if task not in self.pipelines:
            raise InputError(
                f"{self.name} can't do {task}, only {', '.join(self.pipelines)}",
                input="model",
                hint=f"one of these can: {', '.join(able.name for able in FAMILIES if task in able.pipelines)}",
            )
        return self.pipelines[task]


SD = Family(
    name="Stable Diffusion",
    pipelines={
        "text to image": "StableDiffusionPipeline",
        "image to image": "StableDiffusionImg2ImgPipeline",
        "inpainting": "StableDiffusionInpaintPipeline",
    },
    denoiser="unet",
    unit=8,
    steps=30,
    guidance=7.5,
    without=("safety_checker", "feature_extractor"),
    options={"requires_safety_checker": False},
)
SDXL = Family(
    name="Stable Diffusion XL",
    pipelines={
        "text to image": "StableDiffusionXLPipeline",
        "image to image": "StableDiffusionXLImg2ImgPipeline",
        "inpainting": "StableDiffusionXLInpaintPipeline",
    },
    denoiser="unet",
    unit=8,
    steps=30,
    guidance=5.0,
    options={"add_watermarker": False},
)
SVD = Family(
    name="Stable Video Diffusion",
    pipelines={"image to video": "StableVideoDiffusionPipeline"},
    denoiser="unet",
    unit=8,
    steps=25,
    guidance=3.0,
    negative_prompt=False,
)

FAMILIES = (SD, SDXL, SVD)


def family(name: str) -> Family:
    """The family of this name, which is one that a loader has written down."""
    return next(row for row in FAMILIES if row.name == name)


def family_of_class(pipeline: str) -> Family | None:
    """The family whose folders hold a pipeline of this class, if there is one."""
    return next((row for row in FAMILIES if pipeline in row.pipelines.values()), None)


def families(*, pictures: bool) -> str:
    """The names of the families of image or of video models, for messages."""
    return ", ".join(row.name for row in FAMILIES if row.makes_pictures == pictures)
