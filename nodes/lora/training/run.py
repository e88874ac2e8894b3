"""A node's training: class pictures, steps, states that are kept, and what people are told meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import Cancelled, InputError
from engine.values import Image
from nodes.diffusion.adapters import applied
from nodes.diffusion.pixels import check_finite
from nodes.lora.determinism import deterministic
from nodes.lora.training.loop import training
from nodes.lora.training.pictures import Example, enlarged
from nodes.lora.training.state import Kept, identity_of
from nodes.lora.training.watching import Watch, drawn

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline

    from engine.node import Context
    from engine.values import ImageModel, LoRA
    from nodes.lora.training.settings import TrainingSettings

KEEP_SECONDS = 120.0
"""A training keeps its state at most this often, since it may be large."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learnt, beside the settings of how."""

    name: str
    words: Mapping[str, tuple[str, ...]]
    class_prompt: str = ""
    """What pictures of the subject's class show; empty for none."""
    class_pictures: int = 50
    sample_prompt: str = ""
    sample_every: int = 0


class Trained(NamedTuple):
    """A LoRA, and its mean squared error at fixed noise, on pictures that were held out if there are any."""

    lora: LoRA
    loss: float
    start_loss: float
    """That of the model without the LoRA."""


def examples_of(images: Sequence[Image], prompt: str, captions: Sequence[str]) -> list[Example]:
    """The pictures of batches with their captions.

    Raises:
        InputError: there is no picture, not a caption for each, or nothing is said of one.
    """
    pictures = [picture for batch in images for picture in batch.pixels]
    if not pictures:
        raise InputError("there are no pictures to train on", input="images", hint="give at least one")
    if captions and len(captions) != len(pictures):
        raise InputError(
            f"there are {len(captions)} captions for {len(pictures)} pictures",
            input="captions",
            hint="give one for each picture, or none and a prompt",
        )
    said = [" ".join(caption.split()) for caption in captions] or [""] * len(pictures)
    lead = " ".join(prompt.split())
    if not lead and (number := next((at for at, caption in enumerate(said, 1) if not caption), 0)):
        raise InputError(
            f"picture {number} has no caption", input="prompt", hint="say in prompt what the pictures show"
        )
    return [Example(picture, caption, lead) for picture, caption in zip(pictures, said, strict=True)]


def train(
    ctx: Context,
    pipeline: StableDiffusionXLPipeline,
    model: ImageModel,
    examples: Sequence[Example],
    settings: TrainingSettings,
    task: Task,
) -> Trained:
    """Train a LoRA for a model, with its adapters active. An interrupted training goes on where it was.

    Raises:
        InputError: the pictures, the settings or the model don't do.
        NodeError: the training came to values that are not finite.
        Cancelled: the run was cancelled, within a step at the latest layer.
    """

    def tick() -> None:
        if ctx.cancelled():
            raise Cancelled

    if settings.dora and model.adapters:
        message = "a DoRA scales the model's own weights, and this one has LoRAs applied, which it can't scale"
        raise InputError(message, input="model", hint="train it on the model without them, or a plain LoRA")
    with applied(pipeline, model.adapters):
        with deterministic(settings.deterministic):
            prior = _class_examples(ctx, pipeline, model, settings, task, tick)
        with training(pipeline, examples, settings, prior=prior, tick=tick) as course:
            if few := enlarged(course.own):
                ctx.text(f"{few} of {len(course.own.examples)} pictures are enlarged\n")
            start = course.measure()
            identity = repr((identity_of(model, [*examples, *prior]), settings))
            kept = Kept(ctx, identity, settings.steps)
            begun = kept.resume(course.descent)
            prompt = task.sample_prompt or course.own.plain(0).captions[0]
            watch = Watch(ctx, pipeline, course, begun, prompt, task.sample_every)
            since = time.perf_counter()
            for step in range(begun, settings.steps):
                watch.before(step)
                loss = course.step(step)
                watch.after(step, loss)
                if step + 1 in kept.boundaries and step + 1 < settings.steps:
                    watch.measured = course.measure()
                    ctx.text(f"step {step + 1} of {settings.steps}: loss {loss:.4f}, {_told(course, watch)}\n")
                    if (seconds := time.perf_counter() - since) >= KEEP_SECONDS:
                        kept.keep(course.descent, step + 1, seconds)
                        since = time.perf_counter()
            course.descent.finish()
            watch.measured = course.measure()
            watch.report(settings.steps)
            return Trained(course.network.lora(task.name, task.words), watch.measured, start)


def _told(course: Any, watch: Watch) -> str:
    where = "held out" if course.held_out else "at fixed noise"
    return f"{where} {watch.measured:.4f}"


def _class_examples(
    ctx: Context,
    pipeline: StableDiffusionXLPipeline,
    model: ImageModel,
    settings: TrainingSettings,
    task: Task,
    tick: Callable[[], None],
) -> list[Example]:
    """Pictures of the subject's class, which the model itself draws; each is kept when it is done."""
    if not task.class_prompt:
        return []
    about = repr((identity_of(model, []), task.class_prompt, settings.resolution, settings.seed))
    name = f"class picture {sha256(about.encode()).hexdigest()}"
    pictures = []
    for index in range(task.class_pictures):
        ctx.progress(index, task.class_pictures, unit="picture")
        found = ctx.recall(f"{name} {index}")
        if found is None:
            started = time.perf_counter()
            seed = settings.seed + 1 + index  # not that of the sample pictures
            image = drawn(pipeline, task.class_prompt, settings.resolution, seed, tick)
            check_finite(image.pixels, model.dtype)
            found = (image,)
            ctx.keep(f"{name} {index}", found, time.perf_counter() - started)
        pictures.append(found[0].pixels[0])
    return [Example(picture, task.class_prompt) for picture in pictures]
