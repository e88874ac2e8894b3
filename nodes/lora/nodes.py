"""Nodes that load, apply, merge and save LoRAs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from engine.errors import InputError
from engine.models import resolve
from engine.node import Context, Node
from engine.values import Files, Image, ImageModel, LoRA, Media, TrainingOptions, VideoModel
from nodes.inputs import LoRAFile, Prefix, Seed, Side
from nodes.lora.training.settings import Layers, Optimiser, Precision, Preset, Schedule, require, settled
from nodes.lora.words import joined

Rank = Annotated[int, Field(ge=0, le=4096)]
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
    """The adapter, made for the same model."""
    strength: Strength = 1.0
    """Scale of the update, on top of the LoRA's own strength."""

    def run(self, ctx: Context) -> VideoModel:
        adapter = replace(self.lora, strength=self.lora.strength * self.strength)
        return replace(self.model, adapters=(*self.model.adapters, adapter))


def _check_sdxl(model: ImageModel, done: str) -> None:
    """Raise InputError if something can't be done with LoRAs of the model's family."""
    from nodes.diffusion.families import SDXL

    if model.family != SDXL.name:
        raise InputError(f"LoRAs of {model.family} can't be {done}", input="model", hint=f"take a model of {SDXL.name}")


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
        from nodes.diffusion.dtypes import trainable
        from nodes.diffusion.pipelines import pipeline_for
        from nodes.lora.ziplora import ZipSettings, zip_loras

        _check_sdxl(self.model, "merged so")
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
        pipeline = pipeline_for(ctx, trainable(self.model, ctx.device), "text to image")
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


Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10)]


class TrainedLoRA(NamedTuple):
    """A LoRA, and its mean squared error at fixed noise, on pictures that were held out if there are any."""

    lora: LoRA
    loss: float
    start_loss: float
    """That of the model without the LoRA."""


