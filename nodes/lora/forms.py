"""The parts that LoRA files give of a layer's update, as two low-rank matrices or as the parts of `LoRA.other`.

The formulas are those of the libraries that write such files: kohya's trainers, LyCORIS and PEFT.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import torch

from nodes.diffusion.changes import low_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Parts = Mapping[str, Tensor]

KINDS: Mapping[str, frozenset[str]] = {
    "LoRA": frozenset({"up", "down", "mid", "up_bias"}),
    "LoHa": frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"}),
    "LoKr": frozenset({"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
    "GLoRA": frozenset({"a1", "a2", "b1", "b2"}),
    "OFT": frozenset({"oft_blocks", "rescale"}),
    "OFT of PEFT": frozenset({"oft_R"}),
    "IA³": frozenset({"weight", "on_input"}),
    "IA³ of PEFT": frozenset({"ia3_l"}),
    "difference": frozenset({"diff", "w_norm"}),
}
"""The parts of each kind of update. A layer has one kind; beside it there may be `BESIDE`."""

WITH_NORMS = frozenset({"LoRA", "LoHa", "LoKr", "GLoRA", "difference"})
"""The kinds that can be DoRAs."""

BESIDE = frozenset({"alpha", "scalar", "dora_scale", "magnitude", "diff_b", "b_norm"})

REFUSED = {
    "boft_R": "BOFT as PEFT writes it",
    "boft_s": "BOFT as PEFT writes it",
    "oft_r": "OFT as older versions of PEFT wrote it",
    "set_weight": "weights that replace the model's",
    "reshape_weight": "a weight of another shape than the model's",
    "bm": "GLoRA of a convolution in three steps",
    "lokr_t1": "LoKr with two cores",
    "lora_E": "AdaLoRA",
    "scale_weight": "numbers with a scale of their own",
    "weight_scale": "numbers with a scale of their own",
}
"""Parts of files that are not read, by name, and what they are."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a file, or the configuration beside it, says of a layer."""

    scale: Callable[[int | None], float]
    """What an update of a rank is multiplied with; the rank is None where an update has none."""
    constraint: float | None = None
    """The largest norm of OFT's generators in units of the layer's outputs; None: any."""
    neumann: int | None = None
    """With how many terms PEFT's OFT approximates rotations; None: they are exact."""
    halves_last_term: bool = True
    """Whether the last of them has half the factor of the others."""
    scales_inputs: bool | None = None
    """Whether PEFT's IA³ scales inputs, not outputs; None: that isn't said."""
    wants_norms: bool = False
    """Whether the layer is said to be a DoRA."""


class Form(NamedTuple):
    """A layer's update: low-rank matrices (up, down), other parts, or both."""

    matrices: tuple[Tensor, Tensor] | None = None
    other: Mapping[str, Tensor] = {}


@dataclass(slots=True)
class _Layer:
    """A layer's parts while they are put together."""

    given: Parts
    settings: Settings
    made: dict[str, Tensor] = field(default_factory=dict)

    def scaled(self, tensor: Tensor, rank: int | None) -> Tensor:
        """Times the scale of an update of that rank, in float32 at least."""
        scale = self.settings.scale(rank)
        if "scalar" in self.given:
            scale *= self.given["scalar"].item()
        return tensor if scale == 1 else _exact(tensor) * scale


def kind_of(parts: Parts) -> str | None:
    """The kind of a layer's update, None if there is only a bias or nothing; raises ValueError if there are two."""
    for part in parts:
        if part in REFUSED:
            raise ValueError(f"holds {REFUSED[part]}")
    known = {kind: names for kind, names in KINDS.items() if names & parts.keys()}
    if "on_input" not in parts:
        known.pop("IA³", None)
    if len(known) > 1:
        raise ValueError(f"holds several kinds of update, {' and '.join(known)}")
    return next(iter(known), None)


MOST_NUMBERS = 2**28
"""Of a layer's update: no model has a layer of more."""


def _check_size(*shape: int) -> None:
    """Raise ValueError for an update that is larger than any layer, before it is made of small factors."""
    if prod(shape) > MOST_NUMBERS:
        raise ValueError(f"changes a weight of {shape}, which is more than any layer has")


