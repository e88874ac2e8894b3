"""Upscalers as files: recognising them, and loading each once per contents, dtype and device.

A single file is safetensors, or PyTorch's `.pth`, which is read as data only and converted once to safetensors. A
folder holds Swin2SR as transformers saves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InputError, MissingError
from nodes.diffusion.layout import read_object
from nodes.loading import loading, unchanged
from nodes.upscaling.layouts import COLOURS, compare, recognise

if TYPE_CHECKING:
    import torch

    from engine.node import Context
    from engine.values import UpscaleModel
    from nodes.upscaling.layouts import Shapes
    from nodes.upscaling.nets import Upscaler

WITHIN = ("params_ema", "params", "state_dict")
"""Where PyTorch files of upscalers hold their tensors: averaged over the training, if they are there."""
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
WHAT = "an upscaler"
SWIN2SR = "swin2sr"
MODEL, OLD_MODEL = "model.safetensors", "pytorch_model.bin"


def scale_of(source: str, path: Path) -> int:
    """How many times larger an upscaler makes pictures; its numbers aren't read.

    Raises:
        InputError: it is something else, or isn't supported.
        MissingError: it can't be read, or isn't complete.
    """
    if path.is_dir():
        _safetensors(source, _weights_of_folder(source, path))
        return _scale_of_folder(source, path)
    return _scale_of_file(source, _safetensors(source, path))


def upscaler(ctx: Context, model: UpscaleModel) -> Upscaler:
    """The network of an upscaler, shared by all callers.

    Raises:
        MissingError: a file that it needs is missing or can't be read.
        NodeError: it has been replaced since it was chosen.
    """
    key = ("upscaler", model.identity, model.dtype, ctx.device)
    found: Upscaler = ctx.models.get(key, lambda: _load(model), ctx.device)
    return found


def _load(model: UpscaleModel) -> Upscaler:
    import torch

    path, dtype = Path(model.path), getattr(torch, model.dtype)
    with unchanged(model.source, model.identity):
        net = _load_folder(model.source, path, dtype) if path.is_dir() else _load_file(model.source, path, dtype)
    return net.eval().requires_grad_(False)


def _load_file(source: str, path: Path, dtype: torch.dtype) -> Upscaler:
    import torch

    from nodes.upscaling.nets import build
    from nodes.weights import read_weights

    state = read_weights(_safetensors(source, path), WHAT)
    architecture, names = recognise(source, {name: tuple(weight.shape) for name, weight in state.items()})
    with torch.device("meta"):
        net = build(architecture)
    # Copies, as what was read may be the file's own memory, in which others could write.
    net.load_state_dict({name: state[own].to(dtype, copy=True) for name, own in names.items()}, assign=True)
    return net


def _scale_of_file(source: str, path: Path) -> int:
    import torch

    from nodes.upscaling.nets import build

    shapes = _shapes(source, path)
    architecture, names = recognise(source, shapes)
    with torch.device("meta"):
        expected = {name: tuple(weight.shape) for name, weight in build(architecture).state_dict().items()}
    compare(source, {name: shapes[own] for name, own in names.items()}, expected)
    return architecture.scale


def _shapes(source: str, path: Path) -> Shapes:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MissingError(f"{source} can't be read: {error}", input="source", hint="fetch it again") from error


def _safetensors(source: str, path: Path) -> Path:
    """A single file as safetensors; raises InputError if it is of a kind that can't be, else as `converted` does."""
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return path
    if ending not in PICKLES:
        found = f"a {path.suffix} file" if path.suffix else "a file without a suffix"
        raise InputError(f"{source} is {found}", input="source", hint="give a .safetensors or .pth file, or a folder")
    from nodes.weights import converted

    return converted(path, WHAT, WITHIN)


def _scale_of_folder(source: str, path: Path) -> int:
    config = read_object(path / "config.json")
    if config.get("model_type") != SWIN2SR:
        kind = config.get("model_type") or "model of an unknown kind"
        raise InputError(f"{source} holds a {kind}, not Swin2SR", input="source", hint="of folders, Swin2SR's are read")
    seen = config.get("num_channels", COLOURS)
    shown = config.get("num_channels_out") or seen
    if (seen, shown) != (COLOURS, COLOURS):
        what = f"{source} reads {seen} channels and makes {shown}"
        raise InputError(what, input="source", hint="pictures here have red, green and blue")
    scale = config.get("upscale", 2)
    if not isinstance(scale, int) or not 1 <= scale <= 8:
        raise InputError(f"{path / 'config.json'}: 'upscale' must be a whole number from 1 to 8", input="source")
    return scale


def _weights_of_folder(source: str, path: Path) -> Path:
    """The file of weights in a folder; raises MissingError if there is none, InputError if it is no model's folder."""
    if not (path / "config.json").is_file():
        hint = "give a file of weights, or a folder of Swin2SR as transformers saves it"
        raise InputError(f"{source} is not an upscaler: it has no config.json", input="source", hint=hint)
    for name in (MODEL, OLD_MODEL):
        if (path / name).is_file():
            return path / name
    hint = f"it needs {MODEL} or {OLD_MODEL}: fetch or copy the model again"
    raise MissingError(f"{source} has no weights", input="source", hint=hint)


def _load_folder(source: str, path: Path, dtype: torch.dtype) -> Upscaler:
    from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution

    from nodes.upscaling.nets import Swin2SR
    from nodes.weights import read_weights

    state = read_weights(_safetensors(source, _weights_of_folder(source, path)), WHAT)
    with loading(source, hint="fetch or copy the model again"):
        config: Any = Swin2SRConfig.from_pretrained(path, local_files_only=True)
        model, found = Swin2SRForImageSuperResolution.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
        )
    if missing := sorted(found["missing_keys"]):
        raise MissingError(f"{source} lacks {missing[0]}", input="source", hint="fetch or copy the model again")
    return Swin2SR(model)
