"""What an adapter does to a layer where two low-rank matrices don't say it: the forms of `LoRA.other`.

With W the layer's weight, (out, in) or (out, in, k, k), and scales folded in, the parts of a layer mean

    up, down                    up @ down, as in `LoRA`
    up_1, down_1, up_2, down_2  (up_1 @ down_1) ∘ (up_2 @ down_2): LoHa
    left, right                 left ⊗ right: LoKr
    difference                  itself: full differences, and norms, whose weight is (n,)
    base_up, base_down          W @ (base_up @ base_down) over the input channels: GLoRA
    rows, columns               rows · W (out,) and W · columns (in,): IA³
    rotation, input_rotation    blocks (k, b, b) of R − 1 in RᵀW, or (m, k, b, b) of m factors in R…W; in WRᵀ: OFT, BOFT
    rescale                     what the rotated rows are multiplied with (out,)
    row_norms, column_norms     what the norms of W + ΔW become (out,) or (in,): DoRA
    bias, bias_rows             what is added to the bias (out,), and bias_rows · bias

Sums of several are sums; norms come last. The strength multiplies the change as a whole, but for rotations: there each
factor is interpolated from the identity, as by the libraries that train them.

All but rotations acts on the rows of a weight one by one, and rotations on its columns. So a change is computed in
float64 a few rows or columns at a time, and takes little more memory than it has itself.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    Parts = Mapping[str, Tensor]


BLOCK = 2**20
"""How many elements of a weight are computed at a time."""

_TINY = torch.finfo(torch.float32).eps
"""The least norm that is divided by."""
_BY_ROW = ("up", "up_1", "up_2", "difference", "rows", "row_norms")
"""Parts with a row, or an element, for each row of the weight."""


class Change(NamedTuple):
    """What is added to a layer's weight and to its bias; None where nothing is."""

    weight: Tensor | None
    bias: Tensor | None


def change(parts: Parts, weight: Tensor, bias: Tensor | None, strength: float = 1.0) -> Change:
    """The change of a layer with this weight and bias, in float32 at least, on the weight's device.

    Raises ValueError where the parts don't fit the layer.
    """
    # A DoRA's change is the small difference of two weights. Apple's GPUs have no float64.
    inner = torch.float32 if weight.device.type == "mps" else torch.float64
    dtype = torch.promote_types(weight.dtype, torch.float32)
    placed = {name: part.to(weight.device) for name, part in parts.items()}
    _check_fit(placed, weight)
    added = _weight_change(placed, weight, strength, inner, dtype)
    vectors = {name: part.to(inner) for name, part in placed.items() if name in ("bias", "bias_rows")}
    moved = _bias_change(vectors, len(weight), bias, strength)
    return Change(added, None if moved is None else moved.to(dtype))


def low_rank(up: Tensor, down: Tensor) -> Tensor:
    """up @ down: (out, in) of matrices, (out, in, k, k) of a convolution's."""
    product = up.flatten(1) @ down.flatten(1)
    return product if down.ndim == 2 else product.view(len(up), *down.shape[1:])


