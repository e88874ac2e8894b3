"""Single files that hold a whole model, as other programs keep them: what each is, and its components."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from engine.models.digest import digest
from nodes.diffusion.components import check_complete, component_class
from nodes.diffusion.families import SD_INPAINTING, SDXL_INPAINTING, Family, family
from nodes.diffusion.layout import INDEX, component_classes, family_of_index, read_object
from nodes.diffusion.published import DDIM, PLAYGROUND, SD1, SD2_BASE, SD2_V, XL, Published, scheduler, tokenizer

if TYPE_CHECKING:
    from engine.values import ImageModel, VideoModel

_UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"

# Beginnings of tensors' names that say what else a file holds, and what to do with it; the first that is there decides.
_OTHERS = (
    (("control_model.", "controlnet_"), "a ControlNet", "give the model that it steers"),
    (("double_blocks.", "model.diffusion_model.double_blocks."), "a Flux transformer", "give the whole folder of one"),
    (("joint_blocks.", "model.diffusion_model.joint_blocks."), "a Stable Diffusion 3", "give the whole folder of one"),
    (("emb_params", "string_to_param", "clip_l", "clip_g"), "a textual inversion", "give the model that it is for"),
    (("body.", "model.1.sub.", "conv_first."), "an upscaler", "give a model that draws"),
    (("encoder.", "decoder.", "first_stage_model."), "a VAE alone", "give a file with all parts of a model"),
)


@dataclass(frozen=True)
class Header:
    """What stands at the beginning of a safetensors file."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    def has(self, *beginnings: str) -> bool:
        """Whether a tensor's name begins so."""
        return any(name.startswith(beginnings) for name in self.shapes)


def read_header(source: str, path: Path) -> Header:
    """The header of a file; raises InputError if it isn't one in safetensors."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        hint = "LLMLoad loads it" if path.suffix == ".gguf" else "convert it to safetensors: pickles can run code"
        found = f"a {path.suffix} file" if path.suffix else "a file without a suffix"
        raise InputError(f"{source} is {found}, not a safetensors file", input="source", hint=hint)
    try:
        with safe_open(path, framework="np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return Header(shapes, file.metadata() or {})
    except SafetensorError as error:
        raise InputError(f"{source} is damaged: {error}", input="source", hint="fetch it again") from error


def settings_beside(source: str, path: Path) -> Path | None:
    """The folder of a single file, if it has settings in diffusers' layout.

    Not in the hub's cache: there they lie only where other files of the repository have been fetched as well.
    """
    return path.parent if (path.parent / INDEX).is_file() and not source.startswith("hf:") else None


def family_of_checkpoint(source: str, path: Path, prediction: str | None = None) -> Family:
    """The family of a single file; raises InputError if it doesn't hold a whole image model."""
    header = read_header(source, path)
    if (beside := settings_beside(source, path)) and header.has("model.diffusion_model."):
        return family_of_index(source, beside, pictures=True)
    return recognised(source, path, prediction).family


def recognised(source: str, path: Path, prediction: str | None = None) -> Published:
    """The published model that a file is one of, by its tensors, with the settings that the file itself gives.

    Args:
        prediction: what the model predicts; None leaves it to the file.

    Raises InputError if it is none.
    """
    header = read_header(source, path)
    check_scales(source, header)
    prediction = prediction or _prediction(header)
    found = _published(source, header, prediction)
    missing = [what for what, name in _PARTS.items() if not header.has(name)]
    if missing:
        hint = "give a file with all parts of a model, or its folder"
        raise InputError(f"{source} lacks {' and '.join(missing)}", input="source", hint=hint)
    channels = _channels(header)
    if channels not in (4, 9):
        message = f"{source} has a UNet of {channels} input channels"
        raise InputError(message, input="source", hint="4 draw pictures, 9 are for inpainting")
    row = found.family if channels == 4 else SDXL_INPAINTING if found is XL else SD_INPAINTING
    unet, vae = {**found.unet, "in_channels": channels}, {**found.vae, **_standardised(path, header)}
    return replace(found, family=row, unet=unet, vae=vae, scheduler=_schedule(found, header, prediction))


def _published(source: str, header: Header, prediction: str | None) -> Published:
    if header.has("conditioner.embedders.1."):
        return XL
    if header.has("cond_stage_model.transformer."):
        return SD1
    if header.has("cond_stage_model.model."):
        # Of models that don't say, those of 768 pixels predict velocity, and those for inpainting, of 512, the noise.
        usual = "epsilon" if _channels(header) == 9 else "v_prediction"
        return SD2_BASE if (prediction or usual) == "epsilon" else SD2_V
    raise _other(source, header)


def _channels(header: Header) -> int:
    return header.shapes.get(_UNET_INPUT, (0, 4))[1]


def check_scales(source: str, header: Header) -> None:
    """Refuse weights in 8 bits that have to be multiplied with scales of their own, which diffusers leaves out."""
    ends = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale", "scaled_fp8")
    if any(name.endswith(ends) for name in header.shapes):
        message = f"{source} has weights in 8 bits with scales of their own, which aren't read"
        raise InputError(message, input="source", hint="take the file in float16 or bfloat16, or in GGUF")