def form_of(parts: Parts, settings: Settings) -> Form:
    """A layer's update; raises ValueError, or IndexError, where the parts don't go together."""
    layer = _Layer(parts, settings)
    kind = kind_of(parts)
    if kind is not None:
        _check_complete(kind, parts)
        _MAKERS[kind](layer)
    for name in ("diff_b", "b_norm"):
        if name in parts:
            if "bias" in layer.made:
                raise ValueError("gives its bias twice")
            layer.made["bias"] = _vector(name, parts[name], _counts(layer.made)[0])
    norms = [name for name in ("magnitude", "dora_scale") if name in parts]
    if settings.wants_norms and not norms and "up" in layer.made:
        raise ValueError("is said to be a DoRA and has no magnitudes")
    if len(norms) > 1:
        raise ValueError("gives its magnitudes twice")
    for name in norms:
        _add_norms(layer, name, kind)
    plain = layer.made.keys() & {"up", "down"} if not norms else set()
    other = {name: part for name, part in layer.made.items() if name not in plain}
    return Form((layer.made["up"], layer.made["down"]) if plain else None, other)


def _check_complete(kind: str, parts: Parts) -> None:
    """Raise ValueError where parts are missing without which the others say nothing."""
    needed: tuple[tuple[str, ...], ...]
    match kind:
        case "LoRA":
            needed = (("up",), ("down",))
        case "LoHa":
            needed = (("hada_w1_a",), ("hada_w1_b",), ("hada_w2_a",), ("hada_w2_b",))
            needed += (("hada_t1",), ("hada_t2",)) if {"hada_t1", "hada_t2"} & parts.keys() else ()
        case "LoKr":
            needed = (("lokr_w1", "lokr_w1_a"), ("lokr_w2", "lokr_w2_a"))
            needed += tuple((f"{pair}_{end}",) for pair in ("lokr_w1", "lokr_w2") for end in "ab" if pair not in parts)
        case "GLoRA":
            needed = (("a1",), ("a2",), ("b1",), ("b2",))
        case "OFT":
            needed = (("oft_blocks",),)
        case "IA³":
            needed = (("weight",),)
        case _:
            needed = ()
    for names in needed:
        if not any(name in parts for name in names):
            raise ValueError(f"has no {' or '.join(names)}, without which its {kind} is incomplete")


def _lora(layer: _Layer) -> None:
    up, down = layer.given["up"], layer.given["down"]
    shapes = f"matrices {tuple(up.shape)} and {tuple(down.shape)}"
    if "mid" in layer.given:
        mid = layer.given["mid"]
        if not (mid.ndim == 4 and down.flatten(1).shape == (mid.shape[1], down.shape[1])):
            raise ValueError(f"has {shapes} with a middle {tuple(mid.shape)}, which do not multiply")
        down = _core(mid, down.flatten(1))
    if not (min(up.ndim, down.ndim) >= 2 and up.shape[1] == down.shape[0] > 0 and up.shape[2:].numel() == 1):
        raise ValueError(f"has {shapes}, which do not multiply")
    up = up.reshape(*up.shape[:2], *(1 for _ in down.shape[2:]))
    layer.made |= {"up": layer.scaled(up, len(down)), "down": down}
    if "up_bias" in layer.given:
        layer.made["bias"] = layer.scaled(_vector("bias", layer.given["up_bias"]), len(down))


def _loha(layer: _Layer) -> None:
    given = layer.given
    (up, down), (up_2, down_2) = (
        _factors(given[f"hada_w{i}_a"], given[f"hada_w{i}_b"], given.get(f"hada_t{i}")) for i in (1, 2)
    )
    _check_size(len(up), *down.shape[1:])
    if (one := (len(up), *down.shape[1:])) != (other := (len(up_2), *down_2.shape[1:])):
        raise ValueError(f"has factors of {one} and {other}, which should be alike")
    layer.made |= {"up_1": layer.scaled(up, len(down)), "down_1": down, "up_2": up_2, "down_2": down_2}


def _factors(a: Tensor, b: Tensor, core: Tensor | None) -> tuple[Tensor, Tensor]:
    """LyCORIS's factors a (out, r) and b (r, in·k·k), or a (r, out), b (r, in) and a core (r, r, k, k), as up, down."""
    if a.ndim != 2 or (core is not None and not (core.ndim == 4 and b.ndim == 2 and core.shape[1] == len(b))):
        raise ValueError(f"has factors {tuple(a.shape)} and {tuple(b.shape)}, which do not multiply")
    up, down = (a, b.flatten(1)) if core is None else (a.T, _core(core, b))
    if up.shape[1] != len(down):
        raise ValueError(f"has factors {tuple(up.shape)} and {tuple(down.shape)}, which do not multiply")
    return (up if down.ndim == 2 else up[..., None, None]), down