class LoRATrain(
    Node,
    version=2,
    category="lora",
    uses="device",
    libraries=("bitsandbytes", "pillow", "prodigyopt", "tokenizers"),
):
    """Train a LoRA on a few pictures of a subject, or in a style; the model stays as it is.

    A preset says how, and other inputs, if they are given, instead of it; `LoRATrainLayers`, `LoRATrainSteps` and
    `LoRATrainPictures` have the rarer ones. A run that was interrupted goes on where it was, to the same bits.
    """

    model: ImageModel
    """The model to train for, an SDXL in float32 or bfloat16; adapters applied to it stay active."""
    images: tuple[Image, ...]
    """The pictures, or batches of them. Their sizes may differ."""
    prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What all pictures show, with a word for what is learnt: "a photo of a snail". It comes before each caption."""
    captions: tuple[str, ...] = ()
    """What each picture shows, in their order; without any, the prompt alone is learnt."""
    preset: Preset = "paper"
    """Where settings come from that aren't given: ZipLoRA's paper, the examples for the training scripts of diffusers
    and of kohya's sd-scripts, or a short course for a first look."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Gradient steps; the preset's if none are given: 1000, 500, 1000, 150."""
    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rank of the matrices: 64, 4, 32, 8."""
    learning_rate: Rate | None = None
    """The optimiser's learning rate: 5e-5, 1e-4, 1e-4, 5e-4; of Prodigy 1, what its own is multiplied with."""
    options: TrainingOptions | None = None
    """Further settings, which come before the preset's."""
    words: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    """Trigger words by vocabulary slot, such as {"subject": ["snail"]}, which prompts must then contain."""
    name: Annotated[str, Field(min_length=1, max_length=200)] = "lora"
    """What the LoRA is called in its file."""
    held_out: Annotated[int, Field(ge=0, le=1000)] = 0
    """How many of the pictures, the last ones, aren't learnt from: the loss is measured on them."""
    sample_every: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Steps after which a picture is drawn as a preview, if someone watches; 0 draws none."""
    sample_prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What it shows; if empty, what the first picture shows."""
    seed: Seed = 0
    """Seed of the matrices at the start, of the noise and of the order of the pictures."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        if given.get("prompt") == "" and given.get("captions") == ():
            hint = "say in prompt what they show, or give captions"
            raise InputError("nothing says what the pictures show", input="prompt", hint=hint)
        if not given.get("options", True) and given.keys() >= {"preset", "steps"}:
            settled(given["preset"], {"steps": given["steps"]})

    def run(self, ctx: Context) -> TrainedLoRA:
        from nodes.diffusion.dtypes import trainable
        from nodes.diffusion.pipelines import pipeline_for
        from nodes.lora.training.run import Task, examples_of, train

        self.check_inputs({name: getattr(self, name) for name in self.spec.inputs})
        _check_sdxl(self.model, "trained")
        options = dict(self.options.given) if self.options else {}
        class_prompt, class_pictures = options.pop("class_prompt", ""), options.pop("class_pictures", None)
        own = ("steps", "rank", "learning_rate", "held_out", "seed")
        settings = settled(self.preset, options, {name: getattr(self, name) for name in own})
        examples = examples_of(self.images, self.prompt, self.captions)
        task = Task(
            self.name,
            self.words,
            class_prompt=class_prompt,
            class_pictures=class_pictures or 50,
            sample_prompt=self.sample_prompt,
            sample_every=self.sample_every,
        )
        pipeline = pipeline_for(ctx, trainable(self.model, ctx.device), "text to image")
        return TrainedLoRA(*train(ctx, pipeline, self.model, examples, settings, task))


def _with(options: TrainingOptions | None, node: Node) -> TrainingOptions:
    """Options with those that a node gives."""
    own = {name: getattr(node, name) for name in node.spec.inputs if name != "options"}
    before = dict(options.given) if options else {}
    return TrainingOptions(before | {name: value for name, value in own.items() if value not in (None, (), "")})


class LoRATrainLayers(Node, version=1, category="lora", uses="io"):
    """Choose which layers `LoRATrain` trains, and how their updates are built. What isn't given is the preset's."""

    options: TrainingOptions | None = None
    """Options that these are added to; where both say something, these count."""
    layers: Layers | None = None
    """Layers of the denoiser: projections of attention, all matrices of transformers, or convolutions too."""
    blocks: tuple[str, ...] = ()
    """Only layers in these blocks, such as "up_blocks.0" or "mid_block"; without any, in all."""
    text_encoders: bool | None = None
    """Train the attention of the text encoders too; captions are then encoded in each step."""
    alpha: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """The update is alpha / rank times the product of its matrices. Presets have the rank, kohya's half of it."""
    rslora: bool | None = None
    """Divide by the square root of the rank instead (arXiv 2312.03732)."""
    dora: bool | None = None
    """Train the lengths of the weights' rows apart from their directions (DoRA, arXiv 2402.09353)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of each layer's ranks that are left out, chosen anew for each picture and step."""
    max_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """The largest norm of a layer's update: after each step, larger ones are scaled down to it."""

    def run(self, ctx: Context) -> TrainingOptions:
        return _with(self.options, self)


