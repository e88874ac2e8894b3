"""Reading LoRA files: safetensors in the spellings and kinds found in the wild, and the folders that PEFT saves.

What can't be read right is refused, by the name of the layer or key, before any model is involved.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.bases import base_of_widths
from nodes.lora.forms import Settings, form_of
from nodes.lora.header import (
    DAMAGED,
    SDXL,
    SVD,
    WORDS_KEY,
    Peft,
    entry,
    peft_of,
    rank_wanted,
    said_base,
    says_stabilised,
    words_of,
)
from nodes.lora.keys import layer_of, read_key, read_own_key, stem_of

if TYPE_CHECKING:
    from torch import Tensor

Tell = Callable[[str], None]
"""Takes a line about what a file has that isn't used."""

ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
_NUMBERS = ("alpha", "on_input", "scalar")
"""Parts that are a number each."""
_FAMILIES = (
    (r"lora_te3_|text_encoder_3|joint_blocks|attn_add|attn2_add|context_embedder", "Stable Diffusion 3 or Flux"),
    (r"double_blocks|single_blocks|single_transformer_blocks", "Flux or another diffusion transformer"),
    (r"(^|\.)transformer\.|^lora_transformer_|^(lora_unet_|diffusion_model\.)?blocks[._]\d", "a diffusion transformer"),
    (r"^lora_prior_", "Stable Cascade"),
)
"""What only keys of LoRAs for other models have."""


class ReadLoRA(NamedTuple):
    """What was read of a file or folder."""

    lora: LoRA
    header: Mapping[str, str]
    alphas: Mapping[str, float]
    """By layer, where the file, or PEFT's configuration beside it, gives one."""


def read_lora(path: Path, tell: Tell = lambda line: None) -> LoRA:
    """Read a LoRA from a file or a folder: of PEFT, with its configuration, or one that holds a single file.

    Its name and trigger words come from the header. Scales are folded in; where nothing gives an alpha the scale is 1.
    `tell` is called with a line for each thing in it that isn't used. Raises InputError for what isn't safetensors, is
    for another base model, or can't be read right.
    """
    return read_file(path, tell).lora


def read_file(path: Path, tell: Tell = lambda line: None) -> ReadLoRA:
    """As `read_lora`, with what the file says beside the numbers."""
    read = _Reading(path.name, tell)
    for file, component, peft in _files(path):
        read.add(file, component, peft)
    return ReadLoRA(read.finished(), read.header, read.alphas())


