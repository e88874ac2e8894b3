"""The weights of a model in its files, read one by one: no pipeline is built.

A pipeline in diffusers' layout has a folder for each component. A single checkpoint has Stability's names (SGM), and
some text encoders OpenCLIP's, where the projections of queries, keys and values are one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from safetensors import SafetensorError, safe_open

from engine.errors import MissingError
from nodes.lora.keys import layer_of

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor

    from engine.values import ModelReference

_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.([a-z]\w*))?(?:-\d+-of-\d+)?\.safetensors")
"""A file of a component's weights, with its variant, such as fp16."""
_OPENCLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BY_CLIP = ("conditioner.embedders.0.transformer.", "cond_stage_model.transformer.")
_BY_OPENCLIP = {"conditioner.embedders.1.model.": "text_encoder_2", "cond_stage_model.model.": "text_encoder"}
"""The starts of the names of text encoders: SDXL's, and those of Stable Diffusion 1.x and 2.x."""
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_FAILURES = (SafetensorError, OSError, ValueError)


class _Place(NamedTuple):
    """Where a weight is."""

    file: Path
    key: str
    third: int | None = None
    """Which third of the rows it is; None: it is all of them."""
    transposed: bool = False


class StoredWeights:
    """The weights of a model's components that LoRAs change, by names such as `unet.conv_in.weight`. A context.

    Raises:
        MissingError: files are missing or damaged; by `read` too.
    """

    def __init__(self, model: ModelReference) -> None:
        self.source, path = model.source, Path(model.path)
        self._stack = ExitStack()
        self._open: dict[Path, Any] = {}
        files = [*_of_folder(path)] if path.is_dir() else [(None, path)]
        if not files:
            raise MissingError(
                f"{self.source} has no weights in safetensors",
                hint="give a model with such files as unet/diffusion_pytorch_model.safetensors",
            )
        self._places = {
            name: place for component, file in files for name, place in _places(component, file, self._keys(file))
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()
        self._stack.close()

    @property
    def names(self) -> list[str]:
        return [*self._places]

    def shape(self, name: str) -> tuple[int, ...]:
        """A weight's shape, without reading it."""
        place = self._places[name]
        shape = [*self._open[place.file].get_slice(place.key).get_shape()]
        if place.third is not None:
            shape[0] //= 3
        return tuple(reversed(shape)) if place.transposed else tuple(shape)

    def read(self, name: str) -> Tensor:
        """A weight, in the type of the file."""
        place = self._places[name]
        try:
            file = self._open[place.file]
            if place.third is None:
                weight: Tensor = file.get_tensor(place.key)
            else:
                rows = self.shape(name)[0]
                weight = file.get_slice(place.key)[place.third * rows : (place.third + 1) * rows]
        except _FAILURES as error:
            raise self._damaged(error) from error
        return weight.T if place.transposed else weight

    def _keys(self, file: Path) -> list[str]:
        try:
            self._open[file] = self._stack.enter_context(safe_open(file, "pt"))
            return [*self._open[file].keys()]
        except _FAILURES as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> MissingError:
        reason = str(error).partition("\n")[0]
        return MissingError(f"{self.source} can't be read: {reason}", hint="fetch or copy the model again")


def _of_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of the components that LoRAs change: of a transformer, or a UNet and its text encoders."""
    with_transformer = (folder / "transformer").is_dir()
    for component in ("transformer",) if with_transformer else ("unet", "text_encoder", "text_encoder_2"):
        variants: dict[str, list[Path]] = {}
        for file in sorted((folder / component).glob("*.safetensors")):
            if match := _WEIGHTS.fullmatch(file.name):
                variants.setdefault(match[1] or "", []).append(file)
        for file in variants[min(variants)] if variants else ():  # the usual one has no name
            yield component, file


def _places(component: str | None, file: Path, keys: list[str]) -> Iterator[tuple[str, _Place]]:
    """The weights in a file, of a component or of a whole checkpoint."""
    for key in keys:
        path, _, end = key.rpartition(".")
        if component:
            yield f"{_layer(component, path)}.{end}", _Place(file, key)
        elif start := next((start for start in _BY_OPENCLIP if key.startswith(start)), None):
            yield from _of_openclip(_BY_OPENCLIP[start], file, key, key.removeprefix(start))
        elif start := next((start for start in _BY_CLIP if key.startswith(start)), None):
            yield f"{_layer('text_encoder', path.removeprefix(start))}.{end}", _Place(file, key)
        elif key.startswith("model.diffusion_model.") and (layer := layer_of(path)) is not None:
            yield f"{layer}.{end}", _Place(file, key)


def _layer(component: str, path: str) -> str:
    """A layer's name; some versions of transformers leave out the `text_model.` of text encoders."""
    bare = component.startswith("text_encoder") and not path.startswith(("text_model.", "text_projection"))
    return f"{component}.{'text_model.' * bare}{path}"


def _of_openclip(component: str, file: Path, key: str, path: str) -> Iterator[tuple[str, _Place]]:
    if path == "text_projection" and component == "text_encoder_2":
        yield f"{component}.text_projection.weight", _Place(file, key, transposed=True)
    elif path.startswith("ln_final."):
        yield f"{component}.text_model.final_layer_norm.{path.removeprefix('ln_final.')}", _Place(file, key)
    elif match := _BLOCK.fullmatch(path):
        number, part, end = match.groups()
        layer = f"{component}.text_model.encoder.layers.{number}"
        if part == "attn.in_proj":
            for third, name in enumerate("qkv"):
                yield f"{layer}.self_attn.{name}_proj.{end}", _Place(file, key, third)
        elif part in _OPENCLIP:
            yield f"{layer}.{_OPENCLIP[part]}.{end}", _Place(file, key)