def _core(core: Tensor, down: Tensor) -> Tensor:
    """A core (m, n, k, k) times down (n, in): a convolution's down (m, in, k, k)."""
    _check_size(len(core), *down.shape[1:], *core.shape[2:])
    return torch.einsum("mn...,ni->mi...", core.double(), down.double()).float()


def _lokr(layer: _Layer) -> None:
    given, ranks = layer.given, []
    if (left := given.get("lokr_w1")) is None:
        a, b = given["lokr_w1_a"], given["lokr_w1_b"]
        if not (a.ndim == b.ndim == 2 and a.shape[1] == len(b)):
            raise ValueError(f"has factors {tuple(a.shape)} and {tuple(b.shape)}, which do not multiply")
        _check_size(len(a), b.shape[1])
        left = a.double() @ b.double()
        ranks.append(len(b))
    if (right := given.get("lokr_w2")) is None:
        b, core = given["lokr_w2_b"], given.get("lokr_t2")
        kernel = b.shape[2:]
        up, down = _factors(given["lokr_w2_a"], b, core)
        _check_size(len(up), *down.shape[1:])
        right = low_rank(up.double(), down.double())
        right = right.view(len(right), -1, *kernel) if core is None else right
        ranks.append(len(b))
    if left.ndim != 2 or right.ndim < 2:
        raise ValueError(f"has factors {tuple(left.shape)} and {tuple(right.shape)}, which have no product")
    _check_size(len(left), len(right), left.shape[1], *right.shape[1:])
    scaled = layer.scaled(left.float() if ranks else left, ranks[-1] if ranks else None)
    layer.made |= {"left": scaled, "right": right.float() if right.dtype == torch.float64 and ranks else right}


def _glora(layer: _Layer) -> None:
    """Older versions of LyCORIS called a1 a2, b1 b2 and the other way round. For square weights both orders multiply:
    there the one of the smaller rank is meant."""
    a1, a2, b1, b2 = (layer.given[name] for name in ("a1", "a2", "b1", "b2"))
    orders = [
        order
        for order in ((a2, a1, b2, b1), (a1, a2, b1, b2))
        if _multiply(*order[:2]) and _multiply(*order[2:]) and order[0].shape[1] == order[2].shape[1]
    ]
    if not orders:
        shapes = ", ".join(f"{name} {tuple(layer.given[name].shape)}" for name in ("a1", "a2", "b1", "b2"))
        raise ValueError(f"has {shapes}, which do not multiply")
    a1, a2, b1, b2 = min(orders, key=lambda order: order[0].shape[1])
    rank = a1.shape[1]
    layer.made |= {"up": layer.scaled(b1, rank), "down": b2, "base_up": layer.scaled(a1, rank), "base_down": a2}


def _multiply(one: Tensor, other: Tensor) -> bool:
    return min(one.ndim, other.ndim) >= 2 and one.shape[1] == len(other) and one.shape[2:].numel() == 1


def _oft(layer: _Layer) -> None:
    """Blocks (k, b, b), or (m, k, b, b) of BOFT: rotations by Cayley's formula of what is antisymmetric in them,
    R = (1 + Q) (1 − Q)⁻¹, so that R − 1 = 2 Q (1 − Q)⁻¹."""
    blocks = layer.given["oft_blocks"].double()
    if blocks.ndim not in (3, 4) or blocks.shape[-1] != blocks.shape[-2]:
        raise ValueError(f"has blocks of {tuple(blocks.shape)}, which are no rotations")
    turn = blocks - blocks.mT
    outputs = blocks.shape[-3] * blocks.shape[-1]
    if (most := layer.settings.constraint) is not None:
        turn = turn * min(1.0, most * outputs / (turn.norm().item() + 1e-8))
    one = torch.eye(turn.shape[-1], dtype=turn.dtype)
    layer.made["rotation"] = _solved(one - turn, 2 * turn).float()
    if "rescale" in layer.given:
        layer.made["rescale"] = _vector("rescale", layer.given["rescale"], outputs)