@dataclass(slots=True)
class _Reading:
    """A LoRA while its files are read."""

    file: str
    tell: Tell
    header: dict[str, str] = field(default_factory=dict)
    peft: dict[str, Peft] = field(default_factory=dict)
    """PEFT's configurations by component."""
    parts: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Raw parts by layer."""
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    """The key of each part."""
    stray: list[str] = field(default_factory=list)

    def add(self, path: Path, component: str | None, peft: Peft | None) -> None:
        """Sort a file's tensors by layer and part."""
        header, tensors = _tensors(path)
        self.header |= header
        if peft is not None:
            self.peft |= dict.fromkeys([component] if component else COMPONENTS, peft)
        self.peft |= _peft_of_header(path.name, header)
        for key, tensor in tensors.items():
            said = read_key(key, component) or (read_own_key(key) if WORDS_KEY in header else None)
            if said is None:
                self.stray.append(key)
                continue
            other = self.keys.setdefault(said, key)
            if other != key:
                message = f"{self.file} gives {said.layer} twice, as {other} and as {key}"
                raise InputError(message, input="file", hint="leave one of them out")
            self.parts.setdefault(said.layer, {})[said.part] = tensor

    def finished(self) -> LoRA:
        self._drop_what_says_nothing()
        self._check_base()
        self._check_stray()
        up: dict[str, Tensor] = {}
        down: dict[str, Tensor] = {}
        other: dict[str, Mapping[str, Tensor]] = {}
        for layer, parts in sorted(self.parts.items()):
            with self._blaming(layer):
                checked = {name: _checked(name, tensor) for name, tensor in parts.items()}
                form = form_of(checked, self._settings(layer, checked))
                for made in (*(form.matrices or ()), *form.other.values()):
                    if not torch.isfinite(made).all():
                        raise ValueError("holds numbers that are not finite")
            if form.matrices:
                up[layer], down[layer] = form.matrices
            if form.other:
                other[layer] = form.other
        self._tell_of_stray()
        words = words_of(self.file, self.header)
        return LoRA(up, down, self.header.get("ss_output_name", "lora"), words, other=other)

    def alphas(self) -> dict[str, float]:
        """The alphas of the layers that were read."""
        found = {}
        for layer, parts in self.parts.items():
            component, _, path = layer.partition(".")
            if "alpha" in parts:
                found[layer] = parts["alpha"].item()
            elif (peft := self.peft.get(component)) is not None and peft.has_alphas:
                found[layer] = peft.alpha_of(path)
        return found

    @contextmanager
    def _blaming(self, layer: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, IndexError) as error:
            fault = str(error).partition("\n")[0]
            if not isinstance(error, ValueError):
                shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in self.parts[layer].items())
                fault = f"has parts that don't go together: {shapes}"
            raise InputError(f"{self.file}: {layer} {fault}", input="file", hint=_hint(fault)) from error

    def _settings(self, layer: str, parts: Mapping[str, Tensor]) -> Settings:
        component, _, path = layer.partition(".")
        peft = self.peft.get(component)
        alpha = parts["alpha"].item() if "alpha" in parts else None
        rotates = "oft_blocks" in parts
        if alpha is not None and not (math.isfinite(alpha) and (alpha or rotates)):
            raise ValueError(f"has an alpha of {alpha:g}")
        if alpha is not None and rotates and alpha <= 0 and self.keys[layer, "oft_blocks"].startswith("oft_"):
            raise ValueError(f"has an alpha of {alpha:g}, by which kohya's OFT rotates nothing")
        if "oft_R" in parts and peft is None:
            raise ValueError("is an OFT of PEFT (OFTv2), which says nothing without its adapter_config.json")

        def scale(rank: int | None) -> float:
            if alpha is not None:
                return alpha / self._rank_factor(parts, rank) if rank else self._scale_without_rank(parts, alpha)
            return peft.scale(path, rank) if peft else 1.0

        return Settings(
            scale,
            constraint=alpha if rotates and alpha and alpha > 0 else None,
            neumann=peft.num_cayley_neumann_terms if peft and peft.use_cayley_neumann else None,
            halves_last_term=peft is None or peft.halves_last_term,
            scales_inputs=peft.scales_inputs(path) if peft else None,
            wants_norms=peft is not None and peft.use_dora,
        )

    def _rank_factor(self, parts: Mapping[str, Tensor], rank: int) -> float:
        """What alpha is divided by: LyCORIS folds the root of rank-stabilised LoRAs into alpha, but not in GLoRA's."""
        return rank**0.5 if "a1" in parts and says_stabilised(self.header) else rank

    def _scale_without_rank(self, parts: Mapping[str, Tensor], alpha: float) -> float:
        """1, but with stabilised ranks LyCORIS trains LoKr of two whole factors at √d, and writes an alpha of d√d."""
        if not (parts.keys() >= {"lokr_w1", "lokr_w2"} and says_stabilised(self.header)):
            return 1.0
        rank = rank_wanted(self.header, parts["lokr_w2"].shape[2:].numel() > 1)
        return rank**0.5 if rank and math.isclose(alpha, rank**1.5, rel_tol=0.01) else 1.0

    def _drop_what_says_nothing(self) -> None:
        """Layers of which only a weight, or an alpha, is given are no part of an adapter."""
        for layer, parts in [*self.parts.items()]:
            if "weight" in parts and "on_input" not in parts:
                self.stray.append(self.keys[layer, "weight"])
                del parts["weight"]
            if not parts.keys() - {"alpha"}:
                self.stray += [self.keys[layer, part] for part in parts]
                del self.parts[layer]

    def _check_base(self) -> None:
        """Raise InputError for a LoRA of a base model that isn't here, or a file that is none."""
        stems = {key: stem_of(key) for key in self.stray}
        foreign = [key for key, stem in stems.items() if stem and layer_of(stem) is None]
        by_key = next((base for mark, base in _FAMILIES if any(re.search(mark, key) for key in foreign)), None)
        said, shown = said_base(self.header), self._base_by_layers()
        base, why = next(
            ((base, why) for base, why in ((by_key, "keys"), (shown, "layers"), (said, "header")) if base), (None, "")
        )
        own = WORDS_KEY in self.header  # what was saved here can be for any model that LoRAs are made for here
        if base not in (None, SDXL, SVD) and not (own and self.parts):
            message = f"{self.file} is a LoRA for {base}, as its {why} say{'s' * (why == 'header')}"
            raise InputError(message, input="file", hint="give one for SDXL or Stable Video Diffusion")
        if not self.parts:
            what = (
                f"{self.file} holds no LoRA layers that are known" if foreign else f"{self.file} holds no LoRA layers"
            )
            few = f" (its keys are {_listed(self.stray)})" if self.stray else ""
            raise InputError(what + few, input="file", hint="give a LoRA for SDXL or Stable Video Diffusion")

    def _check_stray(self) -> None:
        """Raise InputError for a part of a layer that no kind has: without it the others would say something else."""
        stems = {stem: layer for (layer, _), key in self.keys.items() if (stem := stem_of(key))}
        for key in self.stray:
            starts = (key[: dot.start()] for dot in re.finditer(r"\.", key))
            layer = next((stems[start] for start in starts if start in stems), None)
            if layer and key not in self.keys.values():
                message = f"{self.file}: {layer} has a part that is not known, {key}"
                raise InputError(message, input="file", hint="convert it to a plain LoRA with the tool that made it")

    def _base_by_layers(self) -> str | None:
        """The base model that layers and their widths show beyond doubt, if there is one."""
        only_text = all(layer.startswith("text_encoder") for layer in self.parts)
        spelled_alone = any(key.startswith("lora_te_") for key in self.keys.values())
        if only_text and spelled_alone and said_base(self.header) != SDXL:
            return "Stable Diffusion 1.x or 2.x"
        downs = {layer: parts["down"] for layer, parts in self.parts.items() if "down" in parts}
        base = base_of_widths({layer: down.shape[1] for layer, down in downs.items() if down.ndim > 1})
        early = any(layer.startswith("unet.down_blocks.0.attentions") for layer in self.parts)
        # Small models of our own may have any width; of the published ones SDXL's is the only one without early ones.
        sure = base in (SDXL, SVD, "Stable Diffusion 2.x") or (base == "Stable Diffusion 1.x" and early)
        return base if sure else None

    def _tell_of_stray(self) -> None:
        bundled = [key for key in self.stray if key.startswith("bundle_emb")]
        if bundled:
            names = ", ".join(dict.fromkeys(key.split(".")[1] for key in bundled if "." in key))
            self.tell(
                f"{self.file} brings words of its own along ({names}), which are not read: they mean nothing here\n"
            )
        if rest := [key for key in self.stray if key not in bundled]:
            self.tell(f"{self.file} has keys that belong to no layer of a LoRA and are passed over: {_listed(rest)}\n")
        if self.parts and not self.header and all(layer.startswith("text_encoder.") for layer in self.parts):
            self.tell(f"{self.file} changes only the first text encoder and doesn't say for which base model\n")


