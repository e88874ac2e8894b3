"""What network a single file holds, as the names and shapes of its tensors say.

Files of ESRGAN's network come in three spellings: that of the first release (`model.1.sub.0.RDB1.conv1.0.weight`), of
its authors' later code (`RRDB_trunk.0.RDB1.conv1.weight`) and of Real-ESRGAN (`body.0.rdb1.conv1.weight`), which is the
one that `nodes.upscaling.nets` has. Nothing here reads numbers, or needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

from engine.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of tensors, by name."""

COLOURS = 3
HINT = "ESRGAN, Real-ESRGAN and its compact network are read from single files, Swin2SR from a folder"


@dataclass(frozen=True, slots=True)
class Dense:
    """ESRGAN's network (RRDBNet): residual blocks of three densely connected ones each."""

    width: int
    """Channels of its features."""
    growth: int
    """Channels that each layer of a dense block adds."""
    blocks: int
    """How many residual blocks."""
    doublings: int
    """How often features are made twice as large."""
    unshuffle: int
    """The side of the squares of pixels that become channels first, so that features are that much smaller."""

    @property
    def scale(self) -> int:
        """How many times larger pictures become."""
        return (1 << self.doublings) // self.unshuffle


@dataclass(frozen=True, slots=True)
class Compact:
    """Real-ESRGAN's compact network (SRVGGNetCompact): convolutions in a row, all but the last with a PReLU."""

    width: int
    """Channels of its features."""
    convolutions: int
    """How many, with the first and the last."""
    scale: int
    """How many times larger pictures become."""


Architecture = Dense | Compact

# Parts of tensor names that tell what else a file holds; the first that occurs decides.
_TELLS = (
    (r"model\.diffusion_model\.", "a diffusion model", "ImageModelLoad loads SDXL's"),
    (r"lora_(up|down|A|B)\.", "a LoRA", "LoRALoad loads it"),
    (r"^swin2sr\.", "Swin2SR without its configuration", "give the folder with its config.json"),
    (r"\.RDB1\.conv1x1\.", "ESRGAN+", HINT),
    (r"\.residual_group\.overlap_attn\.", "HAT", HINT),
    (r"\.residual_group\.layers\.0\.attn_atd\.", "ATD", HINT),
    (r"^layers\.0\.swin1\.", "DRCT", HINT),
    (r"^before_RG\.", "DAT", HINT),
    (r"\.attn\.(logit_scale|cpb_mlp)\b", "Swin2SR as its authors published it", "give it as a folder of transformers"),
    (r"\.residual_group\.blocks\.0\.", "SwinIR", HINT),
    (r"^block_1\.c1_r\.", "SPAN", HINT),
    (r"^feats\.1\.lk\.", "PLKSR", HINT),
    (r"^residual_layer\.0\.residual_layer\.", "OmniSR", HINT),
    (r"^body\.0\.body\.0\.", "EDSR or RCAN", HINT),
    (r"^stylegan_decoder\.", "GFPGAN, which restores faces", HINT),
    (r"^quantize\.embedding\.", "CodeFormer, which restores faces", HINT),
)

_PARTS = {"trunk_conv": "conv_body", "HRconv": "conv_hr"}
_DENSE = re.compile(r"(?:body|RRDB_trunk|model\.1\.sub)\.(\d+)\.(?:rdb|RDB)([123])\.conv([1-5])(?:\.0)?")
_UP = re.compile(r"(?:upconv|conv_up)(\d)")
_FIRST_TRUNK = re.compile(r"model\.1\.sub\.\d+")
_FIRST_REST = re.compile(r"model\.(\d+)")


class _Odd(Exception):
    """What about the tensors isn't as it should be, in words."""


def recognise(source: str, shapes: Shapes) -> tuple[Architecture, dict[str, str]]:
    """The network that a file holds, and what the file calls each of its tensors, by the name that the network has.

    Raises InputError if it is another, by name if it is a known one.
    """
    names = _plain(shapes)
    own = {name: shapes[given] for name, given in names.items()}
    for tell, kind, hint in _TELLS:
        if any(re.search(tell, name) for name in names):
            raise InputError(f"{source} is {kind}, which isn't supported here", input="source", hint=hint)
    try:
        if any(name.startswith("body.0.rdb1.") for name in own):
            return _dense(own), names
        if own and all(re.fullmatch(r"body\.\d+\.(weight|bias)", name) for name in own):
            return _compact(own), names
    except _Odd as odd:
        raise InputError(f"{source} can't be used: {odd}", input="source", hint=HINT) from None
    raise InputError(f"{source} holds no upscaler that is known", input="source", hint=HINT)