def _standardised(path: Path, header: Header) -> dict[str, Any]:
    """Settings of the VAE that a file gives: how Playground 2.5's latents are standardised."""
    from safetensors import safe_open

    if "edm_mean" not in header.shapes:
        return {}
    with safe_open(path, framework="pt") as file:
        mean, deviation = (file.get_tensor(name).flatten().tolist() for name in ("edm_mean", "edm_std"))
    return {"latents_mean": mean, "latents_std": deviation, "scaling_factor": 0.5}


def _schedule(found: Published, header: Header, prediction: str | None) -> dict[str, Any]:
    """The settings of the scheduler, with what a file says of its noise schedule.

    Names of tensors that programs agreed on say that a model predicts velocity (`v_pred`), was trained down to a signal
    of zero (`ztsnr`), or has EDM's preconditioning (`edm_mean`, Playground 2.5); the metadata may say what it predicts.
    """
    if "edm_mean" in header.shapes:
        return dict(PLAYGROUND)
    settings = dict(found.scheduler)
    if "ztsnr" in header.shapes:
        if settings["_class_name"] == "PNDMScheduler":  # which has no such schedule
            settings = dict(DDIM)
        settings |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return settings | ({"prediction_type": prediction} if prediction else {})


_PARTS = {"the UNet": "model.diffusion_model.", "the VAE": "first_stage_model."}


def _other(source: str, header: Header) -> InputError:
    """What is wrong with a file that isn't a whole image model."""
    if any("lora" in name for name in header.shapes):
        return InputError(f"{source} is a LoRA, not a whole image model", input="source", hint="LoRALoad loads it")
    for beginnings, kind, hint in _OTHERS:
        if header.has(*beginnings) and not header.has(_UNET_INPUT):
            return InputError(f"{source} is {kind}, not a whole image model", input="source", hint=hint)
    if header.has("model.diffusion_model."):
        hint = "give a file with all parts of a model, or its folder"
        return InputError(f"{source} has no text encoder that is known", input="source", hint=hint)
    return InputError(f"{source} holds no image model", input="source", hint=f"known are {', '.join(_KNOWN)}")


_KNOWN = ("Stable Diffusion 1.x and 2.x", "SDXL", "their models for inpainting")


def _prediction(header: Header) -> str | None:
    """What a file says that its model predicts; None where it doesn't say."""
    if "v_pred" in header.shapes:
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    return {"v": "v_prediction", "epsilon": "epsilon"}.get(said)


class Checkpoint:
    """The components of a single file, which diffusers takes apart; settings stand beside it, or are published."""

    def __init__(self, model: ImageModel | VideoModel) -> None:
        self.model, self.path = model, Path(model.path)
        self.beside = settings_beside(model.source, self.path)
        self.published = None if self.beside else self._recognised()
        self.index = self.published.model_index if self.published else read_object(self.path.parent / INDEX)
        self.classes = component_classes(self.index, family(model.family))

    def identity(self, name: str) -> str:
        return f"{self.model.identity}/{name}/{self._settings_digest(name)}"

    def settings(self, name: str) -> dict[str, Any]:
        if self.published is None:
            return read_object(self.path.parent / name / "config.json")
        return dict(self.published.unet if name == "unet" else self.published.vae)

    def load(self, name: str) -> Any:
        return self._all[name]

    def _recognised(self) -> Published:
        schedule = getattr(self.model, "schedule", {})
        return recognised(self.model.source, self.path, schedule.get("prediction_type"))

    def _settings_digest(self, name: str) -> str:
        """What tells a component from one of the same weights with other settings."""
        if self.published is None:
            return digest(self.path.parent / name)
        settings = self.published.all_settings.get(name, {})
        return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _all(self) -> dict[str, Any]:
        if self.published is None:
            return self._taken_apart(self.path.parent)
        given = {name: tokenizer(padding) for name, padding in self.published.padding.items()}
        with TemporaryDirectory() as folder:
            self.published.write(Path(folder))
            return self._taken_apart(Path(folder), scheduler=scheduler(self.published.scheduler), **given)

    def _taken_apart(self, settings: Path, **given: Any) -> dict[str, Any]:
        import diffusers
        import torch

        row = family(self.model.family)
        kind = getattr(diffusers, next(iter(row.pipelines.values())))
        options = {"config": str(settings), "local_files_only": True, "dtype": getattr(torch, self.model.dtype)}
        try:
            loaded = kind.from_single_file(self.model.path, **options, **row.options, **given)
        except NotImplementedError:  # how torch says that there are no weights to convert
            for name in ("unet", "vae"):
                check_complete(name, self._missing(*self.classes[name], settings / name))
            raise
        parts = dict(loaded.components)
        for name, part in parts.items():
            if isinstance(part, torch.nn.Module):
                check_complete(name, [weight for weight, value in part.state_dict().items() if value.is_meta])
        return parts

    def _missing(self, library: str, kind: str, settings: Path) -> set[str]:
        """The weights of a component that the file lacks."""
        import torch
        from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

        header = read_header(self.model.source, self.path)
        convert = SINGLE_FILE_LOADABLE_CLASSES[kind]["checkpoint_mapping_fn"]
        with torch.device("meta"):
            whole = component_class(library, kind).from_config(read_object(settings / "config.json"))
            given = {name: torch.empty(shape) for name, shape in header.shapes.items()}
        found: Mapping[str, Any] = convert(config=whole.config, checkpoint=given)
        return set(whole.state_dict()) - set(found)