def _files(path: Path) -> list[tuple[Path, str | None, Peft | None]]:
    """The files of a LoRA, each with the component that it is about, if that is known, and PEFT's configuration."""
    if not path.is_dir():
        if path.name == ADAPTER_FILE and (path.parent / ADAPTER_CONFIG).is_file():
            message = f"{path.name} says only half without the {ADAPTER_CONFIG} beside it"
            raise InputError(message, input="file", hint="give the folder")
        return [(path, None, None)]
    parts = [name for name in COMPONENTS if (path / name / ADAPTER_FILE).is_file()]
    if parts:
        return [_with_config(path / name / ADAPTER_FILE, name) for name in parts]
    files = sorted(path.glob("*.safetensors"))
    if path / ADAPTER_FILE in files and (path / ADAPTER_CONFIG).is_file():
        files = [path / ADAPTER_FILE]
    if len(files) != 1:
        message = f"the folder {path.name} holds {len(files)} safetensors files, not one"
        raise InputError(message, input="file", hint="give the file itself")
    return [_with_config(files[0], None)]


def _with_config(file: Path, component: str | None) -> tuple[Path, str | None, Peft | None]:
    """A file with what the configuration in its folder says, if there is one."""
    config, name = file.parent / ADAPTER_CONFIG, f"{file.parent.name}/{ADAPTER_CONFIG}"
    if not config.is_file():
        return file, component, None
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}", input="file", hint=DAMAGED) from error
    if not isinstance(settings, dict):
        raise InputError(f"{name} must hold a JSON object", input="file", hint=DAMAGED)
    peft = peft_of(name, settings)
    return file, component or peft.component, peft


def _tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {}), {key: file.get_tensor(key) for key in sorted(file.keys())}
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        message = f"{path.name} is not a safetensors file ({error})"
        raise InputError(message, input="file", hint="give a LoRA saved as safetensors") from error


def _peft_of_header(file: str, header: Mapping[str, str]) -> dict[str, Peft]:
    """PEFT's configurations by component, as diffusers writes them into the header."""
    entries = entry(file, header, "lora_adapter_metadata", dict[str, Any])
    by_component: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        component, _, name = key.partition(".")
        by_component.setdefault(component, {})[name] = value
    return {component: peft_of(file, settings) for component, settings in by_component.items()}


def _checked(name: str, tensor: Tensor) -> Tensor:
    """A part in a type to compute with; raises ValueError if it is none, or not the number that it should be."""
    if name in _NUMBERS:
        if tensor.numel() != 1:
            raise ValueError(f"has {'an' * (name[0] in 'ao') or 'a'} {name} of {tensor.numel()} elements, not one")
        return tensor.real.float()
    if not tensor.numel():
        raise ValueError(f"has an empty {name}")
    if tensor.dtype in _EIGHT_BITS:
        return tensor.half()
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        raise ValueError(
            f"has its {name} in {str(tensor.dtype).removeprefix('torch.')}, which is no floating-point type"
        )
    return tensor


def _hint(fault: str) -> str:
    if "kohya's OFT" in fault:
        return "train it with an alpha above 0, such as 0.001: that is the limit of its rotations"
    if "adapter_config.json" in fault:
        return (
            "give the folder that PEFT saved; a single file, as OneTrainer writes, doesn't say how rotations are made"
        )
    if "an alpha" in fault:
        return "the file may be damaged: save it again, with the rank as alpha if in doubt"
    if "holds" in fault and "finite" not in fault:
        return "convert it to a plain LoRA with the tool that made it"
    if "floating-point" in fault:
        return "save it in float16, for example: integers need scales that such files don't have"
    return DAMAGED


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
