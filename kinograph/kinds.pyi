"""The kinds of node that come with Kinograph, as methods of `Graph`. `kinograph.stubs` writes this file."""

# ruff: noqa: E501, N802
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kinograph.handles import Handle, Outlet

_Link = Handle | Outlet
_Mode = Literal["", "mute", "bypass"]
_Partial = Literal["", "allow", "fail"]

class _EloThreshold(Handle):
    percent: Outlet
    rule: Outlet
    ratings: Outlet

class _LVDCurate(Handle):
    clips: Outlet
    videos: Outlet

class _LoRAInspect(Handle):
    report: Outlet
    plot: Outlet

class _LoRATrain(Handle):
    lora: Outlet
    loss: Outlet
    start_loss: Outlet

class _LoadImage(Handle):
    out: Outlet
    mask: Outlet

class _LoadPictures(Handle):
    images: Outlet
    captions: Outlet

class _LookaheadDecode(Handle):
    text: Outlet
    tokens: Outlet

class _MedusaTrain(Handle):
    heads: Outlet
    loss: Outlet
    tokens_per_pass: Outlet

class _PromptWriter(Handle):
    prompts: Outlet
    negative_prompt: Outlet

class _VideoFrameFilter(Handle):
    kept: Outlet
    table: Outlet
    sheet: Outlet

class _VideoFrames(Handle):
    images: Outlet
    fps: Outlet

class _ZipLoRAMerge(Handle):
    lora: Outlet
    loss: Outlet
    direct_loss: Outlet
    scaled_loss: Outlet

