"""What a LoRA file's header says, and the configuration that PEFT writes beside a file."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from engine.errors import InputError
from engine.values import brief
from nodes.lora.patterns import matches, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.values import Words

T = TypeVar("T")

WORDS_KEY = "kinograph.words"
"""Header entry: a JSON object of trigger words by vocabulary slot."""
DAMAGED = "the file may be damaged: save or fetch it again"
_FEW = 3
"""More tags that are on every picture describe the pictures and trigger nothing."""
_MOST_RANKS = 1_000_000
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin a training by which the base model's own weights change."""

_BY_ALPHA = ("LOHA", "LOKR")
"""PEFT's kinds that call their alpha so."""

Patterns = Annotated[dict[str, FiniteFloat], BeforeValidator(lambda found: found or {})]
"""Values by regular expressions of layers."""


class Peft(BaseModel):
    """What PEFT's configuration says that matters for reading."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peft_type: str = "LORA"
    lora_alpha: FiniteFloat = 8
    alpha: FiniteFloat = 8
    """As LoHa and LoKr call it. This, `lora_alpha` and `r` are 8 in PEFT too where nothing is said."""
    r: FiniteFloat = 8
    alpha_pattern: Patterns = Field(default_factory=dict)
    rank_pattern: Patterns = Field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: bool | str | None = True
    modules_to_save: Any = None
    layer_replication: Any = None
    coft: bool = False
    use_cayley_neumann: bool = True
    num_cayley_neumann_terms: Annotated[int, Field(ge=1, le=100)] = 5
    feedforward_modules: list[str] | str | None = None
    """The layers of which IA³ scales inputs: by the ends of their paths, or by a pattern."""
    peft_version: str | None = None
    """Written since 0.18."""
    auto_mapping: dict[str, Any] | None = None

    def alpha_of(self, path: str) -> float:
        """The alpha of a layer at a path within its component."""
        own = self.alpha if self.peft_type.upper() in _BY_ALPHA else self.lora_alpha
        return _of_pattern(self.alpha_pattern, path, own)

    def scale(self, path: str, rank: int | None) -> float:
        """What the update of a layer at a path within its component is multiplied with."""
        alpha = self.alpha_of(path)
        rank = rank or int(_of_pattern(self.rank_pattern, path, self.r))
        return float(alpha / (rank**0.5 if self.use_rslora else rank)) if rank else 1.0

    def scales_inputs(self, path: str) -> bool | None:
        """Whether IA³ scales the inputs of the layer at a path within its component, if that is said."""
        if isinstance(self.feedforward_modules, str):
            return matches(self.feedforward_modules, path)
        return None if self.feedforward_modules is None else path.endswith(tuple(self.feedforward_modules))

    @property
    def halves_last_term(self) -> bool:
        """Whether it approximates rotations as PEFT does since 0.18."""
        version = re.match(r"(\d+)\.(\d+)", self.peft_version or "")
        return version is not None and (int(version[1]), int(version[2])) >= (0, 18)

    @property
    def has_alphas(self) -> bool:
        """Whether its kind of adapter has an alpha."""
        return self.peft_type.upper() in ("LORA", *_BY_ALPHA)

    @property
    def component(self) -> str | None:
        """The component that it was trained on, if it says so."""
        said = (self.auto_mapping or {}).get("base_model_class")
        trained = said if isinstance(said, str) else ""
        classes = {"CLIPTextModelWithProjection": "text_encoder_2", "CLIPTextModel": "text_encoder"}
        return classes.get(trained, "unet" if "UNet" in trained else None)


class _Pictures(BaseModel):
    """A folder of training pictures."""

    img_count: int


def peft_of(file: str, settings: Mapping[str, Any]) -> Peft:
    """PEFT's configuration; raises InputError if it is malformed or asks for what isn't read."""
    try:
        peft = Peft.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        message = f"{file}: {'.'.join(map(str, fault['loc']))} is {brief(fault['input'])} in PEFT's configuration"
        raise InputError(message, input="file", hint=f"{fault['msg'].lower()}: {DAMAGED}") from error
    for patterns in (peft.alpha_pattern, peft.rank_pattern):
        for key, value in patterns.items():
            _check_pattern(file, key)
            if not value or (value < 0 and patterns is peft.rank_pattern):
                message = f"{file}: {key} is {value:g} in PEFT's configuration"
                raise InputError(message, input="file", hint=DAMAGED)
    if isinstance(peft.feedforward_modules, str):
        _check_pattern(file, peft.feedforward_modules)
    names = ("alpha", "r") if peft.peft_type.upper() in _BY_ALPHA else ("lora_alpha", "r")
    for name in names if peft.has_alphas else ():
        value = getattr(peft, name)
        if not value or (name == "r" and value < 0):
            raise InputError(f"{file}: {name} is {value:g} in PEFT's configuration", input="file", hint=DAMAGED)
    for name, what in (
        ("modules_to_save", "whole layers beside the adapter"),
        ("layer_replication", "copies of layers"),
        ("coft", "rotations with a limit"),
    ):
        if getattr(peft, name):
            message = f"{file} has {what}, as PEFT's configuration says ({name})"
            raise InputError(message, input="file", hint="save it without, or merged with its model")
    if str(peft.init_lora_weights).lower().startswith(_CHANGE_THE_BASE):
        message = f"{file} belongs to a model that its training changed (init_lora_weights={peft.init_lora_weights})"
        raise InputError(message, input="file", hint="convert it with PEFT's path_initial_model_for_weight_conversion")
    if peft.peft_type.upper() not in ("LORA", "LOHA", "LOKR", "OFT", "IA3"):
        message = f"{file} is an adapter of PEFT's kind {peft.peft_type}"
        raise InputError(message, input="file", hint="LORA, LOHA, LOKR, OFT and IA3 can be read")
    return peft


def entry(file: str, header: Mapping[str, str], key: str, kind: type[T]) -> T:
    """A JSON object in the header, empty where there is none; raises InputError."""
    try:
        return TypeAdapter(kind).validate_json(header.get(key, "{}"))
    except ValidationError as error:
        raise InputError(f"{file}: the header's {key} can't be parsed", input="file", hint=DAMAGED) from error


def words_of(file: str, header: Mapping[str, str]) -> Words:
    """Trigger words by vocabulary slot: ours, or the trigger phrase or tags that other trainers write.

    A tag is a trigger word if it is on every training picture, as the header counts them, and few others are.
    """
    if WORDS_KEY in header:
        return entry(file, header, WORDS_KEY, dict[str, tuple[str, ...]])
    if phrase := header.get("modelspec.trigger_phrase", "").strip():
        return {"trigger": tuple(dict.fromkeys(word.strip() for word in phrase.split(",") if word.strip()))}
    try:
        folders = TypeAdapter(dict[str, dict[str, int]]).validate_json(header.get("ss_tag_frequency", "{}"))
        pictures = TypeAdapter(dict[str, _Pictures]).validate_json(header.get("ss_dataset_dirs", "{}"))
    except ValidationError:
        return {}  # only a help: other trainers write other things there
    counts = sum((Counter({tag.strip(): count for tag, count in tags.items()}) for tags in folders.values()), Counter())
    count = sum(folder.img_count for folder in pictures.values())
    on_all = tuple(tag for tag, often in counts.items() if often == count and tag)
    return {"trigger": on_all} if count > 1 and 0 < len(on_all) <= _FEW else {}


def says_stabilised(header: Mapping[str, str]) -> bool:
    """Whether LyCORIS trained with stabilised ranks: it takes any value of rs_lora but "false" for yes."""
    return str(_network_arguments(header).get("rs_lora", False)).lower() != "false"


def rank_wanted(header: Mapping[str, str], convolution: bool) -> float | None:
    """The rank that LyCORIS was asked for in a convolution with a kernel, or in other layers, if the header says it."""
    said = header.get("ss_network_dim")
    said = _network_arguments(header).get("conv_dim", said) if convolution else said
    try:
        rank = float(said) if said is not None else 0.0
    except (TypeError, ValueError):
        return None  # "Dynamic", for one
    return rank if 0 < rank <= _MOST_RANKS else None


def _network_arguments(header: Mapping[str, str]) -> dict[str, Any]:
    try:
        return TypeAdapter(dict[str, Any]).validate_json(header.get("ss_network_args", "{}"))
    except ValidationError:
        return {}  # trainers without such settings write other things there


def said_base(header: Mapping[str, str]) -> str | None:
    """The base model that the header names, None if it names none that is known."""
    said = " ".join(header.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")).lower()
    return next((base for mark, base in _BASES if re.search(mark, said)), None)


SDXL = "SDXL"
SVD = "Stable Video Diffusion"
_BASES = (
    (r"refiner", "the refiner of SDXL"),
    (r"sdxl|stable-diffusion-xl", SDXL),
    (r"svd|stable-video", SVD),
    (r"flux", "Flux"),
    (r"sd_?3|stable-diffusion-(v)?3", "Stable Diffusion 3"),
    (r"sd_v2|stable-diffusion-v2", "Stable Diffusion 2.x"),
    (r"sd_v1|sd_1|stable-diffusion-v1", "Stable Diffusion 1.x"),
    (r"cascade", "Stable Cascade"),
    (r"\bwan", "Wan"),
    (r"hunyuan", "Hunyuan"),
    (r"lumina", "Lumina"),
    (r"qwen", "Qwen-Image"),
    (r"chroma", "Chroma"),
    (r"pixart", "PixArt"),
    (r"ltx", "LTX-Video"),
)
"""Base models by what headers call them; the first that matches counts."""


def _check_pattern(file: str, pattern: str) -> None:
    try:
        parsed(pattern)
    except ValueError as error:
        message = f"{file}: {brief(pattern)} is no pattern that can be followed in PEFT's configuration ({error})"
        raise InputError(message, input="file", hint="name the layers, or say .*name") from error


def _of_pattern(patterns: Mapping[str, float], path: str, otherwise: float) -> float:
    return next((value for key, value in patterns.items() if matches(key, path, behind_a_dot=True)), otherwise)