def compare(source: str, shapes: Shapes, expected: Shapes) -> None:
    """Check that a network's tensors are all there and have their shapes; raises InputError about the first."""
    for name in sorted(shapes.keys() | expected.keys()):
        found, wanted = shapes.get(name), expected.get(name)
        if found != wanted:
            said = "is missing" if found is None else "is unknown" if wanted is None else f"is {found}, not {wanted}"
            raise InputError(f"{source} is damaged or of a variant: {name} {said}", input="source", hint=HINT)


def _plain(names: Iterable[str]) -> dict[str, str]:
    """Names as Real-ESRGAN has them → as the file has them; those that aren't known stay."""
    given = {name.removeprefix("module."): name for name in names}
    if "model.0.weight" not in given:
        return {_renamed(name, {}): own for name, own in given.items()}
    rest = sorted({int(found[1]) for name in given if (found := _FIRST_REST.fullmatch(name.rpartition(".")[0]))})
    ends = {0: "conv_first"} | {number: f"conv_up{i}" for i, number in enumerate(rest[1:-2], 1)}
    ends |= dict(zip(rest[1:][-2:], ("conv_hr", "conv_last"), strict=False))
    return {_renamed(name, ends): own for name, own in given.items()}


def _renamed(name: str, ends: Mapping[int, str]) -> str:
    """A tensor's name in Real-ESRGAN's spelling, given what the numbered layers of the first one are."""
    layer, _, kind = name.rpartition(".")
    if not layer:
        return name
    if found := _DENSE.fullmatch(layer):
        return f"body.{found[1]}.rdb{found[2]}.conv{found[3]}.{kind}"
    if found := _UP.fullmatch(layer):
        return f"conv_up{found[1]}.{kind}"
    if _FIRST_TRUNK.fullmatch(layer):
        return f"conv_body.{kind}"
    if (found := _FIRST_REST.fullmatch(layer)) and int(found[1]) in ends:
        return f"{ends[int(found[1])]}.{kind}"
    return f"{_PARTS.get(layer, layer)}.{kind}"


def _dense(shapes: Shapes) -> Dense:
    width, seen = _channels(shapes, "conv_first.weight")
    shown, _ = _channels(shapes, "conv_last.weight")
    growth, _ = _channels(shapes, "body.0.rdb1.conv1.weight")
    if shown != COLOURS:
        raise _Odd(f"it makes pictures of {shown} channels, and pictures here have red, green and blue")
    unshuffle = isqrt(seen // COLOURS)
    if seen != COLOURS * unshuffle**2 or unshuffle not in (1, 2, 4):
        raise _Odd(f"it reads {seen} channels, which aren't those of red, green and blue")
    blocks = len(set(_numbers(r"body\.(\d+)\.", shapes)))
    doublings = max(_numbers(r"conv_up(\d)\.", shapes), default=0)
    if 2**doublings < unshuffle:
        raise _Odd(f"it makes pictures smaller, by {unshuffle // 2**doublings}")
    return Dense(width, growth, blocks, doublings, unshuffle)


def _compact(shapes: Shapes) -> Compact:
    if len(shapes.get("body.1.weight", ())) != 1:
        raise _Odd("its activations aren't PReLU, and which they are isn't recorded")
    last = len(set(_numbers(r"body\.(\d+)\.", shapes))) - 1
    width, seen = _channels(shapes, "body.0.weight")
    shown, _ = _channels(shapes, f"body.{last}.weight")
    scale = isqrt(shown // COLOURS)
    if seen != COLOURS or shown != COLOURS * scale**2 or not scale:
        raise _Odd(f"it reads {seen} channels and makes {shown}, and pictures here have red, green and blue")
    return Compact(width, last // 2 + 1, scale)


def _channels(shapes: Shapes, name: str) -> tuple[int, int]:
    """The output and the input channels of a convolution's weight."""
    shape = shapes.get(name)
    if shape is None:
        raise _Odd(f"{name} is missing")
    if len(shape) != 4 or not all(shape):
        raise _Odd(f"{name} is {shape}, which isn't a convolution's shape")
    return shape[0], shape[1]


def _numbers(pattern: str, names: Iterable[str]) -> Iterator[int]:
    return (int(found[1]) for name in names if (found := re.match(pattern, name)))