class LoRATrainSteps(Node, version=1, category="lora", uses="io"):
    """Choose how `LoRATrain` descends: optimiser, rates, batches and memory. What isn't given is the preset's."""

    options: TrainingOptions | None = None
    """Options that these are added to; where both say something, these count."""
    optimiser: Optimiser | None = None
    """AdamW, the same with 8 bits of memory (needs bitsandbytes), Adafactor, or Prodigy (needs prodigyopt)."""
    schedule: Schedule | None = None
    """What the learning rate does after the warm-up: it stays, or falls to 0 as a cosine or a line."""
    warmup: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Steps in which the learning rate rises from 0."""
    text_learning_rate: Rate | None = None
    """The learning rate of text encoders."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] | None = None
    """How much of the matrices is taken away in each step, times the learning rate."""
    max_gradient_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Gradients that are longer are scaled down to this."""
    batch: Annotated[int, Field(ge=1, le=256)] | None = None
    """Pictures in each pass."""
    accumulation: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Batches that a step learns from: as a larger batch, but in the memory of one."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Return a moving average of the matrices, with this decay in each step, rather than the last ones."""
    precision: Precision | None = None
    """Compute in the model's own type, or in bfloat16 where torch's autocast does. Matrices stay in float32."""
    gradient_checkpointing: bool | None = None
    """Recompute activations instead of keeping them: slower, but in much less memory."""
    deterministic: bool | None = None
    """Give equal digits in every run on a GPU too, at some cost in speed."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        if optimiser := given.get("optimiser"):
            require(optimiser)

    def run(self, ctx: Context) -> TrainingOptions:
        return _with(self.options, self)


class LoRATrainPictures(Node, version=1, category="lora", uses="io"):
    """Choose how `LoRATrain` shows pictures, captions and noise. What isn't given is the preset's."""

    options: TrainingOptions | None = None
    """Options that these are added to; where both say something, these count."""
    resolution: Side | None = None
    """Pictures are scaled to about as many pixels as a square of this side; 0 is the model's own."""
    buckets: bool | None = None
    """Keep about the proportions of each picture, up to 1:4; otherwise the middle square is shown."""
    flip: bool | None = None
    """Show pictures mirrored half of the time."""
    crop_conditioning: bool | None = None
    """Tell the model each picture's own size and how it was cropped; otherwise, that it is whole."""
    shuffle_captions: bool | None = None
    """Put the parts of captions, between commas, in a new order each time; the prompt stays in front."""
    caption_dropout: Share | None = None
    """Share of captions left out, so that guidance keeps working."""
    class_prompt: Annotated[str, Field(json_schema_extra={"widget": "multiline"})] = ""
    """What the class of the subject is called in a prompt: "a photo of an animal". The model draws pictures of it,
    which are learnt too, so that not all of the class becomes the subject (DreamBooth's prior preservation)."""
    class_pictures: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many of these; 50 if it isn't said."""
    prior_weight: Annotated[float, Field(ge=0, le=100)] | None = None
    """Weight of the loss on these, beside that on the pictures."""
    snr_gamma: Annotated[float, Field(ge=0, le=1000)] | None = None
    """Weigh the loss by min(SNR, gamma) (arXiv 2303.09556): little noise counts less. 5 is usual, 0 is none."""
    noise_offset: Share | None = None
    """Noise that is the same everywhere in a picture, beside that of each place: for very dark and bright ones."""

    def run(self, ctx: Context) -> TrainingOptions:
        return _with(self.options, self)


class LoRAMerge(Node, version=1, category="lora", uses="device"):
    """Merge any number of LoRAs into one without training, by a published method.

    `sum` adds them, times their weights (task arithmetic, arXiv 2212.04089). `average` divides that by the sum of the
    weights (model soups, arXiv 2203.05482). `svd` cuts the sum to a rank. `magnitude_prune` adds only the largest
    elements of each. `ties` averages, of the largest elements, those that have the elected sign (arXiv 2306.01708).
    `dare` adds elements by chance, rescaled (arXiv 2311.03099), and `dare_ties` elects signs among these. Each is done
    layer by layer, as in PEFT.
    """

    first: tuple[LoRA, ...]
    """A LoRA, or a list of them. All are of one base model, with two matrices a layer; their strengths count."""
    second: tuple[LoRA, ...] = ()
    """More of them."""
    third: tuple[LoRA, ...] = ()
    """More of them."""
    fourth: tuple[LoRA, ...] = ()
    """More of them."""
    weights: tuple[Annotated[float, Field(ge=-10, le=10)], ...] = ()
    """A weight for each, in the same order; none for 1 each."""
    method: Literal["sum", "average", "svd", "magnitude_prune", "ties", "dare", "dare_ties"] = "sum"
    """How they are merged."""
    density: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The share of each layer's elements that magnitude_prune, ties, dare and dare_ties keep."""
    rank: Rank = 0
    """The largest rank of the result's layers. 0: what `sum` and `average` need to be exact, the LoRAs' largest for the
    other methods."""
    seed: Seed = 0
    """Seed of the elements that dare and dare_ties keep."""

    def run(self, ctx: Context) -> LoRA:
        from nodes.lora.merging import MergeSettings, merged_loras
        from nodes.lora.truncation import Limit, figures

        loras = (*self.first, *self.second, *self.third, *self.fourth)
        settings = MergeSettings(self.method, self.density, Limit(self.rank), self.seed)
        lora, losses = merged_loras(loras, self.weights, settings, ctx.device, ctx.progress)
        ctx.report(figures(losses))
        return lora


