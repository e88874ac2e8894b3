"""Drawing pictures with diffusers' pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import InputError
from engine.values import Image
from nodes.diffusion.adapters import applied
from nodes.diffusion.dtypes import chosen_dtype
from nodes.diffusion.families import Family, Task, family, own_figures
from nodes.diffusion.latents import samples
from nodes.diffusion.pipelines import pipeline_for
from nodes.diffusion.pixels import check_finite, to_pillow
from nodes.diffusion.precision import precision_kept
from nodes.diffusion.preview import StepCallback, decode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from engine.node import Context
    from engine.values import ImageModel


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Pictures to draw; 0 and None stand for what is the model's own."""

    prompt: str
    negative_prompt: str
    seeds: Sequence[int]
    """Of the noise of each picture."""
    steps: int
    guidance: float
    width: int
    height: int
    image: Image | None
    """What is drawn over: a picture for all, or one for each."""
    mask: Image | None
    """Where: a picture of the image's size for all, or one for each; white is drawn anew."""
    strength: float
    """How much of the way to pure noise the image is taken."""

    @property
    def task(self) -> Task:
        """What a pipeline is needed for."""
        if self.mask is not None:
            return "inpainting"
        return "text to image" if self.image is None else "image to image"


def draw(ctx: Context, model: ImageModel, drawing: Drawing) -> Image:
    """Draw one picture per seed, with the model's adapters applied.

    Pictures are drawn one after the other, not as a batch: they take the memory of one, and no picture depends on which
    others are drawn, not even through the rounding of batched kernels.

    Raises:
        Cancelled: the run was cancelled; no further step is taken.
        InputError: the model can't do what is asked for, or an adapter doesn't fit it.
        NodeError: the result is not finite.
    """
    row = family(model.family)
    row.pipeline_for(drawing.task)  # before anything is loaded
    steps = drawing.steps or model.steps or row.steps
    options = {**row.call, **_guided(row, model, drawing), **_sized(row, drawing), **_strength(row, drawing, steps)}
    pipeline = pipeline_for(ctx, model, drawing.task)
    _check_steps(pipeline, options, steps)
    own = own_figures(
        row,
        steps=None if drawing.steps else steps,
        guidance=None if drawing.guidance else model.guidance or row.guidance,
    )
    if own:
        ctx.report(own)
    size = _size_of(pipeline, options)
    pictures: list[Tensor] = []
    with applied(pipeline, model.adapters), precision_kept(pipeline.vae):
        for index, seed in enumerate(drawing.seeds):
            (drawn,) = pipeline(
                prompt=drawing.prompt,
                num_inference_steps=steps,
                generator=torch.Generator().manual_seed(seed),
                output_type="latent" if drawing.task in row.undecoded else "pt",
                callback_on_step_end=StepCallback(ctx, model, steps, index=index, count=len(drawing.seeds), size=size),
                **options,
                **_pictures_of(row, drawing, index),
            ).images
            if drawing.task in row.undecoded:
                (drawn,) = decode(pipeline.vae, samples(pipeline.vae, drawn[None]))
            pictures.append(drawn.float())
    return Image(check_finite(torch.stack(pictures), chosen_dtype(model, ctx.device)))


def _guided(row: Family, model: ImageModel, drawing: Drawing) -> dict[str, Any]:
    """The arguments that weigh the prompt; raises InputError if the family lacks one that is asked for."""
    own = model.guidance or row.guidance
    scale = drawing.guidance or own
    if row.guidance_is_fixed and scale != own:
        raise InputError(
            f"{row.name} is trained for one guidance scale",
            input="guidance_scale",
            hint="leave it out, or give 0, which is the model's own",
        )
    options: dict[str, Any] = {row.guidance_argument: scale - row.guidance_offset}
    if row.negative_prompt:
        options["negative_prompt"] = (drawing.negative_prompt or row.no_negative_prompt) if scale > 1 else None
    elif drawing.negative_prompt:
        raise InputError(f"{row.name} takes no negative prompt", input="negative_prompt", hint="leave it empty")
    return options


