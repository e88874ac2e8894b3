"""What a LoRA is made of: its form, ranks, alphas and norms, layer by layer, in words and as a plot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import hypot, inf, isfinite, prod
from typing import TYPE_CHECKING, NamedTuple

import torch

from nodes.diffusion.adapters import check_low_rank
from nodes.diffusion.bases import base_of_widths
from nodes.diffusion.changes import change, shapes_of
from nodes.lora.forms import MOST_NUMBERS
from nodes.lora.header import said_base
from nodes.lora.plot import Bar
from nodes.lora.truncation import Limit, decomposed

if TYPE_CHECKING:
    from torch import Tensor

    from engine.values import LoRA, Words

    Parts = Mapping[str, Tensor]

MOST = 0.99
"""The share of an update's norm for which ranks are told."""
MOST_BARS = 48
"""More layers than that are plotted by block."""
ONLY_OTHER = "only in the other"
"""In place of a form of layers that only the LoRA has that another is compared with."""
CHARACTERS = 160
"""Of an entry of the header that are shown."""

_ON_THE_MODEL = frozenset(
    {"base_up", "rows", "columns", "rotation", "input_rotation", "rescale", "row_norms", "column_norms"}
)
"""Parts whose update depends on the model's weights."""
_BLOCK = re.compile(
    r"unet\.(?:(?:down|up)_blocks\.\d+|mid_block)(?:\.\w+\.\d+)?|text_encoder\w*\.text_model\.encoder\.layers\.\d+|[^.]+\.[^.]+"
)


class Layer(NamedTuple):
    """What is known of a layer's update; None where that doesn't apply."""

    name: str
    form: str
    rank: int | None
    alpha: float | None
    norm: float | None
    """The Frobenius norm, times the strength; None if it depends on the model's weights."""
    needed: int | None
    """How many singular values have 99 % of the norm."""
    difference: float | None
    """The norm of what another LoRA's update lacks of this one, or has beside it, over this one's norm; infinite for a
    layer that only the other has."""


def layers_of(lora: LoRA, alphas: Mapping[str, float], other: LoRA | None = None) -> list[Layer]:
    """Each layer that a LoRA changes, in natural order.

    `other` is compared layer by layer; raises InputError where one of both has more than two matrices in a layer.
    """
    for one in (lora, other) if other is not None else ():
        check_low_rank(one)
    return [
        _layer(name, _parts(lora, name), lora.strength, alphas.get(name), _parts(other, name) if other else None, other)
        for name in sorted({*lora.layers, *(other.layers if other else ())}, key=_naturally)
    ]


def _layer(
    name: str, parts: Parts, strength: float, alpha: float | None, theirs: Parts | None, other: LoRA | None
) -> Layer:
    if not parts:
        return Layer(name, ONLY_OTHER, None, None, 0.0, None, inf)
    rank = next((len(parts[down]) for down in ("down", "down_1") if down in parts), None)
    norm, needed = _norm(parts), None
    if parts.keys() - {"bias"} == {"up", "down"}:
        needed = Limit(keep=MOST).count(decomposed(parts["up"], parts["down"])[1])
    difference = None
    if other is not None and norm:
        difference = _distance(parts, strength, theirs or {}, other.strength) / (norm * abs(strength) or 1.0)
    norm = None if norm is None or not isfinite(norm) else norm * abs(strength)
    return Layer(name, form_of(parts), rank, alpha, norm, needed, difference)


def _parts(lora: LoRA, name: str) -> Parts:
    """A layer's parts; none if the LoRA leaves it alone."""
    own = {"up": lora.up[name], "down": lora.down[name]} if name in lora.up else {}
    return own | dict(lora.other.get(name, {}))


def form_of(parts: Parts) -> str:
    """What a layer's update is called: "LoRA", "DoRA of LoHa", "full difference with a bias"."""
    names = [form for part, form in _FORMS.items() if part in parts]
    if "base_up" in parts:
        names.remove("LoRA")
    if "rotation" in parts and parts["rotation"].ndim == 4:
        names[names.index("OFT")] = "BOFT"
    form = " and ".join(names)
    if parts.keys() & {"row_norms", "column_norms"}:
        form = "DoRA" if form == "LoRA" else f"DoRA of {form or 'magnitudes alone'}"
    if "bias" in parts:
        form = f"{form} with a bias" if form else "bias"
    return form


_FORMS = {
    "up": "LoRA",
    "up_1": "LoHa",
    "left": "LoKr",
    "base_up": "GLoRA",
    "difference": "full difference",
    "rows": "IA³",
    "columns": "IA³",
    "rotation": "OFT",
    "input_rotation": "OFT of PEFT",
}
"""What the parts of `nodes.diffusion.changes` are of."""


def _norm(parts: Parts) -> float | None:
    """The Frobenius norm of a weight's update; None if it depends on the weight, or only the bias is changed."""
    terms = parts.keys() - {"bias", "bias_rows"}
    if not terms or terms & _ON_THE_MODEL:
        return None
    if terms == {"up", "down"}:
        return _length(decomposed(parts["up"], parts["down"])[1])
    if terms == {"left", "right"}:
        return _length(parts["left"]) * _length(parts["right"])
    if prod(shape := next(shapes_of(parts))) > MOST_NUMBERS:
        return None  # the parts are far smaller
    found = change({name: parts[name] for name in terms}, torch.zeros(shape), None).weight
    assert found is not None, "there are terms"
    return _length(found)


