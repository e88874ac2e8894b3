"""Recognising a model by its files, before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import InputError, MissingError
from engine.values import Vocabulary

SDXL = "StableDiffusionXLPipeline"
SVD = "StableVideoDiffusionPipeline"
LOADERS = {SDXL: "ImageModelLoad", SVD: "VideoModelLoad"}

# Parts of tensor names that identify what a single file holds; the first that occurs decides.
_MARKERS = (
    ("conditioner.embedders.1.", SDXL, ""),
    ("lora", "a LoRA", "LoRALoad loads it"),
    ("model.diffusion_model.", "a checkpoint of another architecture", "SDXL is the one supported"),
)


def check_folder(source: str, path: Path, wanted: str) -> None:
    """Refuse a folder that isn't a diffusers pipeline of the class `wanted`, with all of its components.

    Raises:
        InputError: it is something else.
        MissingError: components are missing.
    """
    index = path / "model_index.json"
    if not index.is_file():
        raise InputError(
            f"{source} is not a pipeline: it has no model_index.json",
            input="source",
            hint=f"give the folder of a {wanted} in the layout of diffusers' save_pretrained",
        )
    entries = read_object(index)
    found = entries.get("_class_name")
    if found != wanted:
        loader = LOADERS.get(str(found))
        hint = f"{loader} loads it" if loader else f"a {wanted} is needed"
        raise InputError(f"{source} holds a {found}, not a {wanted}", input="source", hint=hint)
    components = [name for name, kind in entries.items() if isinstance(kind, list) and kind[0] is not None]
    if missing := [name for name in components if not (path / name).is_dir()]:
        raise MissingError(f"{source} lacks {', '.join(missing)}", input="source", hint="fetch or copy the model again")


def check_checkpoint(source: str, path: Path) -> None:
    """Refuse a single file that isn't an SDXL checkpoint in safetensors; raises InputError."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        hint = "LLMLoad loads it" if path.suffix == ".gguf" else "convert it to safetensors: pickles can run code"
        found = f"a {path.suffix} file" if path.suffix else "a file without a suffix"
        raise InputError(f"{source} is {found}, not a safetensors file", input="source", hint=hint)
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
    except SafetensorError as error:
        raise InputError(f"{source} is damaged: {error}", input="source", hint="fetch it again") from error
    for part, kind, hint in _MARKERS:
        if any(part in name for name in names):
            if kind == SDXL:
                return
            raise InputError(f"{source} is {kind}, not an SDXL checkpoint", input="source", hint=hint)
    raise InputError(f"{source} holds no image model", input="source", hint="give an SDXL folder or checkpoint")


def read_vocabulary(path: Path) -> Vocabulary:
    """The words by slot in a model folder's card.json, none without one; raises InputError if it is malformed.

    `vocabulary` maps slots to words, `phrases` maps words to how they are put in a sentence.
    """
    card = path / "card.json"
    if not card.is_file():
        return Vocabulary()
    content = read_object(card)
    slots, phrases = content.get("vocabulary", {}), content.get("phrases", {})
    if not isinstance(slots, dict) or not all(_are_words(words) for words in slots.values()):
        raise InputError(f"{card}: 'vocabulary' must map each slot to a list of words, at least one", input="source")
    if not isinstance(phrases, dict) or not _are_words([*phrases.values(), "…"]):
        raise InputError(f"{card}: 'phrases' must map words to texts", input="source")
    return Vocabulary({slot: tuple(words) for slot, words in slots.items()}, {}, phrases)


def _are_words(words: object) -> bool:
    return isinstance(words, list) and bool(words) and all(isinstance(word, str) and word for word in words)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises InputError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", input="source") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object", input="source")
    return content