def _oft_of_peft(layer: _Layer) -> None:
    """Upper triangles (k, b(b − 1)/2) of what is antisymmetric."""
    triangles = layer.given["oft_R"].double()
    size = round((1 + (1 + 8 * triangles.shape[-1]) ** 0.5) / 2)
    if triangles.ndim != 2 or size * (size - 1) // 2 != triangles.shape[1]:
        raise ValueError(f"has triangles of {tuple(triangles.shape)}, which are no rotations")
    rows, columns = torch.triu_indices(size, size, 1)
    _check_size(len(triangles), size, size)
    turn = torch.zeros(len(triangles), size, size, dtype=torch.float64)
    turn[:, rows, columns] = triangles
    turn = turn - turn.mT
    one = torch.eye(size, dtype=torch.float64)
    if layer.settings.neumann is None:
        rotation = _solved(one + turn, -2 * turn)
    else:
        rotation = _neumann(turn, layer.settings.neumann, layer.settings.halves_last_term)
    layer.made["input_rotation"] = rotation.float()


def _solved(turn: Tensor, right: Tensor) -> Tensor:
    """right @ turn⁻¹, which only numbers too large for float64 leave without a solution; then it isn't finite."""
    solution: Tensor = torch.linalg.solve_ex(turn, right, left=False)[0]
    return solution


def _neumann(turn: Tensor, terms: int, halves_last: bool) -> Tensor:
    """2Q + 2Q² + … + 2Qⁿ⁻¹ of n terms. PEFT since 0.18 gives the last power no factor, and goes to the third with three
    terms too."""
    last = 3 if halves_last and terms == 3 else terms - 1
    total, power = torch.zeros_like(turn), turn
    for exponent in range(1, last + 1):
        total = total + (power if halves_last and exponent == last > 1 else 2 * power)
        power = power @ turn
    return total


def _ia3(layer: _Layer) -> None:
    on_input = bool(layer.given["on_input"].item())
    layer.made["columns" if on_input else "rows"] = _vector("weight", layer.given["weight"])


def _ia3_of_peft(layer: _Layer) -> None:
    """(out, 1), or (1, in) where the inputs are scaled; of a convolution always (1, n, 1, 1)."""
    scales, on_input = layer.given["ia3_l"], layer.settings.scales_inputs
    if scales.ndim == 2:
        on_input = scales.shape[0] == 1
    elif on_input is None:
        raise ValueError("holds an IA³ of a convolution, which doesn't say whether it scales inputs or outputs")
    change = _exact(_vector("ia3_l", scales)) - 1
    layer.made |= {"columns": change} if on_input else {"rows": change, "bias_rows": change}


def _difference(layer: _Layer) -> None:
    if {"diff", "w_norm"} <= layer.given.keys():
        raise ValueError("gives its difference twice")
    difference = layer.given.get("diff", layer.given.get("w_norm"))
    assert difference is not None, "the kind has one of them"
    if difference.ndim == 0:
        raise ValueError("has a difference of one number")
    layer.made["difference"] = difference


def _add_norms(layer: _Layer, name: str, kind: str | None) -> None:
    norms = layer.given[name]
    on_input = name == "dora_scale" and norms.ndim > 1 and norms.shape[0] == 1 and norms.numel() > 1
    if kind not in WITH_NORMS:
        raise ValueError("has the magnitudes of a DoRA beside something that is none")
    counts = _counts(layer.made)
    layer.made["column_norms" if on_input else "row_norms"] = _vector(name, norms, counts[on_input])


def _counts(made: Parts) -> tuple[int | None, int | None]:
    """How many outputs and inputs an update has, where it says so."""
    if "difference" in made:
        return len(made["difference"]), None
    for up, down in (("up", "down"), ("up_1", "down_1")):
        if up in made:
            flat = up == "up_1" and made[down].ndim == 2  # a convolution's kernel may be among the columns
            return len(made[up]), None if flat else made[down].shape[1]
    if "left" in made:
        return len(made["left"]) * len(made["right"]), None
    return None, None


def _vector(name: str, tensor: Tensor, count: int | None = None) -> Tensor:
    """A tensor with one long side as a vector; raises ValueError if it has two, or another length."""
    if tensor.numel() != max(tensor.shape, default=1) or count not in (None, tensor.numel()):
        wanted = f", not {count} values" if count is not None else ", not one value for each row"
        raise ValueError(f"has a {name} of shape {tuple(tensor.shape)}{wanted}")
    return tensor.flatten()


def _exact(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


_MAKERS: Mapping[str, Callable[[_Layer], None]] = {
    "LoRA": _lora,
    "LoHa": _loha,
    "LoKr": _lokr,
    "GLoRA": _glora,
    "OFT": _oft,
    "OFT of PEFT": _oft_of_peft,
    "IA³": _ia3,
    "IA³ of PEFT": _ia3_of_peft,
    "difference": _difference,
}