def _length(tensor: Tensor) -> float:
    """The Frobenius norm, added up in float64."""
    return float(tensor.double().norm())


def _distance(mine: Parts, strength: float, theirs: Parts, their_strength: float) -> float:
    """The norm of the difference of two low-rank updates, without making either."""
    if "up" not in theirs:
        return _length(decomposed(mine["up"], mine["down"])[1]) * abs(strength)
    ups = [mine["up"].flatten(1).double() * strength, -their_strength * theirs["up"].flatten(1).double()]
    downs = [parts["down"].flatten(1).double() for parts in (mine, theirs)]
    if ups[0].shape[0] != ups[1].shape[0] or downs[0].shape[1] != downs[1].shape[1]:
        return float("inf")
    return _length(decomposed(torch.cat(ups, dim=1), torch.cat(downs))[1])


def bars_of(layers: Sequence[Layer]) -> list[Bar]:
    """The norms as bars: of each layer, or of each block where there are many."""
    if len(layers) <= MOST_BARS:
        return [Bar(layer.name, layer.norm, layer.name.partition(".")[0]) for layer in layers]
    bars = []
    for block, group in groupby(layers, lambda layer: _block(layer.name)):
        norms = [layer.norm for layer in group if layer.norm is not None]
        norm = hypot(*norms) if norms else None
        bars.append(Bar(block, norm, block.partition(".")[0]))
    return bars


def _block(name: str) -> str:
    match = _BLOCK.match(name)
    return match[0] if match else name


def _naturally(name: str) -> list[tuple[int, str]]:
    """A key that sorts layers 2 and 10 in this order."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def report(lora: LoRA, layers: Sequence[Layer], header: Mapping[str, str]) -> str:
    """All that is known of a LoRA, in Markdown."""
    own = [layer for layer in layers if layer.form != ONLY_OTHER]
    lines = [f"# LoRA {lora.name!r}", "", *_facts(lora, own, header), "", *_table(layers)]
    if header:
        lines += ["", "## Metadata", "", *(f"- {key}: {_brief(header[key])}" for key in sorted(header))]
    return "\n".join(lines) + "\n"


def _facts(lora: LoRA, layers: Sequence[Layer], header: Mapping[str, str]) -> list[str]:
    norms = [layer.norm for layer in layers if layer.norm is not None]
    unknown = len(layers) - len(norms)
    total = f"{hypot(*norms):.4g}" if norms else "unknown"
    beside = f", without {unknown} layers whose norm depends on the model" if unknown and norms else ""
    components = Counter(layer.name.partition(".")[0] for layer in layers)
    return [
        f"- form: {_counted(layer.form for layer in layers)}",
        f"- made for: {_base(lora, header)}",
        f"- trigger words: {_words(lora.words)}",
        f"- strength: {lora.strength:g}",
        f"- layers: {len(layers)} ({', '.join(f'{count} in {name}' for name, count in components.items())})",
        f"- ranks: {_counted(str(layer.rank) for layer in layers if layer.rank is not None)}",
        f"- alphas: {_counted(f'{layer.alpha:g}' for layer in layers if layer.alpha is not None)}",
        f"- numbers: {sum(part.numel() for name in lora.layers for part in _parts(lora, name).values()):,}",
        f"- norm of the update: {total}{beside}",
    ]


def _base(lora: LoRA, header: Mapping[str, str]) -> str:
    downs = {name: _parts(lora, name).get("down") for name in lora.layers}
    shown = base_of_widths({name: down.shape[1] for name, down in downs.items() if down is not None})
    said = said_base(header)
    if said and shown and said != shown:
        return f"{said}, as its header says; its shapes say {shown}"
    if said or shown:
        return f"{said or shown}, as its {'header says' if said else 'shapes say'}"
    return "unknown"


def _words(words: Words) -> str:
    return "; ".join(f"{slot}: {', '.join(of)}" for slot, of in words.items() if of) or "none that are known"


def _counted(values: Iterable[str]) -> str:
    """The values with how often each occurs: "8 (12 layers), 4 (3 layers)"."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count} layer{'s' * (count != 1)})" for value, count in counts.most_common()) or "none"


def _table(layers: Sequence[Layer]) -> list[str]:
    compared = any(layer.difference is not None for layer in layers)
    head = ["layer", "form", "rank", "alpha", "norm", "rank for 99 %", *(["difference"] if compared else [])]
    rows = [
        [
            layer.name,
            layer.form,
            "" if layer.rank is None else str(layer.rank),
            "" if layer.alpha is None else f"{layer.alpha:g}",
            "depends on the model" if layer.norm is None else f"{layer.norm:.4g}",
            "" if layer.needed is None else str(layer.needed),
            *(["" if layer.difference is None else f"{100 * layer.difference:.3g} %"] if compared else []),
        ]
        for layer in layers
    ]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _brief(text: str) -> str:
    line = " ".join(text[: 4 * CHARACTERS].split())
    return line if len(line) <= CHARACTERS else f"{line[: CHARACTERS - 1]}…"
