"""The kinds of update that files hold, each against its formula in float64, and as it acts on a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import applied, conformed, factors_of
from nodes.diffusion.changes import change, low_rank
from nodes.diffusion.layers import all_layers
from nodes.lora.formats import write_lora
from nodes.lora.forms import Settings, form_of
from nodes.lora.kohya import kohya_name
from nodes.lora.reading import read_lora
from nodes.lora.ziplora import merged_lora
from tests.lora.reference import output, state, untouched

LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
"""32 → 32"""
WIDE = "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.2"
"""128 → 32, with a bias"""
CONV = "unet.mid_block.resnets.0.conv1"
"""32 → 32, 3 × 3"""
POINT = "unet.down_blocks.1.resnets.0.conv_shortcut"
"""16 → 32, 1 × 1"""
NORM = "unet.mid_block.resnets.0.norm1"
TEXT_NORM = "text_encoder.text_model.encoder.layers.0.layer_norm1"

Raw = dict[str, Tensor]
Formula = Callable[[Raw, Tensor], Tensor]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(hash((shape, seed)) % 2**31)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.3


def lora(r: Raw, w: Tensor) -> Tensor:
    rank = r["lora_down.weight"].shape[0]
    product = r["lora_up.weight"].flatten(1) @ r["lora_down.weight"].flatten(1)
    return product.reshape(w.shape) * (r["alpha"] / rank if "alpha" in r else 1)


def tucker(r: Raw, w: Tensor) -> Tensor:
    up, mid, down = (r[f"lora_{part}.weight"] for part in ("up", "mid", "down"))
    return torch.einsum("om,mnkl,ni->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0]) * r["alpha"] / down.shape[0]


def loha(r: Raw, w: Tensor) -> Tensor:
    if "hada_t1" in r:
        one, two = (
            torch.einsum("ijkl,io,jn->onkl", r[f"hada_t{i}"], r[f"hada_w{i}_a"], r[f"hada_w{i}_b"]) for i in (1, 2)
        )
    else:
        one, two = (r[f"hada_w{i}_a"] @ r[f"hada_w{i}_b"] for i in (1, 2))
    return (one * two).reshape(w.shape) * r["alpha"] / r["hada_w1_b"].shape[0]


def lokr(r: Raw, w: Tensor) -> Tensor:
    rank = None
    left, right = r.get("lokr_w1"), r.get("lokr_w2")
    if left is None:
        left, rank = r["lokr_w1_a"] @ r["lokr_w1_b"], r["lokr_w1_b"].shape[0]
    if right is None and "lokr_t2" in r:
        right = torch.einsum("ijkl,io,jn->onkl", r["lokr_t2"], r["lokr_w2_a"], r["lokr_w2_b"])
        rank = r["lokr_w2_b"].shape[0]
    elif right is None:
        right, rank = r["lokr_w2_a"] @ r["lokr_w2_b"], r["lokr_w2_b"].shape[0]
    a, c = left.shape
    product = torch.einsum("ac,bd...->abcd...", left, right).reshape(
        a * right.shape[0], c * right.shape[1], *right.shape[2:]
    )
    return product.reshape(w.shape) * (r["alpha"] / rank if rank else 1)


def glora(r: Raw, w: Tensor) -> Tensor:
    a1, a2, b1, b2 = (r[f"{name}.weight"].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    return ((b1 @ b2).reshape(w.shape) + torch.einsum("oi...,ij->oj...", w, a1 @ a2)) * r["alpha"] / a1.shape[1]


def old_glora(r: Raw, w: Tensor) -> Tensor:
    return (r["b2.weight"] @ r["b1.weight"] + w @ r["a2.weight"] @ r["a1.weight"]) * r["alpha"] / len(r["a1.weight"])


def rotations(blocks: Tensor, alpha: Tensor | None, outputs: int) -> Tensor:
    turn = blocks - blocks.mT
    if alpha is not None and alpha > 0 and turn.norm() > alpha * outputs:
        turn = turn * alpha * outputs / turn.norm()
    one = torch.eye(blocks.shape[-1], dtype=torch.float64)
    return (one + turn) @ torch.linalg.inv(one - turn)


def oft(r: Raw, w: Tensor) -> Tensor:
    turned = torch.block_diag(*rotations(r["oft_blocks"], r.get("alpha"), len(w))).T @ w.flatten(1)
    return turned.reshape(w.shape) * r.get("rescale", torch.ones(1, dtype=torch.float64)) - w


def boft(r: Raw, w: Tensor) -> Tensor:
    rows, size = w.flatten(1), r["oft_blocks"].shape[-1]
    for i, factor in enumerate(rotations(r["oft_blocks"], r.get("alpha"), len(w))):
        # Row p of the mixed order is row order[p] of the weight: pairs that are 2^i · b/2 apart come together.
        order = torch.arange(len(w)).view(-1, 2, 2**i * size // 2).transpose(1, 2).flatten()
        mixed = torch.empty_like(rows)
        mixed[order] = torch.block_diag(*factor) @ rows[order]
        rows = mixed
    return rows.reshape(w.shape) - w


def ia3(r: Raw, w: Tensor) -> Tensor:
    scales = r["weight"].flatten()
    return w * (scales if r["on_input"] else scales[:, None]).reshape(
        *(1, -1) if r["on_input"] else (-1, 1), *(1 for _ in w.shape[2:])
    )


def difference(r: Raw, w: Tensor) -> Tensor:
    return r["diff"] if "diff" in r else r["w_norm"]


def dora(r: Raw, w: Tensor) -> Tensor:
    """On the inputs if the magnitudes are in a row, on the outputs if they are in a column."""
    changed = w + (loha(r, w) if "hada_w1_a" in r else lora(r, w))
    axis = 1 if r["dora_scale"].shape[0] == 1 else 0
    norms = changed.transpose(0, axis).flatten(1).norm(dim=1)
    shape = [len(norms) if i == axis else 1 for i in range(w.ndim)]
    return changed * r["dora_scale"].flatten().reshape(shape) / norms.reshape(shape) - w


def one(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


PAIR = {"lora_up.weight": numbers(32, 4), "lora_down.weight": numbers(4, 32), "alpha": one(2)}
CONV_PAIR = {"lora_up.weight": numbers(32, 4, 1, 1), "lora_down.weight": numbers(4, 32, 3, 3), "alpha": one(3)}
HADA = {f"hada_w{i}_{e}": numbers(*s, seed=i) for i in (1, 2) for e, s in (("a", (32, 4)), ("b", (4, 32)))}

SQUARE_GLORA = {
    "a1.weight": numbers(32, 3),
    "a2.weight": numbers(3, 32),
    "b1.weight": numbers(32, 3, seed=1),
    "b2.weight": numbers(3, 32, seed=1),
    "alpha": one(2),
}

CASES: Mapping[str, tuple[str, Formula, Raw]] = {
    "linear": (LINEAR, lora, PAIR),
    "without alpha": (LINEAR, lora, {name: part for name, part in PAIR.items() if name != "alpha"}),
    "alpha of one element": (LINEAR, lora, PAIR | {"alpha": one(2).view(1)}),
    "convolution": (CONV, lora, CONV_PAIR),
    "pointwise": (POINT, lora, {"lora_up.weight": numbers(32, 2, 1, 1), "lora_down.weight": numbers(2, 16, 1, 1)}),
    "pointwise as matrices": (POINT, lora, {"lora_up.weight": numbers(32, 2), "lora_down.weight": numbers(2, 16)}),
    "linear as pointwise": (LINEAR, lora, {name: part[..., None, None] for name, part in PAIR.items() if part.ndim}),
    "tucker": (
        CONV,
        tucker,
        {
            "lora_up.weight": numbers(32, 4, 1, 1),
            "lora_mid.weight": numbers(4, 4, 3, 3),
            "lora_down.weight": numbers(4, 32, 1, 1),
            "alpha": one(2),
        },
    ),
    "loha": (LINEAR, loha, HADA | {"alpha": one(2)}),
    "loha, flat convolution": (
        CONV,
        loha,
        {name: numbers(4, 288, seed=len(name)) if name.endswith("b") else p for name, p in HADA.items()}
        | {"hada_w2_b": numbers(4, 288, seed=99), "alpha": one(4)},
    ),
    "loha, tucker": (
        CONV,
        loha,
        {f"hada_w{i}_{e}": numbers(4, 32, seed=10 * i + ord(e)) for i in (1, 2) for e in "ab"}
        | {f"hada_t{i}": numbers(4, 4, 3, 3, seed=i) for i in (1, 2)}
        | {"alpha": one(1)},
    ),
    "lokr": (
        WIDE,
        lokr,
        {"lokr_w1": numbers(4, 8), "lokr_w2_a": numbers(8, 2), "lokr_w2_b": numbers(2, 16), "alpha": one(1)},
    ),
    "lokr, whole": (WIDE, lokr, {"lokr_w1": numbers(4, 8), "lokr_w2": numbers(8, 16), "alpha": one(9)}),
    "lokr, both in parts": (
        WIDE,
        lokr,
        {
            "lokr_w1_a": numbers(4, 2),
            "lokr_w1_b": numbers(2, 8),
            "lokr_w2_a": numbers(8, 2),
            "lokr_w2_b": numbers(2, 16),
            "alpha": one(1),
        },
    ),
    "lokr, convolution": (CONV, lokr, {"lokr_w1": numbers(4, 8), "lokr_w2": numbers(8, 4, 3, 3)}),
    "lokr, flat convolution": (
        CONV,
        lokr,
        {"lokr_w1": numbers(4, 8), "lokr_w2_a": numbers(8, 2), "lokr_w2_b": numbers(2, 36), "alpha": one(1)},
    ),
    "lokr, tucker": (
        CONV,
        lokr,
        {
            "lokr_w1": numbers(4, 8),
            "lokr_t2": numbers(3, 3, 3, 3),
            "lokr_w2_a": numbers(3, 8),
            "lokr_w2_b": numbers(3, 4),
            "alpha": one(1),
        },
    ),
    "glora": (
        WIDE,
        glora,
        {
            "a1.weight": numbers(128, 3),
            "a2.weight": numbers(3, 128),
            "b1.weight": numbers(32, 3),
            "b2.weight": numbers(3, 128),
            "alpha": one(2),
        },
    ),
    "glora, convolution": (
        CONV,
        glora,
        {
            "a1.weight": numbers(32, 3, 1, 1),
            "a2.weight": numbers(3, 32, 1, 1),
            "b1.weight": numbers(32, 3, 1, 1),
            "b2.weight": numbers(3, 32, 3, 3),
            "alpha": one(2),
        },
    ),
    "glora, older": (
        WIDE,
        old_glora,
        {
            "a1.weight": numbers(3, 128),
            "a2.weight": numbers(128, 3),
            "b1.weight": numbers(3, 128),
            "b2.weight": numbers(32, 3),
            "alpha": one(2),
        },
    ),
    "glora, square": (LINEAR, glora, SQUARE_GLORA),
    "glora, older, square": (
        LINEAR,
        old_glora,
        {f"{side}{3 - int(i)}.weight": SQUARE_GLORA[f"{side}{i}.weight"] for side in "ab" for i in "12"}
        | {"alpha": one(2)},
    ),
    "oft": (LINEAR, oft, {"oft_blocks": numbers(8, 4, 4), "alpha": one(0)}),
    "oft, an alpha below 0": (WIDE, oft, {"oft_blocks": numbers(4, 8, 8), "alpha": one(-0.001)}),
    "oft, limited": (WIDE, oft, {"oft_blocks": numbers(4, 8, 8), "alpha": one(0.001)}),
    "oft, convolution, rescaled": (CONV, oft, {"oft_blocks": numbers(8, 4, 4), "rescale": 1 + numbers(32, 1, 1, 1)}),
    "boft": (WIDE, boft, {"oft_blocks": numbers(3, 8, 4, 4), "alpha": one(0)}),
    "boft, convolution": (CONV, boft, {"oft_blocks": numbers(4, 16, 2, 2), "alpha": one(0)}),
    "ia3": (WIDE, ia3, {"weight": numbers(32), "on_input": torch.tensor(0)}),
    "ia3, inputs": (WIDE, ia3, {"weight": numbers(128), "on_input": torch.tensor(1)}),
    "ia3, convolution": (CONV, ia3, {"weight": numbers(1, 32, 1, 1), "on_input": torch.tensor(1)}),
    "difference": (CONV, difference, {"diff": numbers(32, 32, 3, 3)}),
    "norm": (NORM, difference, {"w_norm": numbers(32), "b_norm": numbers(32, seed=1)}),
    "norm, as difference": (TEXT_NORM, difference, {"diff": numbers(16), "diff_b": numbers(16, seed=1)}),
    "dora, outputs": (LINEAR, dora, PAIR | {"dora_scale": 1 + numbers(32, 1)}),
    "dora, inputs": (LINEAR, dora, PAIR | {"dora_scale": 1 + numbers(1, 32)}),
    "dora, convolution": (CONV, dora, CONV_PAIR | {"dora_scale": 1 + numbers(32, 1, 1, 1)}),
    "dora, convolution, inputs": (CONV, dora, CONV_PAIR | {"dora_scale": 1 + numbers(1, 32, 1, 1)}),
    "dora of ai-toolkit": (
        LINEAR,
        lambda r, w: dora(r | {"dora_scale": r["magnitude"][:, None]}, w),
        {name: part for name, part in PAIR.items() if name != "alpha"} | {"magnitude": 1 + numbers(32)},
    ),
    "dora of loha": (LINEAR, dora, HADA | {"alpha": one(2), "dora_scale": 1 + numbers(32, 1)}),
    "times a scalar": (LINEAR, lambda r, w: lora(r, w) * r["scalar"], PAIR | {"scalar": one(0.5)}),
    "with a bias": (
        WIDE,
        lora,
        {"lora_up.weight": numbers(32, 2), "lora_down.weight": numbers(2, 128), "diff_b": numbers(32)},
    ),
}
"""For each kind a layer, the formula, and what a file holds."""

NOT_LINEAR = {"boft", "boft, convolution", "oft, convolution, rescaled"}
"""Where the strength is more than a factor."""


def written(path: Path, layer: str, raw: Raw, dtype: torch.dtype = torch.float32) -> Path:
    name = kohya_name(layer)
    tensors = {f"{name}.{end}": (part.to(dtype) if part.is_floating_point() else part) for end, part in raw.items()}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path / "lora.safetensors")
    return path / "lora.safetensors"


def expected(layer: str, formula: Formula, raw: Raw, exact: StableDiffusionXLPipeline) -> tuple[Tensor, Tensor | None]:
    """The changes of the layer's weight and bias, in float64."""
    weight = all_layers(exact)[layer].weight.detach()
    bias = raw.get("diff_b", raw.get("b_norm"))
    return formula({name: part.double() for name, part in raw.items()}, weight), bias


