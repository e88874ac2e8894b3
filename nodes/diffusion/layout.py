"""Recognising a model by its files, before anything heavy is imported or loaded."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from engine.errors import InputError, MissingError
from engine.values import Vocabulary
from nodes.diffusion.families import ANIMATEDIFF, FAMILIES, SD, Family, families, family_of

INDEX = "model_index.json"
_LOADERS = {True: "ImageModelLoad", False: "VideoModelLoad"}
"""The kinds that load models that make pictures, and others."""


def family_of_folder(source: str, path: Path, *, pictures: bool, given: Collection[str] = ()) -> Family:
    """The family of a diffusers folder of an image model, or of a video model, that has all of its components.

    Args:
        given: components that come from elsewhere, or "denoiser" for the one that is.

    Raises:
        InputError: it is something else.
        MissingError: components are missing.
    """
    if not (path / INDEX).is_file():
        raise InputError(
            f"{source} is not a pipeline: it has no {INDEX}",
            input="source",
            hint=f"give a folder in the layout of diffusers' save_pretrained, of {_wanted(pictures)}",
        )
    row = family_of_index(source, path, pictures=pictures)
    entries = read_object(path / INDEX)
    there = {row.denoiser if name == "denoiser" else name for name in given}
    if row.denoiser in there and not (path / row.denoiser / "config.json").is_file():
        hint = f"its {row.denoiser} needn't have weights, but settings"
        raise MissingError(f"{source} lacks {row.denoiser}/config.json", input="rest", hint=hint)
    if missing := [n for n in component_classes(entries, row) if n not in there and not (path / n).is_dir()]:
        raise MissingError(f"{source} lacks {', '.join(missing)}", input="source", hint="fetch or copy the model again")
    return row


def family_of_index(source: str, path: Path, *, pictures: bool) -> Family:
    """The family that a folder's card or index says, with or without weights; raises InputError if it is another."""
    entries = read_object(path / INDEX)
    found = str(entries.get("_class_name"))
    row = _said_by_card(path, found) or family_of(found, lambda name: _setting(path, entries, name))
    if row is None or row.makes_pictures != pictures:
        hint = f"this loads {_wanted(pictures)}" if row is None else f"{_LOADERS[row.makes_pictures]} loads it"
        kind = found if row is None else f"{row.name} model"
        raise InputError(f"{source} holds a {kind}", input="source", hint=hint)
    return row


def _said_by_card(path: Path, pipeline: str) -> Family | None:
    """The `family` in a folder's card.json; raises InputError unless pipelines of this class are of that family."""
    card = path / "card.json"
    said = read_object(card).get("family") if card.is_file() else None
    able = {row.name: row for row in FAMILIES if pipeline in row.pipelines.values()}
    if said is None or not able:
        return None
    if not isinstance(said, str) or said not in able:
        hint = f"of a {pipeline} it can be {', '.join(able)}"
        raise InputError(f"{card}: 'family' can't be {json.dumps(said)}", input="source", hint=hint)
    return able[said]


def animated_family(source: str, path: Path, motion: str, motion_path: Path) -> Family:
    """The family of an image model's folder with a motion adapter; raises InputError if they don't go together."""
    adapter = read_object(file) if (file := motion_path / "config.json").is_file() else {"_class_name": "nothing"}
    found = adapter.get("_class_name", "model of another kind")
    if found != "MotionAdapter":
        hint = "give a MotionAdapter in the layout of diffusers' save_pretrained"
        raise InputError(f"{motion} holds no motion adapter, but {found}", input="motion", hint=hint)
    if not path.is_dir() or (row := family_of_folder(source, path, pictures=True)) is not SD:
        kind = f"a {row.name} model" if path.is_dir() else "a single file"
        hint = f"give the folder of a {SD.name} 1.5 model"
        raise InputError(f"{source} is {kind}, which no motion adapter fits", input="source", hint=hint)
    unet = read_object(path / "unet" / "config.json")
    if unet.get("cross_attention_dim") == _WIDTH_OF_SD_2:
        message = f"{source} is a {SD.name} 2 model, which no motion adapter fits"
        raise InputError(message, input="source", hint=f"give the folder of a {SD.name} 1.5 model")
    if unet.get("block_out_channels") != adapter.get("block_out_channels"):
        hint = f"give an adapter for {SD.name} 1.5"
        raise InputError(f"{motion} doesn't fit the UNet of {source}: its blocks differ", input="motion", hint=hint)
    return ANIMATEDIFF


_WIDTH_OF_SD_2 = 1024
"""Of what its text encoder gives to the UNet; that of 1.5 gives 768."""


def _wanted(pictures: bool) -> str:
    return f"{'an image' if pictures else 'a video'} model of these families: {families(pictures=pictures)}"


def _setting(path: Path, entries: Mapping[str, Any], name: str) -> object:
    """What a folder says: an entry of its index, or a setting of one of its components (`unet.in_channels`)."""
    component, _, setting = name.rpartition(".")
    if not component:
        return entries.get(setting)
    files = (path / component / file for file in ("config.json", "scheduler_config.json"))
    return next((read_object(file).get(setting) for file in files if file.is_file()), None)


def component_classes(entries: Mapping[str, Any], row: Family) -> dict[str, tuple[str, str]]:
    """Library and class of each component that is loaded of a folder, given what its index says.

    Raises InputError for an entry that isn't two plain names, or nulls for a component that isn't there.
    """
    listed = {name: kind for name, kind in entries.items() if isinstance(kind, list) and name not in row.without}
    for name, kind in listed.items():
        if not _is_plain(name) or len(kind) != 2 or (kind != [None, None] and not all(map(_is_plain, kind))):
            message = f"{INDEX} says {json.dumps({name: kind})}, which is no component"
            raise InputError(message, input="source", hint="a component has two plain names: its library and its class")
    return {
        name: ("transformers", row.classes[name]) if name in row.classes else (kind[0], kind[1])
        for name, kind in listed.items()
        if kind != [None, None]
    }


def _is_plain(name: object) -> bool:
    """Whether a name in an index leads nowhere else: neither to a folder nor into a package."""
    return isinstance(name, str) and name.isascii() and name.isidentifier()


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


def own_settings(path: Path) -> dict[str, Any]:
    """What a model folder's card.json says of sampling: `steps`, and `guidance` by its `guidance_scale`.

    Raises InputError if they are out of range.
    """
    card = path / "card.json"
    content = read_object(card) if card.is_file() else {}
    own: dict[str, Any] = {}
    if (steps := content.get("steps")) is not None:
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= 1000:
            raise InputError(f"{card}: 'steps' must be a whole number from 1 to 1000", input="source")
        own["steps"] = steps
    if (scale := content.get("guidance_scale")) is not None:
        if not isinstance(scale, int | float) or isinstance(scale, bool) or not 1 <= scale <= 50:
            raise InputError(f"{card}: 'guidance_scale' must be a number from 1 to 50; 1 is none", input="source")
        own["guidance"] = float(scale)
    return own


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
