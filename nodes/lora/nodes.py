"""Nodes that load, apply, merge and save LoRAs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from engine.errors import InputError
from engine.models import resolve
from engine.node import Context, Node
from engine.values import Files, ImageModel, LoRA, Media, VideoModel
from nodes.inputs import LoRAFile, Prefix, Seed
from nodes.lora.words import joined

Strength = Annotated[float, Field(ge=-4, le=4)]
Prompt = Annotated[str, Field(min_length=1, json_schema_extra={"widget": "multiline"})]


class LoRALoad(Node, version=5, category="lora", uses="io"):
    """Load a LoRA from a safetensors file, as written by kohya's trainers, diffusers, PEFT, LyCORIS or others.

    LoHa, LoKr, GLoRA, OFT, IA³, DoRA and full differences can be applied too. Trigger words are read from the file's
    header: those that Kinograph writes, a trigger phrase, or the tags that all training pictures had.
    """

    file: LoRAFile
    """The adapter, or a folder: one that PEFT saved, or that holds no other file. Its contents, not its name, enter the
    cache key."""
    strength: Strength = 1.0
    """Scale of the update; negative values subtract the concept."""
    words: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    """Trigger words by vocabulary slot, such as {"subject": ["snail"]}, instead of the file's."""

    def run(self, ctx: Context) -> LoRA:
        from nodes.lora.reading import read_lora

        path = resolve(self.file, progress=lambda done, total: ctx.progress(done, total, unit="B"))
        lora = read_lora(path, ctx.text)
        return replace(lora, strength=self.strength, words=self.words or lora.words)


class LoRAApply(Node, version=2, category="lora", uses="io"):
    """Add a LoRA to an image model, after any that it already has.

    This only records the adapter; it is applied while a node samples from the model, so one base model in memory serves
    any number of adapted ones. Prompts must contain the LoRA's words. They join the model's vocabulary, if it has one:
    a model without one knows all words.
    """

    model: ImageModel
    """The model to adapt."""
    lora: LoRA
    """The adapter."""
    strength: Strength = 1.0
    """Scale of the update, on top of the LoRA's own strength."""

    def run(self, ctx: Context) -> ImageModel:
        adapter = replace(self.lora, strength=self.lora.strength * self.strength)
        known = self.model.vocabulary
        slots = joined(known.slots, adapter.words) if known.slots else known.slots
        vocabulary = replace(known, slots=slots, required=joined(known.required, adapter.words))
        return replace(self.model, adapters=(*self.model.adapters, adapter), vocabulary=vocabulary)


class LoRAApplyToVideo(Node, version=1, category="lora", uses="io"):
    """Add a LoRA to a video model, after any that it already has; it is applied while a node samples from the model."""

    model: VideoModel
    """The model to adapt."""
    lora: LoRA
    """The adapter, made for Stable Video Diffusion."""
    strength: Strength = 1.0
    """Scale of the update, on top of the LoRA's own strength."""

    def run(self, ctx: Context) -> VideoModel:
        adapter = replace(self.lora, strength=self.lora.strength * self.strength)
        return replace(self.model, adapters=(*self.model.adapters, adapter))


class Zipped(NamedTuple):
    """A merged LoRA, and reconstruction losses on held-out noise, relative to the model without LoRAs."""

    lora: LoRA
    loss: float
    direct_loss: float
    """Of the plain sum of both."""
    scaled_loss: float
    """Of the best weighted sum of both."""


class ZipLoRAMerge(Node, version=1, category="lora", uses="device", libraries=("tokenizers",)):
    """Merge a subject LoRA and a style LoRA into one that draws the subject in the style.

    ZipLoRA (arXiv 2311.13600) learns a scale for each column of both updates, so that the merged model predicts what
    each LoRA's own model predicts from its prompt, and the two interfere as little as possible. It learns from pictures
    that each LoRA draws from its prompt.
    """

    model: ImageModel
    """The base model of both LoRAs; adapters applied to it stay active."""
    subject: LoRA
    """The LoRA of a subject."""
    style: LoRA
    """The LoRA of a style."""
    subject_prompt: Prompt
    """A prompt for the subject, with its trigger word and without the style's: "a photo of a snail"."""
    style_prompt: Prompt
    """A prompt for the style, with its trigger word and without the subject's: "a house in mosaic style"."""
    steps: Annotated[int, Field(ge=0, le=1000)] = 100
    """Gradient steps; the paper takes at most 100. After a closed-form start 20 reach a lower loss."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Adam's learning rate."""
    penalty: Annotated[float, Field(ge=0, le=100)] = 0.01
    """Weight of the overlap between the two sets of scales; 0 only reconstructs."""
    start: Literal["ones", "closed-form"] = "ones"
    """Where the scales start: at 1 as in the paper, or at each layer's least-squares fit, whose lower loss
    isn't a better picture."""
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    """Noisy latents of each LoRA per step."""
    pictures: Annotated[int, Field(ge=1, le=64)] = 4
    """How many reference pictures each LoRA draws; they are drawn as one batch, so fewer take less memory."""
    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Denoising steps for each of these pictures."""
    guidance_scale: Annotated[float, Field(ge=1, le=50)] = 5.0
    """Weight of the prompt in these pictures."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them: slower, but in much less memory."""
    deterministic: bool = False
    """Give equal digits in every run on a GPU too, at some cost in speed; otherwise the last ones vary there."""
    seed: Seed = 0
    """Seed of the pictures and of the noise."""

    def run(self, ctx: Context) -> Zipped:
        from nodes.diffusion.adapters import applied
        from nodes.diffusion.families import SDXL
        from nodes.diffusion.pipelines import pipeline_for
        from nodes.lora.ziplora import ZipSettings, zip_loras

        if self.model.family != SDXL.name:
            message = f"LoRAs of {self.model.family} can't be merged so"
            raise InputError(message, input="model", hint=f"it works with {SDXL.name}; LoRAApply adds several LoRAs")
        settings = ZipSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            penalty=self.penalty,
            batch=self.batch,
            start=self.start,
            pictures=self.pictures,
            sampling_steps=self.sampling_steps,
            guidance_scale=self.guidance_scale,
            gradient_checkpointing=self.gradient_checkpointing,
            deterministic=self.deterministic,
            seed=self.seed,
        )
        pipeline = pipeline_for(ctx, self.model, "text to image")
        with applied(pipeline, self.model.adapters):
            lora, report = zip_loras(
                pipeline,
                self.subject,
                self.style,
                settings,
                subject_prompt=self.subject_prompt,
                style_prompt=self.style_prompt,
                progress=ctx.progress,
            )
        return Zipped(lora, report.merged, report.direct, report.scaled)


class LoRASave(Node, version=2, category="lora", uses="io", saves="lora"):
    """Save a LoRA, with its strength folded in and its trigger words in the header."""

    lora: LoRA
    """The adapter."""
    filename_prefix: Prefix = "lora"
    """The start of the file's name; `folder/name` saves into a folder below the output folder."""
    format: Literal["kohya", "peft"] = "kohya"
    """How layers are named: ComfyUI, A1111 and diffusers read kohya's names, diffusers reads PEFT's."""

    def run(self, ctx: Context) -> Files:
        from nodes.lora.formats import write_lora

        return Files((Media(write_lora(self.lora, self.format), "safetensors", self.filename_prefix),))