class Kinds:
    def ChatMessage(
        self,
        *,
        content: str | _Link,
        role: Literal["system", "user", "assistant"] | _Link = "user",
        messages: Sequence[Any] | _Link = ...,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Add a message to a conversation with a language model, or begin one."""

    def CompareNumbers(
        self,
        *,
        a: float | _Link,
        relation: Literal["<", "≤", "=", "≠", "≥", ">"] | _Link = "<",
        b: float | _Link = 0.0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Compare two numbers, to control a Switch."""

    def ContactSheet(
        self,
        *,
        video: _Link,
        columns: int | _Link = 7,
        gap: int | _Link = 1,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Lay out the frames of a video in one picture, row by row."""

    def CreateVideo(
        self,
        *,
        images: _Link,
        fps: float | _Link = 30.0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make a video from a batch of pictures, its frames in order."""

    def EloThreshold(
        self,
        *,
        votes: str | _Link,
        column: str | _Link = "motion",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _EloThreshold:
        """Choose a filter's threshold from votes between results: the percentage with the highest Elo rating."""

    def EmptyImage(
        self,
        *,
        width: int | _Link = 512,
        height: int | _Link = 512,
        batch_size: int | _Link = 1,
        color: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make pictures of one colour."""

    def ImageGrid(
        self,
        *,
        images: _Link,
        columns: int | _Link = 0,
        gap: int | _Link = 2,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Put pictures of the same size side by side, in rows, on white."""

    def ImageModelLoad(
        self,
        *,
        source: str | Path,
        dtype: Literal["auto", "float32", "float16", "bfloat16"] | _Link = "auto",
        prediction: Literal["auto", "epsilon", "v_prediction"] | _Link = "auto",
        rest: str | Path | None = None,
        vae: str | Path | None = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose a model that draws pictures: a folder in diffusers' layout, or a single file."""

    def ImageScale(
        self,
        *,
        image: _Link,
        upscale_method: Literal["nearest-exact", "bilinear", "area", "bicubic", "lanczos"] | _Link = "nearest-exact",
        width: int | _Link = 512,
        height: int | _Link = 512,
        crop: Literal["disabled", "center"] | _Link = "disabled",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make pictures larger or smaller."""

    def ImageUpscale(
        self,
        *,
        model: _Link,
        image: _Link,
        scale: float | _Link = 0.0,
        tile: int | _Link = 0,
        overlap: int | _Link = 40,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make pictures larger with a model that draws in what they lack."""

    def JoinVideos(
        self,
        *,
        first: _Link,
        second: _Link = ...,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Play videos of the same size and frame rate one after another."""

    def KeyframeSampler(
        self,
        *,
        model: _Link,
        prompt: str | _Link,
        negative_prompt: str | _Link = "",
        count: int | _Link = 1,
        steps: int | _Link = 0,
        guidance_scale: float | _Link = 0.0,
        width: int | _Link = 0,
        height: int | _Link = 0,
        seed: int | _Link = 0,
        image: _Link | None = None,
        mask: _Link | None = None,
        strength: float | _Link = 0.0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Draw pictures from a prompt, from nothing or over a picture."""

    def LLMLoad(
        self,
        *,
        source: str | Path,
        dtype: Literal["float32", "float16", "bfloat16"] | _Link = "float32",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose a language model: a transformers folder with safetensors, or a GGUF file, which is unpacked once."""

    def LVDCurate(
        self,
        *,
        videos: str | Path,
        rules: str | _Link = "no duplicates\nno damage",
        cuts: Literal["cascade", "transnet", "both"] | _Link = "cascade",
        shortest: float | _Link = 1.0,
        longest: float | _Link = 0.0,
        at_key_frames: bool | _Link = False,
        find_text: bool | _Link = True,
        text_detector: Literal["ppocr", "craft"] | _Link = "ppocr",
        craft: str | Path | None = None,
        clip: str | Path | None = None,
        aesthetics: str | Path | None = None,
        image_captioner: str | Path | None = None,
        video_captioner: str | Path | None = None,
        llm: _Link | None = None,
        summarise: str | _Link = ...,
        processes: int | _Link = 0,
        on_ray: bool | _Link = False,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _LVDCurate:
        """Find the clips in raw videos, score and caption them, and filter them, as for Stable Video Diffusion's Large Video Dataset (arXiv 2311.15127)."""

    def LoRAApply(
        self,
        *,
        model: _Link,
        lora: _Link,
        strength: float | _Link = 1.0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Add a LoRA to an image model, after any that it already has."""

    def LoRAApplyToVideo(
        self,
        *,
        model: _Link,
        lora: _Link,
        strength: float | _Link = 1.0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Add a LoRA to a video model, after any that it already has; it is applied while a node samples from the model."""

    def LoRAExtract(
        self,
        *,
        base: _Link,
        tuned: _Link,
        rank: int | _Link = 32,
        keep: float | _Link = 1.0,
        name: str | _Link = "extracted",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make a LoRA of the difference between a model and the one that it was trained from."""

    def LoRAInspect(
        self,
        *,
        lora: _Link | None = None,
        file: str | Path | None = None,
        other: _Link | None = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _LoRAInspect:
        """Show what a LoRA is made of: its form, ranks, alphas and norms by layer, its base model, trigger words and metadata."""

    def LoRALoad(
        self,
        *,
        file: str | Path,
        strength: float | _Link = 1.0,
        words: Any | _Link = ...,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Load a LoRA from a safetensors file, as written by kohya's trainers, diffusers, PEFT, LyCORIS or others."""

    def LoRAMerge(
        self,
        *,
        first: _Link,
        second: _Link = ...,
        third: _Link = ...,
        fourth: _Link = ...,
        weights: Sequence[Any] | _Link = ...,
        method: Literal["sum", "average", "svd", "magnitude_prune", "ties", "dare", "dare_ties"] | _Link = "sum",
        density: float | _Link = 0.2,
        rank: int | _Link = 0,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Merge any number of LoRAs into one without training, by a published method."""

    def LoRAResize(
        self,
        *,
        lora: _Link,
        rank: int | _Link = 16,
        keep: float | _Link = 1.0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Give the layers of a LoRA a lower rank, and so a smaller file."""

    def LoRASave(
        self,
        *,
        lora: _Link,
        filename_prefix: str | _Link = "lora",
        format: Literal["kohya", "peft"] | _Link = "kohya",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save a LoRA, with its strength folded in and its trigger words in the header."""

    def LoRATrain(
        self,
        *,
        model: _Link,
        images: _Link,
        prompt: str | _Link = "",
        captions: Sequence[str] | _Link = ...,
        preset: Literal["paper", "diffusers", "kohya", "fast"] | _Link = "paper",
        steps: int | _Link | None = None,
        rank: int | _Link | None = None,
        learning_rate: float | _Link | None = None,
        options: _Link | None = None,
        words: Any | _Link = ...,
        name: str | _Link = "lora",
        held_out: int | _Link = 0,
        sample_every: int | _Link = 0,
        sample_prompt: str | _Link = "",
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _LoRATrain:
        """Train a LoRA on a few pictures of a subject, or in a style; the model stays as it is."""

    def LoRATrainLayers(
        self,
        *,
        options: _Link | None = None,
        layers: Literal["attention", "linear", "all"] | _Link | None = None,
        blocks: Sequence[str] | _Link = ...,
        text_encoders: bool | _Link | None = None,
        alpha: float | _Link | None = None,
        rslora: bool | _Link | None = None,
        dora: bool | _Link | None = None,
        dropout: float | _Link | None = None,
        max_norm: float | _Link | None = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose which layers `LoRATrain` trains, and how their updates are built. What isn't given is the preset's."""

    def LoRATrainPictures(
        self,
        *,
        options: _Link | None = None,
        resolution: int | _Link | None = None,
        buckets: bool | _Link | None = None,
        flip: bool | _Link | None = None,
        crop_conditioning: bool | _Link | None = None,
        shuffle_captions: bool | _Link | None = None,
        caption_dropout: float | _Link | None = None,
        class_prompt: str | _Link = "",
        class_pictures: int | _Link | None = None,
        prior_weight: float | _Link | None = None,
        snr_gamma: float | _Link | None = None,
        noise_offset: float | _Link | None = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose how `LoRATrain` shows pictures, captions and noise. What isn't given is the preset's."""

    def LoRATrainSteps(
        self,
        *,
        options: _Link | None = None,
        optimiser: Literal["adamw", "adamw8bit", "adafactor", "prodigy"] | _Link | None = None,
        schedule: Literal["constant", "cosine", "linear"] | _Link | None = None,
        warmup: int | _Link | None = None,
        text_learning_rate: float | _Link | None = None,
        weight_decay: float | _Link | None = None,
        max_gradient_norm: float | _Link | None = None,
        batch: int | _Link | None = None,
        accumulation: int | _Link | None = None,
        ema_decay: float | _Link | None = None,
        precision: Literal["model", "bfloat16"] | _Link | None = None,
        gradient_checkpointing: bool | _Link | None = None,
        deterministic: bool | _Link | None = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose how `LoRATrain` descends: optimiser, rates, batches and memory. What isn't given is the preset's."""

    def LoadImage(
        self,
        *,
        image: str | Path,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _LoadImage:
        """Read a picture: PNG, JPEG, WebP, GIF, AVIF, BMP or TIFF, whatever its name. An animated GIF, WebP, PNG or AVIF gives all of its frames, any other file with several pictures the first."""

    def LoadPictures(
        self,
        *,
        folder: str | Path,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _LoadPictures:
        """Read the pictures of a folder and of those in it, and their captions: `cat.txt` holds that of `cat.png`."""

    def LoadScores(
        self,
        *,
        file: str | Path,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Read the clips of a saved data set, including dropped ones, to filter them by other rules."""

    def LoadText(
        self,
        *,
        file: str | Path,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Read a text of at most a megabyte, such as a list of prompts."""

    def LoadVideo(
        self,
        *,
        file: str | Path,
        start: float | _Link = 0.0,
        frames: int | _Link = 0,
        fps: float | _Link = 0.0,
        width: int | _Link = 0,
        height: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Read a video, without its sound: MP4, WebM, MKV, MOV, animated GIF or WebP and whatever else FFmpeg reads, whatever its name."""

    def LookaheadDecode(
        self,
        *,
        llm: _Link,
        prompt: str | _Link = "",
        system: str | _Link = "",
        messages: Sequence[Any] | _Link = ...,
        vocabulary: _Link | None = None,
        attempts: int | _Link = 10,
        max_new_tokens: int | _Link = 64,
        temperature: float | _Link = 0.0,
        top_p: float | _Link = 0.95,
        top_k: int | _Link = 0,
        min_p: float | _Link = 0.0,
        repetition_penalty: float | _Link = 1.0,
        seed: int | _Link = 0,
        method: Literal["auto", "lookahead", "jacobi", "prompt_lookup", "suffix", "assisted", "medusa", "greedy"] | _Link = "auto",
        draft: _Link | None = None,
        heads: _Link | None = None,
        draft_tokens: int | _Link = 8,
        window: int | _Link = 5,
        ngram: int | _Link = 4,
        candidates: int | _Link = 5,
        stop: Sequence[str] | _Link = ...,
        json_schema: Any = "",
        pattern: str | _Link = "",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _LookaheadDecode:
        """Write a text with a language model, several tokens for each of its passes."""

    def MedusaLoad(
        self,
        *,
        file: str | Path,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Load Medusa heads, which guess a language model's coming tokens (arXiv 2401.10774)."""

    def MedusaSave(
        self,
        *,
        heads: _Link,
        filename_prefix: str | _Link = "medusa",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save Medusa heads, as `MedusaLoad` reads them."""

    def MedusaTrain(
        self,
        *,
        llm: _Link,
        texts: Sequence[str] | _Link = ...,
        prompts: Sequence[str] | _Link = ...,
        answers: int | _Link = 256,
        answer_tokens: int | _Link = 128,
        temperature: float | _Link = 0.5,
        heads: int | _Link = 4,
        layers: int | _Link = 1,
        tokens: int | _Link = 8192,
        steps: int | _Link = 1000,
        batch: int | _Link = 256,
        learning_rate: float | _Link = 0.002,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _MedusaTrain:
        """Train Medusa heads for a language model, which stays as it is (arXiv 2401.10774)."""

    def ModelVocabulary(
        self,
        *,
        model: _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """List the words that an image model knows, and those that its adapters require."""

    def NumberRange(
        self,
        *,
        first: int | _Link = 0,
        count: int | _Link = 4,
        step: int | _Link = 1,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make a list of whole numbers, such as seeds. A node that takes a single number runs for each of them."""

    def PickFrame(
        self,
        *,
        video: _Link,
        index: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Take one frame out of a video as a picture, such as the last, to continue from it."""

    def PickImage(
        self,
        *,
        images: _Link,
        index: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Take one picture out of a batch."""

    def PreviewImage(
        self,
        *,
        images: _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Show each picture of a batch."""

    def PreviewTable(
        self,
        *,
        table: _Link,
        rows: int | _Link = 20,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Show the first rows of a table."""

    def PreviewText(
        self,
        *,
        text: str | _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Show a text."""

    def PreviewVideo(
        self,
        *,
        video: _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Show a video at its own rate."""

    def PromptWriter(
        self,
        *,
        llm: _Link,
        theme: str | _Link,
        subjects: Sequence[str] | _Link = ...,
        style: str | _Link = "",
        count: int | _Link = 4,
        negative: bool | _Link = False,
        instructions: str | _Link = ...,
        messages: Sequence[Any] | _Link = ...,
        max_new_tokens: int | _Link = 48,
        temperature: float | _Link = 0.7,
        top_p: float | _Link = 0.95,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _PromptWriter:
        """Write prompts for an image model that reads free text, with a language model."""

    def SVDSampler(
        self,
        *,
        model: _Link,
        image: _Link,
        frames: int | _Link = 0,
        width: int | _Link = 0,
        height: int | _Link = 0,
        fps: int | _Link = 7,
        motion_bucket: int | _Link = 127,
        augmentation: float | _Link = 0.02,
        steps: int | _Link = 25,
        min_guidance: float | _Link = 1.0,
        max_guidance: float | _Link = 3.0,
        decode_chunk: int | _Link = 0,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Animate a picture with Stable Video Diffusion."""

    def SaveDataset(
        self,
        *,
        clips: _Link,
        videos: _Link | None = None,
        filename_prefix: str | _Link = "dataset",
        layout: Literal["files", "webdataset", "none"] | _Link = "files",
        exact: bool | _Link = True,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save a data set as a folder: clips, a manifest that Hugging Face `datasets` opens, all scores, and a report."""

    def SaveImage(
        self,
        *,
        images: _Link,
        filename_prefix: str | _Link = "kinograph",
        scale: int | _Link = 1,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save each picture of a batch as a PNG file."""

    def SaveTable(
        self,
        *,
        table: _Link,
        filename_prefix: str | _Link = "table",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save a table as CSV, without its pictures: scores for a spreadsheet, or the frames of a video."""

    def SaveText(
        self,
        *,
        text: str | _Link,
        filename_prefix: str | _Link = "kinograph",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save a text as a UTF-8 file."""

    def SaveVideo(
        self,
        *,
        video: _Link,
        filename_prefix: str | _Link = "kinograph",
        format: Literal["auto", "mp4"] | _Link = "auto",
        codec: Literal["auto", "h264"] | _Link = "auto",
        quality: int | _Link = 18,
        fps: float | _Link = 0.0,
        scale: int | _Link = 1,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Save a video as MP4 (H.264), which browsers play."""

    def SplitImages(
        self,
        *,
        images: _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Split a batch into a list of pictures. A node that takes a single picture runs for each of them."""

    def StackImages(
        self,
        *,
        images: _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Stack a list of pictures of the same size into one batch."""

    def Switch(
        self,
        *,
        on: bool | _Link = True,
        if_on: Any | _Link = None,
        if_off: Any | _Link = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Pass on one of two inputs. Nodes that lead only to the other don't run."""

    def Text(
        self,
        *,
        text: str | _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """A text to be used in several places."""

    def TextContains(
        self,
        *,
        text: str | _Link,
        part: str | _Link,
        match_case: bool | _Link = False,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Check whether a text contains another, to control a Switch."""

    def TextLines(
        self,
        *,
        text: str | _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Split a text into a list of its non-empty lines. A node that takes a single text runs for each of them."""

    def UpscaleModelLoad(
        self,
        *,
        source: str | Path,
        dtype: Literal["float32", "float16", "bfloat16"] | _Link = "float32",
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose a model that makes pictures larger: a file of ESRGAN or Real-ESRGAN, or a folder of Swin2SR."""

    def VideoFrameFilter(
        self,
        *,
        source: _Link,
        rules: str | _Link = "no duplicates",
        again: bool | _Link = True,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _VideoFrameFilter:
        """Drop the clips of a table, or the frames of a video, that break rules, and show which and why."""

    def VideoFrames(
        self,
        *,
        video: _Link,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _VideoFrames:
        """Split a video into a batch of its frames and their rate."""

    def VideoModelLoad(
        self,
        *,
        source: str | Path,
        dtype: Literal["auto", "float32", "float16", "bfloat16"] | _Link = "auto",
        motion: str | Path | None = None,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Choose a model that makes videos: a pipeline in diffusers' layout, of Stable Video Diffusion, Wan 2.1 or 2.2, LTX-Video, LTX-2, HunyuanVideo, CogVideoX or AnimateDiff."""

    def VideoSampler(
        self,
        *,
        model: _Link,
        prompt: str | _Link,
        negative_prompt: str | _Link = "",
        image: _Link | None = None,
        frames: int | _Link = 0,
        width: int | _Link = 0,
        height: int | _Link = 0,
        fps: int | _Link = 0,
        steps: int | _Link = 0,
        guidance_scale: float | _Link = 0.0,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Draw a video from a prompt, or from a picture that it sets moving, with a model of any family but Stable Video Diffusion, which `SVDSampler` takes."""

    def VideoUpscale(
        self,
        *,
        model: _Link,
        video: _Link,
        scale: float | _Link = 0.0,
        tile: int | _Link = 0,
        overlap: int | _Link = 40,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> Handle:
        """Make a video larger with a model for pictures."""

    def ZipLoRAMerge(
        self,
        *,
        model: _Link,
        subject: _Link,
        style: _Link,
        subject_prompt: str | _Link,
        style_prompt: str | _Link,
        steps: int | _Link = 100,
        learning_rate: float | _Link = 0.01,
        penalty: float | _Link = 0.01,
        start: Literal["ones", "closed-form"] | _Link = "ones",
        batch: int | _Link = 1,
        pictures: int | _Link = 4,
        sampling_steps: int | _Link = 20,
        guidance_scale: float | _Link = 5.0,
        gradient_checkpointing: bool | _Link = False,
        deterministic: bool | _Link = False,
        seed: int | _Link = 0,
        id: str | None = None,
        title: str = "",
        mode: _Mode = "",
        partial: _Partial = "",
    ) -> _ZipLoRAMerge:
        """Merge a subject LoRA and a style LoRA into one that draws the subject in the style."""

    def __getattr__(self, name: str) -> Callable[..., Handle]: ...