def _sized(row: Family, drawing: Drawing) -> dict[str, Any]:
    """The arguments for the size; raises InputError if it doesn't suit the family or the pictures to draw over."""
    asked = size = drawing.width, drawing.height
    if drawing.image is not None:
        size = _size(drawing.image)
        if _is_edited(row, drawing):
            if min(size) < row.smallest_image:
                message = f"{row.name} takes images of at least {row.smallest_image} pixels a side"
                raise InputError(message, input="image", hint="make it larger, with ImageScale for example")
            size = asked[0] or size[0], asked[1] or size[1]
        elif any(side and side != own for side, own in zip(asked, size, strict=True)):
            raise InputError(
                f"the image has {size[0]} × {size[1]} pixels, which is the size of what is drawn over it",
                input="width" if asked[0] and asked[0] != size[0] else "height",
                hint="leave width and height out; ImageScale changes the size of the image",
            )
        _check_alike(drawing.image, drawing.mask, len(drawing.seeds))
    if any(side % row.unit for side in size):
        near = " × ".join(str(max(1, round(side / row.unit)) * row.unit) for side in size if side)
        name = "width" if size[0] % row.unit else "height"
        message = f"{row.name} draws sizes that are multiples of {row.unit} pixels"
        raise InputError(message, input=name if size == asked else "image", hint=f"take {near}, for example")
    area = {row.area_argument: size[0] * size[1]} if row.area_argument and all(size) else {}
    return {"width": size[0] or None, "height": size[1] or None} | area


def _is_edited(row: Family, drawing: Drawing) -> bool:
    """Whether the image is what the prompt is about, instead of what the sampling begins with."""
    return drawing.image is not None and drawing.task not in row.strengths


def _size_of(pipeline: Any, options: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels of what a pipeline draws, its own where none are given; 0 where it doesn't say."""
    own = getattr(pipeline, "default_sample_size", 0) * pipeline.vae_scale_factor
    return options["width"] or own, options["height"] or own


def _check_alike(image: Image, mask: Image | None, count: int) -> None:
    """Raise InputError unless there is one image, and one mask, for all pictures or for each, all of the same size."""
    for name, given in (("image", image), ("mask", mask)):
        if given is not None and len(given.pixels) not in (1, count):
            raise InputError(
                f"there are {len(given.pixels)} pictures for {count} to draw",
                input=name,
                hint=f"give one for all, or set count to {len(given.pixels)}",
            )
    if mask is not None and _size(mask) != _size(image):
        (width, height), (own_width, own_height) = _size(mask), _size(image)
        raise InputError(
            f"the mask has {width} × {height} pixels, the image {own_width} × {own_height}",
            input="mask",
            hint="give one of the image's size; ImageScale changes sizes",
        )


def _size(image: Image) -> tuple[int, int]:
    """Width and height."""
    height, width = image.pixels.shape[2:]
    return width, height


def _strength(row: Family, drawing: Drawing, steps: int) -> dict[str, float]:
    """The argument for how far the image is taken to noise; raises InputError if no step would be left."""
    if drawing.task not in row.strengths:
        if drawing.strength:
            message = f"{row.name} changes an image as the prompt says, and takes no strength"
            raise InputError(message, input="strength", hint="leave it out")
        return {}
    strength = drawing.strength or row.strengths[drawing.task]
    if steps * strength < 1:
        raise InputError(
            f"with strength {strength:g} none of {steps} steps is left to take",
            input="strength",
            hint="take more steps, or more strength",
        )
    return {"strength": strength}


def _check_steps(pipeline: Any, options: Mapping[str, Any], steps: int) -> None:
    """Raise InputError for more steps than a consistency model takes: they are some of those it was distilled of.

    Pipelines that are made for such models take fewer over a picture, according to the strength.
    """
    if (original := pipeline.scheduler.config.get("original_inference_steps")) is None:
        return
    own = type(pipeline).__name__.startswith("LatentConsistencyModel")
    most = int(original * options.get("strength", 1.0)) if own else original
    if steps > most:
        over = f" with strength {options['strength']:g}" if most < original else ""
        raise InputError(
            f"the model takes {most} steps at most{over}, not {steps}",
            input="steps",
            hint=f"give {most} or fewer{', or more strength' if over else ''}",
        )


def _pictures_of(row: Family, drawing: Drawing, index: int) -> dict[str, Any]:
    """What the picture of an index is drawn over: pixels (1, 3, H, W) and the mask (1, 1, H, W), in [0, 1].

    An image that is edited is given with 8 bits, as from a file: pipelines scale it, and do so best in that form.
    """
    given: dict[str, Any] = {}
    if drawing.image is not None:
        pixels = _one_of(drawing.image.pixels, index)
        given["image"] = to_pillow(pixels[0]) if _is_edited(row, drawing) else pixels
    if drawing.mask is not None:
        given["mask_image"] = _one_of(drawing.mask.pixels, index).mean(dim=1, keepdim=True)
    return given


def _one_of(pixels: Tensor, index: int) -> Tensor:
    return pixels if len(pixels) == 1 else pixels[index : index + 1]
