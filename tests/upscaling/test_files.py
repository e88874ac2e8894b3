"""Files of upscalers, in the names that published ones have: what they make, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import InputError, KinographError, MissingError, NodeError
from engine.node import Context
from engine.values import Image, UpscaleModel
from nodes.image.nodes import ImageUpscale, UpscaleModelLoad
from nodes.upscaling.reading import upscaler
from tests.upscaling.files import by_compact, by_esrgan, compact, esrgan, first_release, saved, second_release

PICTURES = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(1))


def load(path: Path, **inputs: Any) -> UpscaleModel:
    return UpscaleModelLoad(source=str(path), **inputs).run(Context())


def enlarge(model: UpscaleModel, pictures: Tensor = PICTURES, **inputs: Any) -> Tensor:
    return ImageUpscale(model=model, image=Image(pictures), **inputs).run(Context()).pixels


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize(
    ("spelled", "within"),
    [
        (dict, ""),
        (dict, "params"),
        (dict, "params_ema"),
        (dict, "state_dict"),
        (first_release, ""),
        (second_release, ""),
        (lambda state: {f"module.{name}": weight for name, weight in state.items()}, ""),
    ],
    ids=["real-esrgan", "params", "params_ema", "state_dict", "first release", "second release", "of several devices"],
)
def test_every_spelling_of_esrgan_is_the_same_network(
    spelled: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
    within: str,
    ending: str,
    state: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    content: Any = spelled(state)
    if ending == "pth" and within:
        content = {within: content}
    model = load(saved(content, tmp_path / f"x4.{ending}"))
    assert model.scale == 4
    torch.testing.assert_close(enlarge(model), by_esrgan(state, PICTURES).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["x4.SafeTensors", "x4.PTH"])
def test_an_ending_in_capitals_is_the_same(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / name) if name.endswith("SafeTensors") else torch.save(state, tmp_path / name)
    model = load(tmp_path / name)
    torch.testing.assert_close(enlarge(model), by_esrgan(state, PICTURES).clamp(0, 1), atol=1e-5, rtol=0)


def test_the_average_over_the_training_is_taken_if_a_file_has_it(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"params": esrgan(blocks=1), "params_ema": state}, tmp_path / "x4.pth")
    model = load(tmp_path / "x4.pth")
    torch.testing.assert_close(enlarge(model), by_esrgan(state, PICTURES).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("doublings", "unshuffle", "scale"), [(0, 1, 1), (1, 1, 2), (3, 1, 8), (2, 2, 2), (2, 4, 1)])
@pytest.mark.parametrize("spelled", [dict, first_release])
def test_scales_are_read_from_the_layers(
    spelled: Callable[..., dict[str, Tensor]], doublings: int, unshuffle: int, scale: int, tmp_path: Path
) -> None:
    """Real-ESRGAN makes pictures twice as large out of squares of 2 × 2 pixels, each four times as large."""
    state = esrgan(doublings=doublings, seen=3 * unshuffle**2, blocks=1)
    model = load(saved(spelled(state), tmp_path / "model.safetensors"))
    expected = by_esrgan(state, PICTURES, doublings=doublings, unshuffle=unshuffle).clamp(0, 1)
    assert model.scale == scale
    torch.testing.assert_close(enlarge(model), expected, atol=1e-5, rtol=0)


def test_sides_that_squares_of_pixels_do_not_divide_are_continued_by_mirror_images(tmp_path: Path) -> None:
    state = esrgan(doublings=2, seen=12, blocks=1)
    odd = PICTURES[:, :, :11, :19]
    mirrored = torch.cat([odd, odd[:, :, -1:]], 2)
    mirrored = torch.cat([mirrored, mirrored[..., -1:]], 3)
    expected = by_esrgan(state, mirrored, unshuffle=2)[:, :, :22, :38].clamp(0, 1)
    found = enlarge(load(saved(state, tmp_path / "x2.safetensors")), odd)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_compact_network_is_read(scale: int, tmp_path: Path) -> None:
    state = compact(scale=scale)
    torch.save({"params": state}, tmp_path / "realesr.pth")
    model = load(tmp_path / "realesr.pth")
    assert model.scale == scale
    expected = by_compact(state, PICTURES, scale=scale).clamp(0, 1)
    torch.testing.assert_close(enlarge(model), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_have_the_precision_that_is_asked_for(dtype: Any, file: Path, state: dict[str, Tensor]) -> None:
    model, ctx = load(file, dtype=dtype), Context()
    assert {weight.dtype for weight in upscaler(ctx, model).parameters()} == {getattr(torch, dtype)}
    assert upscaler(ctx, model) is upscaler(ctx, model)
    torch.testing.assert_close(enlarge(model), by_esrgan(state, PICTURES).clamp(0, 1), atol=0.05, rtol=0)


def test_a_model_is_light_until_it_is_used_and_says_what_it_is(file: Path) -> None:
    model = load(file)
    assert (model.path, model.dtype) == (str(file), "float32")
    assert str(model) == f"UpscaleModel {file} in float32, ×4"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "as before torch 1.6"])
def test_a_pth_is_converted_once(
    zipped: bool, state: dict[str, Tensor], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "x4.pth", _use_new_zipfile_serialization=zipped)
    expected = enlarge(load(tmp_path / "x4.pth"))
    assert len(list(home.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(torch, "load", None)
    assert torch.equal(enlarge(load(tmp_path / "x4.pth")), expected)


def test_tensors_that_share_memory_are_converted_too(state: dict[str, Tensor], tmp_path: Path) -> None:
    shared = dict(state) | {"conv_up2.weight": state["conv_up1.weight"], "conv_up2.bias": state["conv_up1.bias"]}
    torch.save(shared, tmp_path / "x4.pth")
    found = enlarge(load(tmp_path / "x4.pth"))
    torch.testing.assert_close(found, by_esrgan(shared, PICTURES).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("packing", "times", "message"),
    [(ZIP_DEFLATED, 1, "it is compressed, as torch compresses none"), (ZIP_STORED, 9, "its parts are larger")],
)
def test_a_pth_that_would_fill_the_memory_is_refused_before_it_is_unpacked(
    packing: int, times: int, message: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ZipFile(tmp_path / "x4.pth", "w", packing) as packed:
        packed.writestr("archive/data.pkl", pickle.dumps({}))
        packed.writestr("archive/data/0", bytes(10**5))
        packed.filelist += [packed.getinfo("archive/data/0")] * (times - 1)  # several names of the same bytes
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(MissingError, match=message):
        load(tmp_path / "x4.pth")


def test_a_pth_that_runs_code_is_refused_in_one_line_and_runs_none(tmp_path: Path, home: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    for content in (Bomb(), {"params": Bomb()}):
        torch.save(content, tmp_path / "x4.pth")
        with pytest.raises(MissingError, match="holds more than weights, so it isn't read") as caught:
            load(tmp_path / "x4.pth")
        assert str(caught.value).count("\n") == 0
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(MissingError):
        load(tmp_path / "plain.pth")
    assert not (tmp_path / "ran").exists()
    assert not list(home.rglob("*.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        {"epoch": 3, "weights": torch.zeros(2)},
        {3: torch.zeros(2)},
        {"conv_first.weight": torch.zeros(1).expand(2**40)},
        {"conv_first.weight": torch.zeros(3, 3).to_sparse()},
        {"conv_first.weight": torch.zeros(3, 3, device="meta")},
    ],
    ids=["a list", "other things", "numbers for names", "a terabyte of nothing", "sparse", "no numbers"],
)
def test_a_pth_that_holds_anything_but_named_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x4.pth")
    with pytest.raises(MissingError, match="can't be read as an upscaler") as caught:
        load(tmp_path / "x4.pth")
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x80\x02]q\x00.", b"\x80\x02e.", b"PK\x03\x04", b"<html>"])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_damaged_file_is_refused_in_one_line(content: bytes, ending: str, tmp_path: Path) -> None:
    (tmp_path / f"x4.{ending}").write_bytes(content)
    with pytest.raises(KinographError, match=r"damaged|can't be read") as caught:
        load(tmp_path / f"x4.{ending}")
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        ("layers.0.residual_group.blocks.0.attn.relative_position_bias_table", "SwinIR"),
        ("layers.0.residual_group.overlap_attn.relative_position_bias_table", "HAT"),
        ("layers.0.residual_group.layers.0.attn_atd.scale", "ATD"),
        ("layers.0.residual_group.blocks.0.attn.logit_scale", "Swin2SR as its authors published it"),
        ("layers.0.swin1.attn.relative_position_bias_table", "DRCT"),
        ("before_RG.1.weight", "DAT"),
        ("block_1.c1_r.sk.weight", "SPAN"),
        ("feats.1.lk.conv.weight", "PLKSR"),
        ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "OmniSR"),
        ("body.0.body.0.weight", "EDSR or RCAN"),
        ("stylegan_decoder.style_mlp.1.weight", "GFPGAN"),
        ("swin2sr.first_convolution.weight", "Swin2SR without its configuration"),
        ("unet.mid_block.attentions.0.lora_A.weight", "a LoRA"),
        ("model.diffusion_model.input_blocks.0.0.weight", "a diffusion model"),
    ],
)
def test_another_architecture_is_refused_by_name(tensor: str, kind: str, tmp_path: Path) -> None:
    path = saved({tensor: torch.zeros(1), "conv_first.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=f"a.safetensors is {kind}") as caught:
        load(path)
    assert caught.value.input == "source"
    assert caught.value.hint


def test_esrgan_with_more_connections_is_refused_by_name(state: dict[str, Tensor], tmp_path: Path) -> None:
    more = first_release(state) | {"model.1.sub.0.RDB1.conv1x1.weight": torch.zeros(2, 4, 1, 1)}
    with pytest.raises(InputError, match=r"is ESRGAN\+, which isn't supported here"):
        load(saved(more, tmp_path / "plus.safetensors"))


def test_what_is_no_upscaler_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no upscaler that is known"):
        load(saved({"weight": torch.zeros(1)}, tmp_path / "a.safetensors"))
    with pytest.raises(InputError, match="holds no upscaler that is known"):
        load(saved({}, tmp_path / "b.safetensors"))
    (tmp_path / "c.gguf").touch()
    with pytest.raises(InputError, match=r"is a \.gguf file"):
        load(tmp_path / "c.gguf")
    with pytest.raises(InputError, match=r"no config\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"body.1.rdb2.conv3.weight": None}, r"body\.1\.rdb2\.conv3\.weight is missing"),
        ({"extra.weight": torch.zeros(1)}, r"extra\.weight is unknown"),
        ({"conv_hr.weight": torch.zeros(4, 7, 3, 3)}, r"conv_hr\.weight is \(4, 7, 3, 3\), not \(4, 4, 3, 3\)"),
        ({"body.999999999.rdb1.conv1.weight": torch.zeros(2, 4, 3, 3)}, r"body\.2\.rdb1\.conv1\.bias is missing"),
        ({"conv_last.weight": None}, r"conv_last\.weight is missing"),
        ({"conv_first.weight": torch.zeros(4, 3)}, r"conv_first\.weight is \(4, 3\), which isn't a convolution's"),
        ({"conv_first.weight": torch.zeros(4, 5, 3, 3)}, "it reads 5 channels"),
        ({"conv_last.weight": torch.zeros(1, 4, 3, 3)}, "it makes pictures of 1 channels"),
    ],
)
def test_a_file_that_lacks_something_or_has_more_is_refused(
    change: dict[str, Tensor | None], said: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    changed = {name: weight for name, weight in (dict(state) | change).items() if weight is not None}
    with pytest.raises(InputError, match=said):
        load(saved(changed, tmp_path / "x4.safetensors"))


def test_a_compact_network_whose_activations_are_not_recorded_is_refused(tmp_path: Path) -> None:
    state = {name: weight for name, weight in compact().items() if weight.ndim != 1 or name.endswith("bias")}
    with pytest.raises(InputError, match="activations aren't PReLU"):
        load(saved(state, tmp_path / "realesr.safetensors"))


def test_a_model_that_was_replaced_before_it_is_loaded_is_not_taken_for_the_chosen_one(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    model = load(saved(state, tmp_path / "x4.pth"))
    saved(esrgan(blocks=1), tmp_path / "x4.pth")
    with pytest.raises(NodeError, match="was replaced before it was loaded"):
        enlarge(model)


def test_a_file_that_changes_while_its_model_is_loaded_does_not_change_the_model(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    path, ctx = saved(state, tmp_path / "x4.safetensors"), Context()
    net = upscaler(ctx, load(path))
    before = [weight.clone() for weight in net.parameters()]
    with path.open("r+b") as written:
        written.seek(-4096, 2)
        written.write(b"\0" * 4096)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
