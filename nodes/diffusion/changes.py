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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    Parts = Mapping[str, Tensor]


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
    base, own = weight.to(inner), {name: part.to(weight.device, inner) for name, part in parts.items()}
    both = _weight_change(own, base, strength), _bias_change(own, base, bias, strength)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return Change(*(None if part is None else part.to(dtype) for part in both))


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


def _weight_change(parts: Parts, base: Tensor, strength: float) -> Tensor | None:
    terms = [_shaped(term, base) for term in _terms(parts, base)]
    total = torch.stack(terms).sum(0) if terms else None
    for name, axis in (("row_norms", 0), ("column_norms", 1)):
        if name in parts:
            total = _with_norms(base if total is None else base + total, parts[name], axis) - base
    if total is not None:
        total = total * strength
    if "rotation" in parts:
        total = _turn(parts["rotation"], parts.get("rescale"), base, strength)
    return total


def _terms(parts: Parts, base: Tensor) -> Iterator[Tensor]:
    if "up" in parts:
        yield low_rank(parts["up"], parts["down"])
    if "up_1" in parts:
        one, other = low_rank(parts["up_1"], parts["down_1"]), low_rank(parts["up_2"], parts["down_2"])
        yield one * other
    if "left" in parts:
        left, right = parts["left"], parts["right"]
        yield torch.kron(left.view(*left.shape, *(1 for _ in right.shape[2:])), right.contiguous())
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
    if base.ndim < 2 or base.shape[1] != len(up):
        raise ValueError(f"mixes {len(up)} input channels where this model's weight is {tuple(base.shape)}")
    return torch.einsum("or...,rj->oj...", torch.einsum("oi...,ir->or...", base, up), down)


def _shaped(term: Tensor, base: Tensor) -> Tensor:
    if not fits(tuple(term.shape), tuple(base.shape)):
        raise ValueError(f"changes it by {tuple(term.shape)} where this model's weight is {tuple(base.shape)}")
    return term.reshape(base.shape)


def _along(vector: Tensor, base: Tensor, axis: int) -> Tensor:
    """A vector in a shape that multiplies the rows (axis 0) or columns (1) of the weight."""
    if base.ndim <= axis or vector.shape != base.shape[axis : axis + 1]:
        raise ValueError(f"scales {vector.numel()} rows or columns where this model's weight is {tuple(base.shape)}")
    return vector.view(*(-1 if i == axis else 1 for i in range(base.ndim)))


def _with_norms(weight: Tensor, norms: Tensor, axis: int) -> Tensor:
    """The weight with its rows (axis 0) or columns (1) at the norms given."""
    wanted = _along(norms, weight, axis)
    others = [i for i in range(weight.ndim) if i != axis]
    now: Tensor = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return weight * (wanted / now.clamp(min=torch.finfo(torch.float32).eps))  # rows of zeros stay zeros


def _turn(blocks: Tensor, rescale: Tensor | None, base: Tensor, strength: float) -> Tensor:
    """What rotating the rows by blocks, (k, b, b), or by one butterfly factor after another, (m, k, b, b), changes."""
    *factors, count, size, _ = blocks.shape
    if count * size != len(base) or base.ndim < 2:
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


def _bias_change(parts: Parts, base: Tensor, bias: Tensor | None, strength: float) -> Tensor | None:
    added = [parts[name] for name in ("bias",) if name in parts]
    if "bias_rows" in parts and bias is not None:
        added.append(_along(parts["bias_rows"], bias, 0) * bias.to(base))
    for vector in added:
        if vector.shape != base.shape[:1]:
            raise ValueError(f"changes the bias by {tuple(vector.shape)} where this model has {len(base)} outputs")
    return torch.stack(added).sum(0) * strength if added else None
