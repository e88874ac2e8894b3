"""The families of models that draw pictures and videos: a row for each, all run by diffusers' own pipelines.

A row says what a family can do, by which of diffusers' classes, and how its calls differ. Everything else is the same
for all: which files a model consists of, how it is loaded, sampled, adapted and shown while it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.errors import InputError

Task = Literal["text to image", "image to image", "inpainting", "text to video", "image to video"]

Layout = Literal["channels first", "frames first", "packed"]
"""How latents of videos are laid out in pipelines: (B, C, T, h, w), (B, T, C, h, w) or (B, T · h · w, C)."""

PICTURES: frozenset[Task] = frozenset({"text to image", "image to image", "inpainting"})
"""The tasks of image models; the others are those of video models."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """What the videos of a family are like."""

    frames: int
    """How many frames where no number is asked for."""
    spacing: int = 1
    """Numbers of frames are one more than a multiple of this."""
    fps: int
    """Frames per second."""
    fps_argument: str = ""
    """The pipelines' argument that tells the model of the frame rate, if it is told."""
    size: tuple[int, int] | None = None
    """Width and height where none are asked for; None: the denoiser's configuration says."""
    latents: Layout = "channels first"
    """How the pipelines lay out latents."""
    padding: int = 0
    """How many frames of the latents come before those of the video's first."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models of one architecture."""

    name: str
    """As its makers call it."""
    pipelines: Mapping[Task, str]
    """diffusers' class for each task. Folders of any of these classes are of this family."""
    told_by: Mapping[str, object] = field(default_factory=dict)
    """What its folders say where those of other families with the same classes don't: values by component and setting
    (`unet.in_channels`), or by an entry of the index."""
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
    guidance_offset: float = 0.0
    """What the argument is smaller by than the guidance scale: 1 where 0 is no guidance."""
    guidance_is_fixed: bool = False
    """Whether the models are trained for one scale, so that no other has an effect."""
    negative_prompt: bool = True
    """Whether the pipelines take a negative prompt."""
    no_negative_prompt: str | None = None
    """What the pipelines take in place of one, for guidance without: None lets them choose."""
    strengths: Mapping[Task, float] = field(default_factory=lambda: {"image to image": 0.6, "inpainting": 1.0})
    """For tasks that begin with a picture: how much of the way to pure noise it is taken, where nothing else is asked
    for. Without a value the pipeline takes none."""
    area_argument: str | None = None
    """The pipelines' argument for how many pixels to draw, where they would choose by themselves."""
    smallest_image: int = 1
    """Of the sides of an image that is edited, in pixels."""
    undecoded: frozenset[Task] = frozenset()
    """Tasks whose pipelines forget the VAE's shift when they decode: their latents are decoded without them."""
    call: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the pipelines' calls."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Classes of transformers that do for components in place of the folders' own, which need other libraries."""
    without: tuple[str, ...] = ()
    """Components of the folders that aren't loaded."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the pipelines' constructors."""
    one_task: bool = False
    """Whether a model does only the task of the pipeline that its index names, though the family does more."""
    clips: Clips | None = None
    """What its videos are like, for a family that `VideoSampler` takes."""

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


_INPAINTING = {"unet.in_channels": 9}
"""A UNet that sees the mask and what is around it beside the latents."""
_LCM = {"scheduler._class_name": "LCMScheduler"}
_FEW_STEPS = {"scheduler.timestep_spacing": "trailing", "scheduler.prediction_type": "epsilon"}
"""What the schedulers of models say that were distilled adversarially: Turbo, Lightning."""

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
SD_INPAINTING = replace(
    SD,
    name="Stable Diffusion Inpainting",
    pipelines={"inpainting": "StableDiffusionInpaintPipeline"},
    told_by=_INPAINTING,
)
SD_LCM = replace(SD, name="Stable Diffusion LCM", told_by=_LCM, steps=4, guidance=1.0)
SD_TURBO = replace(SD, name="Stable Diffusion Turbo", told_by=_FEW_STEPS, steps=4, guidance=1.0)
LCM = replace(
    SD,
    name="Latent Consistency Model",
    pipelines={
        "text to image": "LatentConsistencyModelPipeline",
        "image to image": "LatentConsistencyModelImg2ImgPipeline",
    },
    steps=4,
    guidance=8.5,
    negative_prompt=False,
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
SDXL_INPAINTING = replace(
    SDXL,
    name="Stable Diffusion XL Inpainting",
    pipelines={"inpainting": "StableDiffusionXLInpaintPipeline"},
    told_by=_INPAINTING,
    steps=20,
    guidance=8.0,
    strengths={"inpainting": 0.99},
)
SDXL_LCM = replace(SDXL, name="Stable Diffusion XL LCM", told_by=_LCM, steps=4, guidance=1.0)
SDXL_TURBO = replace(
    SDXL,
    name="Stable Diffusion XL Turbo",
    told_by=_FEW_STEPS | {"unet.sample_size": 64},  # others of its scheduler, for 1024 pixels, take many steps
    steps=4,
    guidance=1.0,
)
SDXL_LIGHTNING = replace(
    SDXL,
    name="Stable Diffusion XL Lightning",
    told_by=_FEW_STEPS | {"scheduler._class_name": "EulerDiscreteScheduler"},
    steps=4,
    guidance=1.0,
)
SDXL_REFINER = replace(
    SDXL,
    name="Stable Diffusion XL Refiner",
    pipelines={"image to image": "StableDiffusionXLImg2ImgPipeline"},
    told_by={"requires_aesthetics_score": True},
    strengths={"image to image": 0.3},
)
FLUX = Family(
    name="Flux 1",
    pipelines={
        "text to image": "FluxPipeline",
        "image to image": "FluxImg2ImgPipeline",
        "inpainting": "FluxInpaintPipeline",
    },
    denoiser="transformer",
    unit=16,
    steps=28,
    guidance=3.5,
    negative_prompt=False,
)
FLUX_SCHNELL = replace(
    FLUX,
    name="Flux 1 schnell",
    told_by={"transformer.guidance_embeds": False},
    steps=4,
    guidance=1.0,
    guidance_is_fixed=True,
    call={"max_sequence_length": 256},
)
FLUX_FILL = replace(FLUX, name="Flux 1 Fill", pipelines={"inpainting": "FluxFillPipeline"}, steps=50, guidance=30.0)
FLUX_KONTEXT = replace(
    FLUX,
    name="Flux 1 Kontext",
    pipelines={"text to image": "FluxKontextPipeline", "image to image": "FluxKontextPipeline"},
    guidance=2.5,
    strengths={},
    area_argument="max_area",
)
FLUX_2 = Family(
    name="Flux 2",
    pipelines={"text to image": "Flux2Pipeline", "image to image": "Flux2Pipeline"},
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=4.0,
    negative_prompt=False,
    strengths={},
    smallest_image=64,
    classes={"tokenizer": "AutoTokenizer"},  # its processor of texts and pictures is given texts alone
)
FLUX_2_KLEIN_BASE = replace(
    FLUX_2,
    name="Flux 2 Klein Base",
    pipelines={"text to image": "Flux2KleinPipeline", "image to image": "Flux2KleinPipeline"},
    classes={},
)
FLUX_2_KLEIN = replace(
    FLUX_2_KLEIN_BASE,
    name="Flux 2 Klein",
    told_by={"is_distilled": True},
    steps=4,
    guidance=1.0,
    guidance_is_fixed=True,
)
SD3 = Family(
    name="Stable Diffusion 3",
    pipelines={
        "text to image": "StableDiffusion3Pipeline",
        "image to image": "StableDiffusion3Img2ImgPipeline",
        "inpainting": "StableDiffusion3InpaintPipeline",
    },
    denoiser="transformer",
    unit=16,
    steps=28,
    guidance=7.0,
    undecoded=frozenset({"inpainting"}),
)
SD3_5 = replace(SD3, name="Stable Diffusion 3.5", told_by={"transformer.qk_norm": "rms_norm"}, guidance=4.5)
QWEN_IMAGE = Family(
    name="Qwen-Image",
    pipelines={
        "text to image": "QwenImagePipeline",
        "image to image": "QwenImageImg2ImgPipeline",
        "inpainting": "QwenImageInpaintPipeline",
    },
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=4.0,
    guidance_argument="true_cfg_scale",
    no_negative_prompt=" ",
)
Z_IMAGE = Family(
    name="Z-Image",
    pipelines={
        "text to image": "ZImagePipeline",
        "image to image": "ZImageImg2ImgPipeline",
        "inpainting": "ZImageInpaintPipeline",
    },
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=5.0,
    guidance_offset=1.0,
)
Z_IMAGE_TURBO = replace(Z_IMAGE, name="Z-Image Turbo", told_by={"scheduler.shift": 3.0}, steps=9, guidance=1.0)
SVD = Family(
    name="Stable Video Diffusion",
    pipelines={"image to video": "StableVideoDiffusionPipeline"},
    denoiser="unet",
    unit=8,
    steps=25,
    guidance=3.0,
    negative_prompt=False,
)

_WAN: Mapping[Task, str] = {"text to video": "WanPipeline", "image to video": "WanImageToVideoPipeline"}
WAN_5B = Family(
    name="Wan 2.2 5B",
    pipelines=_WAN,
    told_by={"expand_timesteps": True},
    denoiser="transformer",
    unit=32,
    steps=50,
    guidance=5.0,
    clips=Clips(frames=121, spacing=4, fps=24, size=(1280, 704)),
)
WAN_2_2 = Family(
    name="Wan 2.2",
    pipelines=_WAN,
    told_by={"transformer_2": ["diffusers", "WanTransformer3DModel"]},
    one_task=True,
    denoiser="transformer",
    unit=16,
    steps=40,
    guidance=3.5,
    clips=Clips(frames=81, spacing=4, fps=16, size=(1280, 720)),
)
WAN = Family(
    name="Wan 2.1",
    pipelines=_WAN,
    one_task=True,
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=5.0,
    clips=Clips(frames=81, spacing=4, fps=16, size=(832, 480)),
)
_LTX_CALL = {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
_LTX_CLIPS = Clips(frames=161, spacing=8, fps=25, fps_argument="frame_rate", size=(704, 512), latents="packed")
LTX = Family(
    name="LTX-Video",
    pipelines={"text to video": "LTXPipeline", "image to video": "LTXImageToVideoPipeline"},
    denoiser="transformer",
    unit=32,
    steps=50,
    guidance=3.0,
    call=_LTX_CALL,
    clips=_LTX_CLIPS,
)
LTX_0_9_5 = Family(
    name="LTX-Video 0.9.5",
    pipelines={"text to video": "LTXConditionPipeline", "image to video": "LTXConditionPipeline"},
    denoiser="transformer",
    unit=32,
    steps=50,
    guidance=3.0,
    call=_LTX_CALL | {"image_cond_noise_scale": 0.025},
    clips=_LTX_CLIPS,
)
_LTX_2: Mapping[Task, str] = {"text to video": "LTX2Pipeline", "image to video": "LTX2ImageToVideoPipeline"}
_LTX_2_CLIPS = Clips(frames=121, spacing=8, fps=24, fps_argument="frame_rate", size=(768, 512), latents="packed")
LTX_2_3 = Family(
    name="LTX-2.3",
    pipelines=_LTX_2,
    told_by={"transformer.perturbed_attn": True},
    denoiser="transformer",
    unit=32,
    steps=30,
    guidance=3.0,
    clips=_LTX_2_CLIPS,
)
LTX_2 = Family(
    name="LTX-2",
    pipelines=_LTX_2,
    denoiser="transformer",
    unit=32,
    steps=40,
    guidance=4.0,
    call={
        **{"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0, "use_cross_timestep": False},
        **dict.fromkeys(("audio_guidance_scale", "audio_stg_scale", "audio_modality_scale", "audio_guidance_rescale")),
    },
    clips=_LTX_2_CLIPS,
)
_COGVIDEOX: Mapping[Task, str] = {
    "text to video": "CogVideoXPipeline",
    "image to video": "CogVideoXImageToVideoPipeline",
}
COGVIDEOX_1_5 = Family(
    name="CogVideoX 1.5",
    pipelines=_COGVIDEOX,
    told_by={"transformer.patch_size_t": 2},
    one_task=True,
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=6.0,
    clips=Clips(frames=81, spacing=8, fps=16, latents="frames first", padding=1),
)
COGVIDEOX = Family(
    name="CogVideoX",
    pipelines=_COGVIDEOX,
    one_task=True,
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=6.0,
    clips=Clips(frames=49, spacing=8, fps=8, latents="frames first"),
)
HUNYUAN_VIDEO = Family(
    name="HunyuanVideo",
    pipelines={"text to video": "HunyuanVideoPipeline", "image to video": "HunyuanVideoImageToVideoPipeline"},
    one_task=True,
    denoiser="transformer",
    unit=16,
    steps=50,
    guidance=6.0,  # which the transformer is told, so that it costs nothing
    negative_prompt=False,
    clips=Clips(frames=129, spacing=4, fps=24, size=(1280, 720)),
)
ANIMATEDIFF = Family(
    name="AnimateDiff",
    pipelines={"text to video": "AnimateDiffPipeline"},
    denoiser="unet",
    unit=8,
    steps=25,
    guidance=7.5,
    without=("safety_checker", "feature_extractor", "image_encoder", "motion_adapter"),
    clips=Clips(frames=16, fps=8),
)

FAMILIES = (
    *(SD_INPAINTING, SD_LCM, SD_TURBO, SD, LCM),
    *(SDXL_INPAINTING, SDXL_REFINER, SDXL_LCM, SDXL_TURBO, SDXL_LIGHTNING, SDXL),
    *(SD3_5, SD3),
    *(FLUX_SCHNELL, FLUX, FLUX_FILL, FLUX_KONTEXT, FLUX_2, FLUX_2_KLEIN, FLUX_2_KLEIN_BASE),
    *(QWEN_IMAGE, Z_IMAGE_TURBO, Z_IMAGE),
    *(SVD, WAN_5B, WAN_2_2, WAN, LTX, LTX_0_9_5, LTX_2_3, LTX_2, COGVIDEOX_1_5, COGVIDEOX, HUNYUAN_VIDEO, ANIMATEDIFF),
)
"""Of those with the same pipelines, the ones that something else tells apart stand before the one that nothing does."""


def family(name: str) -> Family:
    """The family of this name, which is one that a loader has written down."""
    return next(row for row in FAMILIES if row.name == name)


def own_figures(row: Family, *, steps: int | None, guidance: float | None) -> dict[str, float | str]:
    """What a sampler reports of the settings that are the model's own, which are None where others are asked for."""
    taken = {"steps": steps, "guidance scale": guidance}
    figures: dict[str, float | str] = {name: value for name, value in taken.items() if value is not None}
    return figures | {"family": row.name} if figures else {}


def family_of(pipeline: str, setting: Callable[[str], object]) -> Family | None:
    """The family of a folder that holds a pipeline of this class, if there is one.

    Args:
        setting: what the folder says, by the names of `Family.told_by`.
    """
    rows = (row for row in FAMILIES if pipeline in row.pipelines.values())
    return next((row for row in rows if all(setting(name) == value for name, value in row.told_by.items())), None)


def families(*, pictures: bool) -> str:
    """The names of the families of image or of video models, for messages."""
    return ", ".join(row.name for row in FAMILIES if row.makes_pictures == pictures)