def fits(shape: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a change of this shape is one of the weight: kernels of one pixel may be left out, or flattened."""
    flat = (weight[0], torch.Size(weight[1:]).numel())
    return _plain(shape) == _plain(weight) or (len(weight) > 1 and shape == flat)


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the kernel, if that is of one pixel."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _check_fit(parts: Parts, weight: Tensor) -> None:
    """Raise ValueError where parts don't fit the weight, of which a few rows at a time wouldn't show it."""
    for shape in shapes_of(parts):
        if not fits(shape, tuple(weight.shape)):
            raise ValueError(f"changes it by {shape} where this model's weight is {tuple(weight.shape)}")
    for name, axis in (("rows", 0), ("columns", 1), ("row_norms", 0), ("column_norms", 1), ("rescale", 0)):
        if name in parts:
            _along(parts[name], weight, axis)
    if "base_up" in parts:
        mixed = len(parts["base_up"]), parts["base_down"].flatten(1).shape[1]
        if weight.ndim < 2 or mixed != (weight.shape[1],) * 2:
            message = f"mixes {mixed[0]} input channels into {mixed[1]} where this model's weight is"
            raise ValueError(f"{message} {tuple(weight.shape)}")
    if "rotation" in parts and weight.ndim < 2:
        raise ValueError(f"rotates rows where this model's weight is {tuple(weight.shape)}")


def shapes_of(parts: Parts) -> Iterator[tuple[int, ...]]:
    """The shapes of the terms that don't depend on the weight."""
    for up, down in (("up", "down"), ("up_1", "down_1"), ("up_2", "down_2")):
        if up in parts:
            yield len(parts[up]), *parts[down].shape[1:]
    if "left" in parts:
        left, right = parts["left"].shape, parts["right"].shape
        yield left[0] * right[0], left[1] * right[1], *right[2:]
    if "difference" in parts:
        yield tuple(parts["difference"].shape)


def _weight_change(
    parts: Parts, weight: Tensor, strength: float, inner: torch.dtype, dtype: torch.dtype
) -> Tensor | None:
    """The change of the weight, computed in `inner` a block at a time and returned in `dtype`."""
    if "rotation" in parts:
        return _by_columns(parts, weight, strength, inner, dtype)
    if not parts.keys() - {"bias", "bias_rows"}:
        return None
    found = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    exact = _exactly(parts, inner)
    factors = _column_factors(parts["column_norms"].to(inner), exact, weight) if "column_norms" in parts else None
    for rows in _blocks(weight):
        base, own = weight[rows].to(inner), exact(rows)
        total = _sum(own, base)
        if "row_norms" in own:
            total = _with_norms(base + total, own["row_norms"]).sub_(base)
        if factors is not None:
            total = (base + total).mul_(factors).sub_(base)
        found[rows] = total if strength == 1 else total * strength
    return found


def _blocks(weight: Tensor) -> Iterator[slice]:
    """The rows of a weight, a few at a time."""
    height = max(1, BLOCK // max(1, weight[0].numel()))
    yield from (slice(top, min(top + height, len(weight))) for top in range(0, len(weight), height))


def _exactly(parts: Parts, inner: torch.dtype) -> Callable[[slice], dict[str, Tensor]]:
    """Returns the parts for some rows of the weight, in `inner`; of LoKr's factors a row each for each of them."""
    whole = {name: part.to(inner) for name, part in parts.items() if name not in (*_BY_ROW, "left", "right")}

    def exact(rows: slice) -> dict[str, Tensor]:
        own = {name: parts[name][rows].to(inner) for name in _BY_ROW if name in parts}
        if "left" in parts:
            numbers, height = torch.arange(rows.start, rows.stop, device=parts["left"].device), len(parts["right"])
            own["left"] = parts["left"][numbers // height].to(inner)
            own["right"] = parts["right"][numbers % height].to(inner)
        return whole | own

    return exact


def _sum(parts: Parts, base: Tensor) -> Tensor:
    terms = [term.reshape(base.shape) for term in _terms(parts, base)]
    return reduce(torch.add, terms) if terms else torch.zeros_like(base)


def _column_factors(norms: Tensor, exact: Callable[[slice], dict[str, Tensor]], weight: Tensor) -> Tensor:
    """What the columns of the changed weight are multiplied with to have the norms given."""
    squares = torch.zeros(1, *weight.shape[1:2], *(1 for _ in weight.shape[2:])).to(norms)
    for rows in _blocks(weight):
        base = weight[rows].to(norms)
        others = [i for i in range(base.ndim) if i != 1]
        squares += (base + _sum(exact(rows), base)).square_().sum(others, keepdim=True)
    return _along(norms, weight, 1) / squares.sqrt().clamp(min=_TINY)


def _by_columns(parts: Parts, weight: Tensor, strength: float, inner: torch.dtype, dtype: torch.dtype) -> Tensor:
    """The change by a rotation, which mixes rows: computed a few columns at a time."""
    blocks = parts["rotation"].to(inner)
    rescale = parts["rescale"].to(inner) if "rescale" in parts else None
    found = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    flat, columns = found.view(len(weight), -1), weight.reshape(len(weight), -1)
    width = max(1, BLOCK // len(weight))
    for left in range(0, columns.shape[1], width):
        base = columns[:, left : left + width].to(inner)
        flat[:, left : left + width] = _turn(blocks, rescale, base, strength).to(dtype)
    return found


def _terms(parts: Parts, base: Tensor) -> Iterator[Tensor]:
    if "up" in parts:
        yield low_rank(parts["up"], parts["down"])
    if "up_1" in parts:
        one, other = low_rank(parts["up_1"], parts["down_1"]), low_rank(parts["up_2"], parts["down_2"])
        yield one * other
    if "left" in parts:
        yield _products(parts["left"], parts["right"])
    if "difference" in parts:
        yield parts["difference"]
    if "base_up" in parts:
        yield _mixed(base, parts["base_up"].flatten(1), parts["base_down"].flatten(1))
    if "rows" in parts:
        yield base * _along(parts["rows"], base, 0)
    if "columns" in parts:
        yield base * _along(parts["columns"], base, 1)
    if "input_rotation" in parts:
        yield _input_turn(parts["input_rotation"], base)


def _mixed(base: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """W @ (up @ down) over the input channels, by way of W @ up: up @ down may be far larger than all three."""
    return torch.einsum("or...,rj->oj...", torch.einsum("oi...,ir->or...", base, up), down)


def _along(vector: Tensor, base: Tensor, axis: int) -> Tensor:
    """A vector in a shape that multiplies the rows (axis 0) or columns (1) of the weight."""
    if base.ndim <= axis or vector.shape != base.shape[axis : axis + 1]:
        raise ValueError(f"scales {vector.numel()} rows or columns where this model's weight is {tuple(base.shape)}")
    return vector.view(*(-1 if i == axis else 1 for i in range(base.ndim)))


def _products(left: Tensor, right: Tensor) -> Tensor:
    """left ⊗ right of each row of left (n, a) with the same row of right (n, b, …): (n, a·b, …)."""
    return (left.view(*left.shape, *(1 for _ in right.shape[1:])) * right[:, None]).flatten(1, 2)


def _with_norms(rows: Tensor, norms: Tensor) -> Tensor:
    """The rows, changed in place, at the norms given; rows of zeros stay zeros."""
    now: Tensor = torch.linalg.vector_norm(rows, dim=[*range(1, rows.ndim)], keepdim=True)
    return rows.mul_(_along(norms, rows, 0) / now.clamp(min=_TINY))


def _turn(blocks: Tensor, rescale: Tensor | None, base: Tensor, strength: float) -> Tensor:
    """What rotating the rows by blocks, (k, b, b), or by one butterfly factor after another, (m, k, b, b), changes."""
    *factors, count, size, _ = blocks.shape
    if count * size != len(base):
        raise ValueError(f"rotates {count * size} rows where this model's weight is {tuple(base.shape)}")
    if factors and (size % 2 or len(base) % (size * 2 ** (factors[0] - 1))):
        raise ValueError(f"rotates in {factors[0]} steps of {size} rows where this model's weight has {len(base)}")
    if factors:
        turn = _butterfly(blocks * strength, base.flatten(1)).view(base.shape)
    else:
        turn = torch.einsum("knm,knj->kmj", blocks * strength, base.reshape(count, size, -1)).reshape(base.shape)
    return turn if rescale is None else turn + strength * (_along(rescale, base, 0) - 1) * (base + turn)


def _butterfly(factors: Tensor, rows: Tensor) -> Tensor:
    """What factor after factor changes of rows (out, n): factor i mixes those that are b/2 · 2ⁱ apart."""
    size, width = factors.shape[-1], rows.shape[1]
    total = torch.zeros_like(rows)
    for i, blocks in enumerate(factors):
        near = 2**i * (size // 2)
        grouped = (rows + total).reshape(-1, 2, near, width).transpose(1, 2).reshape(-1, size, width)
        mixed = torch.einsum("kij,kjn->kin", blocks, grouped)
        total = total + mixed.reshape(-1, near, 2, width).transpose(1, 2).reshape(rows.shape)
    return total


def _input_turn(blocks: Tensor, base: Tensor) -> Tensor:
    """What rotating the columns by blocks (k, b, b) changes; a single block may stand for all."""
    size, width = blocks.shape[-1], base.shape[1:].numel()
    if width % size or len(blocks) not in (1, width // size) or base.shape[2:].numel() != 1:
        raise ValueError(f"rotates {len(blocks) * size} columns where this model's weight is {tuple(base.shape)}")
    columns = base.reshape(len(base), -1, size)
    turn = torch.einsum("kmn,okn->okm", blocks.expand(width // size, -1, -1), columns)
    return turn.reshape(base.shape)


def _bias_change(parts: Parts, outputs: int, bias: Tensor | None, strength: float) -> Tensor | None:
    added = [parts[name] for name in ("bias",) if name in parts]
    if "bias_rows" in parts and bias is not None:
        added.append(_along(parts["bias_rows"], bias, 0) * bias.to(parts["bias_rows"]))
    for vector in added:
        if vector.shape != (outputs,):
            raise ValueError(f"changes the bias by {tuple(vector.shape)} where this model has {outputs} outputs")
    return torch.stack(added).sum(0) * strength if added else None