class LoRAResize(Node, version=1, category="lora"):
    """Give the layers of a LoRA a lower rank, and so a smaller file.

    Each layer gets the nearest update that there is, by the singular values of its two matrices' product (Eckart and
    Young 1936), and what that loses is reported. Layers whose rank is low enough stay as they are.
    """

    lora: LoRA
    """The LoRA, with two matrices a layer."""
    rank: Rank = 16
    """The largest rank of a layer; 0: only `keep` counts."""
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of a layer's norm for which a rank is enough, though it be smaller."""

    def run(self, ctx: Context) -> LoRA:
        from nodes.lora.resizing import resized
        from nodes.lora.truncation import Limit, figures

        lora, losses = resized(self.lora, Limit(self.rank, self.keep), ctx.progress)
        ctx.report(figures(losses))
        return lora


class LoRAExtract(Node, version=1, category="lora", uses="device"):
    """Make a LoRA of the difference between a model and the one that it was trained from.

    Each layer of the UNet and its text encoders, or of the transformer, convolutions too, gets the nearest update of
    the rank, by singular values. Weights are read from the safetensors files one by one, so neither model is loaded.
    What differs in biases, norms and embeddings is no part of it, and the node says so; the VAE isn't compared.
    """

    base: ImageModel | VideoModel
    """The model before."""
    tuned: ImageModel | VideoModel
    """The model after, of the same family; LoRAs that are applied to either don't count and are refused."""
    rank: Annotated[int, Field(ge=1, le=4096)] = 32
    """The largest rank of a layer."""
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of a layer's norm for which a rank is enough, though it be smaller."""
    name: str = "extracted"
    """The LoRA's name."""

    def run(self, ctx: Context) -> LoRA:
        from nodes.loading import unchanged
        from nodes.lora.extraction import check_models, extracted
        from nodes.lora.truncation import Limit, figures

        check_models(self.base, self.tuned)
        limit = Limit(self.rank, self.keep)
        with unchanged(self.base.source, self.base.identity), unchanged(self.tuned.source, self.tuned.identity):
            lora, losses, beside = extracted(self.base, self.tuned, limit, self.name, ctx.device, ctx.progress)
        if beside:
            ctx.text(f"{len(beside)} biases, norms or embeddings differ too, such as {beside[0]}, and are left out\n")
        ctx.report(figures(losses))
        return lora


class Inspected(NamedTuple):
    """What a LoRA is made of."""

    report: str
    """In Markdown: form, base model, trigger words, a table of all layers, and the file's metadata."""
    plot: Image
    """The norms of the layers' updates, or of blocks of many."""


class LoRAInspect(Node, version=2, category="lora", uses="io", libraries=("pillow",)):
    """Show what a LoRA is made of: its form, ranks, alphas and norms by layer, its base model, trigger words and
    metadata.
    """

    lora: LoRA | None = None
    """The LoRA, or none if a file is given."""
    file: LoRAFile | None = None
    """Its file or folder, which says more: alphas and metadata."""
    other: LoRA | None = None
    """Another one to compare it with, such as the one that it was resized from: adds how far each layer is from it."""

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        there = [name for name in ("lora", "file") if given.get(name, "linked") is not None]
        if not there:
            raise InputError("there is no LoRA to inspect", input="lora", hint="link one, or give a file")
        if len(there) > 1:
            raise InputError("a LoRA and a file are both given", input="file", hint="leave one of them out")

    def run(self, ctx: Context) -> Inspected:
        from nodes.lora.inspection import bars_of, layers_of, report
        from nodes.lora.plot import bar_plot
        from nodes.lora.reading import ReadLoRA, read_file

        self.check_inputs({"lora": self.lora, "file": self.file})
        if self.lora is not None:
            read = ReadLoRA(self.lora, {}, {})
        else:
            path = resolve(str(self.file), progress=lambda done, total: ctx.progress(done, total, unit="B"))
            read = read_file(path, ctx.text)
        layers = layers_of(read.lora, read.alphas, self.other)
        title = f"Norm of each layer's update: {read.lora.name}"
        bars = bars_of(layers)
        if len(bars) < len(layers):
            title = f"Norm of each block's update: {read.lora.name}"
        return Inspected(report(read.lora, layers, read.header), bar_plot(title, bars, "depends on the model"))


class LoRASave(Node, version=3, category="lora", uses="io", saves="lora"):
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