def found(adapter: LoRA, layer: str, pipeline: StableDiffusionXLPipeline) -> Tensor:
    """The change of the layer's weight, as it is applied."""
    module = all_layers(pipeline)[layer]
    fitted = conformed(pipeline, adapter)
    parts = [low_rank(up.double(), down.double()) for up, down, _ in factors_of(replace(fitted, other={})).values()]
    for other in fitted.other.values():
        weight, _ = change(other, module.weight.detach(), module.bias, adapter.strength)
        parts += [] if weight is None else [weight]
    return torch.stack([part.double() for part in parts]).sum(0)


def error(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize(
    ("case", "strength"),
    [(case, strength) for strength in (1.0, 0.7, -1.3) for case in CASES if strength == 1 or case not in NOT_LINEAR],
)
def test_updates_are_their_formulas(
    case: str, strength: float, pipeline: StableDiffusionXLPipeline, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer, formula, raw = CASES[case]
    adapter = replace(read_lora(written(tmp_path, layer, raw)), strength=strength)
    wanted, _ = expected(layer, formula, raw, exact)
    assert error(found(adapter, layer, pipeline), wanted * strength) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_a_layer_gives_what_its_changed_weights_give(
    case: str, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer, formula, raw = CASES[case]
    module = all_layers(exact)[layer]
    weight, bias = expected(layer, formula, raw, exact)
    changed = copy.deepcopy(module)
    with torch.no_grad():
        changed.weight += weight
        if bias is not None:
            changed.bias += bias
    shape = (2, 16) if module.weight.ndim == 1 and "text" in layer else (2, module.weight.shape[-1])
    x = numbers(2, len(module.weight) if module.weight.ndim == 1 else module.weight.shape[1], 6, 6)
    x = x if module.weight.ndim == 4 or isinstance(module, nn.GroupNorm) else numbers(*shape)
    with torch.no_grad():
        plain = module(x)
        with applied(exact, [read_lora(written(tmp_path, layer, raw))]):
            ours = module(x)
        assert error(ours - plain, changed(x) - plain) < 1e-6
        assert torch.equal(module(x), plain)


def test_a_layer_without_a_bias_can_get_one(pipeline: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    bias, module, x = numbers(32).float(), all_layers(pipeline)[LINEAR], torch.randn(2, 32)
    adapter = replace(read_lora(written(tmp_path, LINEAR, {"diff_b": bias})), strength=0.5)
    plain = module(x)
    with applied(pipeline, [adapter]):
        torch.testing.assert_close(module(x), plain + bias / 2)


@pytest.mark.parametrize(
    ("case", "arguments", "factor"),
    [
        ("glora", '{"rs_lora": "True"}', 3**0.5),
        ("glora", '{"rs_lora":true}', 3**0.5),
        ("glora", '{"rs_lora": "1"}', 3**0.5),
        ("glora", '{"rs_lora": "FALSE"}', 1),
        ("glora", '{"algo": "glora"}', 1),
        ("glora", "null", 1),
        ("loha", '{"rs_lora": "True"}', 1),
    ],
)
def test_alphas_of_stabilised_ranks_are_divided_by_their_root_in_glora_only(
    case: str, arguments: str, factor: float, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    """LyCORIS writes alphas of other kinds so that they are divided by the rank."""
    layer, formula, raw = CASES[case]
    path = written(tmp_path, layer, raw)
    save_file(load_file(path), path, {"ss_network_args": arguments})
    wanted, _ = expected(layer, formula, raw, exact)
    assert error(found(read_lora(path), layer, exact), wanted * factor) < 1e-5


@pytest.mark.parametrize(
    ("case", "alpha", "header", "factor"),
    [
        ("lokr, whole", 8.0, {"ss_network_dim": "4", "ss_network_args": '{"rs_lora": "True"}'}, 2),
        ("lokr, whole", 8.0, {"ss_network_dim": "8", "ss_network_args": '{"rs_lora": "True"}'}, 1),
        ("lokr, whole", 8.0, {"ss_network_dim": "4", "ss_network_args": '{"algo": "lokr"}'}, 1),
        ("lokr, whole", 8.0, {"ss_network_args": '{"rs_lora": "True"}'}, 1),
        ("lokr, whole", 8.0, {"ss_network_dim": "Dynamic", "ss_network_args": '{"rs_lora": "True"}'}, 1),
        (
            "lokr, convolution",
            27.0,
            {"ss_network_dim": "4", "ss_network_args": '{"rs_lora": "True", "conv_dim": "9"}'},
            3,
        ),
    ],
)
def test_whole_factors_of_lokr_have_the_scale_that_they_were_trained_with(
    case: str, alpha: float, header: dict[str, str], factor: float, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    """LyCORIS trains them at √d with stabilised ranks, for which it writes an alpha of d√d; others at 1."""
    layer, formula, raw = CASES[case]
    path = written(tmp_path, layer, raw | {"alpha": one(alpha)})
    save_file(load_file(path), path, header)
    wanted, _ = expected(layer, formula, raw, exact)
    assert error(found(read_lora(path), layer, exact), wanted * factor) < 1e-5


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_an_oft_of_kohya_that_rotates_nothing_is_refused(alpha: float, tmp_path: Path) -> None:
    """There alpha is always a limit; LyCORIS takes 0 and less for none."""
    blocks = {f"oft_unet_{kohya_name(LINEAR).removeprefix('lora_unet_')}.oft_blocks": numbers(8, 4, 4).float()}
    tensors = blocks | {next(iter(blocks)).replace("oft_blocks", "alpha"): torch.tensor(alpha)}
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match=f"has an alpha of {alpha:g}, by which kohya's OFT") as refusal:
        read_lora(tmp_path / "lora.safetensors")
    assert "an alpha above 0" in (refusal.value.hint or "")


BROKEN = st.sampled_from(["left out", "flat", "shorter", "deeper", "turned", "whole numbers", "of another kind"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=st.sampled_from([*CASES]), other=st.sampled_from([*CASES]), how=BROKEN, which=st.integers(0, 9))
def test_broken_files_are_refused_and_raise_nothing_else(
    case: str, other: str, how: str, which: int, pipeline: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer, _, raw = CASES[case]
    name = [*raw][which % len(raw)]
    part = raw[name].float()
    ways: dict[str, Callable[[], Raw]] = {
        "left out": lambda: {},
        "flat": lambda: {name: part.flatten()},
        "shorter": lambda: {name: part[..., :-1] if part.ndim else part},
        "deeper": lambda: {name: part[None]},
        "turned": lambda: {name: part.permute([*reversed(range(part.ndim))])},
        "whole numbers": lambda: {name: part.long()},
        "of another kind": lambda: {name: part} | CASES[other][2],
    }
    broken = {key: given for key, given in raw.items() if key != name} | ways[how]()
    with suppress(InputError), applied(pipeline, [read_lora(written(tmp_path, layer, broken))]):
        pass


def whole(path: Path) -> LoRA:
    """An adapter with several kinds of update, one for each of several layers."""
    layers = {
        layer: raw for layer, _, raw in map(CASES.__getitem__, ("dora, inputs", "oft, limited", "loha, tucker", "norm"))
    }
    tensors = {f"{kohya_name(layer)}.{end}": part.float() for layer, raw in layers.items() for end, part in raw.items()}
    save_file(tensors, path / "lora.safetensors")
    return read_lora(path / "lora.safetensors")


def test_the_model_is_bit_for_bit_as_before(pipeline: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    before, plain = state(pipeline), output(pipeline)
    with applied(pipeline, [whole(tmp_path)]):
        assert not torch.allclose(output(pipeline), plain, atol=1e-3)
    assert untouched(pipeline, before)
    assert torch.equal(output(pipeline), plain)
    assert not any(module._forward_hooks for module in all_layers(pipeline).values())


def test_adapters_of_all_kinds_add_up(exact: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    layer, _, raw = CASES["dora, inputs"]
    adapter, module, x = read_lora(written(tmp_path, layer, raw)), all_layers(exact)[layer], numbers(2, 32)
    with torch.no_grad():
        plain = module(x)
        with applied(exact, [adapter]):
            once = module(x) - plain
        with applied(exact, [adapter, replace(adapter, strength=-0.5)]):
            torch.testing.assert_close(module(x) - plain, once * 0.5)
        with applied(exact, [adapter]), applied(exact, [adapter]):
            torch.testing.assert_close(module(x) - plain, once * 2)


def test_rotations_at_a_strength_lie_between_the_model_and_the_rotated_one(
    exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer, _, raw = CASES["boft"]
    weight = all_layers(exact)[layer].weight.detach()
    single = {"oft_blocks": raw["oft_blocks"][:1], "alpha": raw["alpha"]}
    for blocks, formula in ((single, boft), ({"oft_blocks": raw["oft_blocks"][0]}, oft)):
        adapter = read_lora(written(tmp_path, layer, blocks))
        assert error(found(replace(adapter, strength=0.25), layer, exact), formula(blocks, weight) * 0.25) < 1e-5
        assert found(replace(adapter, strength=0.0), layer, exact).abs().max() < 1e-12


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, 2.0])
def test_what_rotated_rows_are_rescaled_by_is_interpolated_from_one(
    strength: float, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    """So that a strength of 0 is the model. LyCORIS rescales in full at any strength."""
    layer, _, raw = CASES["oft, convolution, rescaled"]
    weight = all_layers(exact)[layer].weight.detach()
    adapter = replace(read_lora(written(tmp_path, layer, raw)), strength=strength)
    turned = weight + strength * oft({"oft_blocks": raw["oft_blocks"]}, weight)
    wanted = (1 + strength * (raw["rescale"] - 1)) * turned - weight
    assert (found(adapter, layer, exact) - wanted).norm() < 1e-5 * weight.norm()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("strength", [0.7, 1.0, 3.3])
def test_the_type_of_a_file_costs_no_precision(
    dtype: str, strength: float, pipeline: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    raw = {name: part.to(getattr(torch, dtype)) if part.ndim else part for name, part in PAIR.items()}
    tensors = {f"{kohya_name(LINEAR)}.{end}": part for end, part in raw.items()}
    save_file(tensors, tmp_path / "lora.safetensors")
    adapter = replace(read_lora(tmp_path / "lora.safetensors"), strength=strength)
    wanted = lora({name: part.double() for name, part in raw.items()}, torch.empty(32, 32)) * strength
    assert error(found(adapter, LINEAR, pipeline), wanted) < 1e-5


def test_what_two_matrices_cannot_hold_is_neither_saved_nor_merged(tmp_path: Path) -> None:
    layer, _, raw = CASES["loha"]
    adapter = read_lora(written(tmp_path, layer, raw))
    for use in (write_lora, factors_of):
        with pytest.raises(InputError, match=r"changes unet\.mid_block.*to_q by more than two matrices") as refusal:
            use(adapter)
        assert "a plain LoRA" in (refusal.value.hint or "")


@pytest.mark.parametrize("case", ["tucker", "pointwise as matrices"])
def test_tucker_and_matrices_of_points_are_saved_and_merged_as_any(
    case: str, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer, formula, raw = CASES[case]
    adapter = read_lora(written(tmp_path, layer, raw))
    (tmp_path / "again.safetensors").write_bytes(write_lora(adapter))
    wanted, _ = expected(layer, formula, raw, exact)
    again = read_lora(tmp_path / "again.safetensors")
    assert error(low_rank(again.up[layer], again.down[layer]).view(wanted.shape), wanted) < 1e-6
    columns = {layer: torch.full((wanted.shape[1],), 0.5)}
    merged = merged_lora(adapter, again, (columns, columns))
    assert error(low_rank(merged.up[layer], merged.down[layer]).view(wanted.shape), wanted) < 1e-6


def test_all_kinds_survive_the_cache(tmp_path: Path) -> None:
    adapter = replace(whole(tmp_path), strength=0.5)
    back = LoRA.from_tensors(*adapter.to_tensors())
    assert back.layers == adapter.layers
    assert back.nbytes == adapter.nbytes > 0
    assert all(
        torch.equal(part, back.other[name][key]) for name, of in adapter.other.items() for key, part in of.items()
    )


@pytest.mark.parametrize("case", ["oft", "boft", "ia3", "lokr", "norm", "with a bias", "dora, inputs", "glora"])
def test_updates_of_another_shape_are_refused_by_the_models_layer(
    case: str, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    _, _, raw = CASES[case]
    before = state(exact)
    adapter = read_lora(written(tmp_path, CONV.replace("mid_block.resnets.0", "down_blocks.0.resnets.0"), raw))
    with pytest.raises(InputError, match=r"unet\.down_blocks\.0\.resnets\.0\.conv1"), applied(exact, [adapter]):
        pass
    assert untouched(exact, before)


def test_a_lack_of_memory_is_no_fault_of_the_lora(
    exact: StableDiffusionXLPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, _, raw = CASES["loha"]
    adapter = read_lora(written(tmp_path, layer, raw))

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(torch.OutOfMemoryError), applied(exact, [adapter]):
        pass


def test_too_little_memory_while_reading_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, _, raw = CASES["tucker"]
    path = written(tmp_path, layer, raw)

    def full(*_: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(torch, "einsum", full)
    with pytest.raises(RuntimeError, match="can't allocate"):
        read_lora(path)


def test_what_glora_adds_takes_no_product_of_all_inputs_with_all(exact: StableDiffusionXLPipeline) -> None:
    weight = all_layers(exact)[WIDE].weight.detach()
    parts = {"base_up": numbers(128, 3), "base_down": numbers(3, 128)}
    with FlopCounterMode(display=False) as counter:
        change(parts, weight, None)
    assert counter.get_total_flops() == 2 * (32 * 128 * 3 + 32 * 3 * 128)


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor in float64 has that is made within it."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 8)
        return made


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] == CONV])
def test_a_change_is_made_a_few_rows_or_columns_at_a_time(
    case: str,
    pipeline: StableDiffusionXLPipeline,
    exact: StableDiffusionXLPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, formula, raw = CASES[case]
    adapter = read_lora(written(tmp_path, layer, raw))
    module = all_layers(pipeline)[layer]
    monkeypatch.setattr("nodes.diffusion.changes.BLOCK", module.weight.numel() // 8)
    with Largest() as largest:
        for parts in adapter.other.values():
            change(parts, module.weight.detach(), module.bias)
    assert largest.elements <= module.weight.numel() // 4
    assert error(found(adapter, layer, pipeline), expected(layer, formula, raw, exact)[0]) < 1e-5


def test_rows_of_zeros_stay_zeros_in_a_dora(exact: StableDiffusionXLPipeline) -> None:
    weight = all_layers(exact)[LINEAR].weight.detach().clone()
    weight[3] = 0
    found, _ = change({"row_norms": torch.full((32,), 8.0)}, weight, None)
    assert found is not None
    assert torch.isfinite(found).all()
    assert not found[3].any()


@pytest.mark.parametrize(
    "parts",
    [
        {"lokr_w1": (2**15, 2**10), "lokr_w2": (2**10, 2)},
        {"lokr_w1_a": (2**18, 1), "lokr_w1_b": (1, 2**18), "lokr_w2": (1, 1)},
        {"lokr_w1": (1, 1), "lokr_w2_a": (2**18, 1), "lokr_w2_b": (1, 2**18)},
        {f"hada_w{i}_{side}": shape for i in (1, 2) for side, shape in (("a", (2**18, 1)), ("b", (1, 2**18)))},
    ],
    ids=lambda parts: min(parts),
)
def test_a_product_that_no_layer_is_as_large_as_is_never_made(parts: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="which is more than any layer has"):
        form_of({name: torch.zeros(shape) for name, shape in parts.items()}, Settings(lambda rank: 1.0))


@pytest.mark.parametrize(
    "parts",
    [
        {"base_up": torch.zeros(8, 2), "base_down": torch.zeros(2, 7)},
        {"base_up": torch.zeros(7, 2), "base_down": torch.zeros(2, 8)},
        {
            "up_1": torch.zeros(4, 2),
            "down_1": torch.zeros(2, 8),
            "up_2": torch.zeros(4, 2),
            "down_2": torch.zeros(2, 7),
        },
    ],
)
def test_parts_of_another_width_are_refused(parts: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"weight is \(4, 8\)"):
        change(parts, torch.zeros(4, 8), None)
