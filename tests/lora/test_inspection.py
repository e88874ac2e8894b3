"""What a LoRA is made of, in words and as a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import InputError
from engine.node import Context
from engine.values import LoRA
from nodes.diffusion.layers import all_layers
from nodes.lora.formats import write_lora
from nodes.lora.inspection import bars_of, form_of, layers_of
from nodes.lora.nodes import LoRAInspect, LoRAResize
from nodes.lora.plot import GAP, PALETTE, Bar, bar_plot, ticks
from nodes.lora.reading import read_lora
from tests.lora.reference import Make, Names, dense
from tests.lora.test_kinds import CASES, CONV, LINEAR, expected, written


def inspected(**inputs: Any) -> tuple[str, Tensor]:
    found = LoRAInspect(**inputs).run(Context())
    return found.report, found.plot.pixels


def row(report: str, layer: str) -> list[str]:
    """The cells of a layer's row."""
    return next(line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith(f"| {layer} |"))


@pytest.fixture
def snail(make: Make, names: Names) -> LoRA:
    return make(
        [*names["attention"][:2], *names["text"][:1]], ranks=(4, 2), name="snail", words={"subject": ("snail",)}
    )


def test_a_lora_is_told_layer_by_layer(snail: LoRA) -> None:
    report, _ = inspected(lora=replace(snail, strength=-0.5))
    for name, update in dense(snail).items():
        _, form, rank, alpha, norm, _ = row(report, name)
        assert (form, rank, alpha) == ("LoRA", str(len(snail.down[name])), "")
        assert float(norm) == pytest.approx(0.5 * update.norm().item(), rel=1e-3)
    whole = sum(update.square().sum().item() for update in dense(snail).values()) ** 0.5
    assert f"- norm of the update: {whole / 2:.4g}" in report
    assert "- trigger words: subject: snail" in report
    assert "- strength: -0.5" in report
    assert "- layers: 3 (1 in text_encoder, 2 in unet)" in report
    assert "- ranks: 4 (2 layers), 2 (1 layer)" in report
    assert "- form: LoRA\n" in report
    assert "Metadata" not in report


def test_a_file_tells_its_alphas_and_metadata(snail: LoRA, tmp_path: Path) -> None:
    path = tmp_path / "snail.safetensors"
    path.write_bytes(write_lora(snail))
    header = {
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_tag_frequency": json.dumps({"a": {"tag": 1} | dict.fromkeys(map(str, range(99)), 1)}),
    }
    tensors = load_file(path)
    alpha = next(key for key in tensors if key.endswith(".alpha"))
    save_file(tensors | {alpha: torch.tensor(2.0)}, path, header)
    report, _ = inspected(file=str(path))
    assert "- alphas: 4 (2 layers), 2 (1 layer)" in report
    assert "- made for: SDXL, as its header says" in report
    assert "- ss_base_model_version: sdxl_base_v1-0" in report
    (tags,) = (line for line in report.splitlines() if line.startswith("- ss_tag_frequency: "))
    assert tags.endswith("…")
    assert len(tags) < 200


def test_the_alphas_of_a_folder_of_peft_are_told(snail: LoRA, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(write_lora(snail, "peft"))
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "alpha_pattern": {".*k_proj": 3}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    report, _ = inspected(file=str(tmp_path))
    assert {row(report, name)[3] for name in snail.up} <= {"6", "3"}
    assert "- alphas: 6" in report


def test_shapes_say_for_which_model_it_was_made() -> None:
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    report, _ = inspected(lora=LoRA({layer: torch.ones(640, 1)}, {layer: torch.ones(1, 2048)}, "x"))
    assert "- made for: SDXL, as its shapes say" in report
    assert "- trigger words: none that are known" in report


FORMS: Mapping[str, str] = {
    "linear": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "glora": "GLoRA",
    "oft": "OFT",
    "boft": "BOFT",
    "ia3": "IA³",
    "difference": "full difference",
    "norm": "full difference with a bias",
    "dora, inputs": "DoRA",
    "dora of loha": "DoRA of LoHa",
    "with a bias": "LoRA with a bias",
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_have_their_names(case: str, tmp_path: Path) -> None:
    layer, _, raw = CASES[case]
    report, _ = inspected(file=str(written(tmp_path, layer, raw)))
    assert row(report, layer)[1] == FORMS[case]
    assert f"- form: {FORMS[case]}\n" in report


def test_a_bias_alone_is_called_so() -> None:
    assert form_of({"bias": torch.ones(3)}) == "bias"
    assert form_of({"row_norms": torch.ones(3)}) == "DoRA of magnitudes alone"


@pytest.mark.parametrize("case", CASES)
def test_norms_are_those_of_the_update_or_depend_on_the_model(
    case: str, exact: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    layer, formula, raw = CASES[case]
    (about,) = layers_of(read_lora(written(tmp_path, layer, raw)), {})
    weight = all_layers(exact)[layer].weight.detach()
    wanted = expected(layer, formula, raw, exact)[0]
    if any(name in case for name in ("oft", "ia3", "glora", "dora")):
        assert about.norm is None
    else:
        assert about.norm == pytest.approx(wanted.norm().item(), rel=1e-5)
        assert torch.allclose(formula({n: p.double() for n, p in raw.items()}, weight * 0), wanted)


def test_the_rank_that_is_needed_for_nearly_all_of_the_norm_is_told() -> None:
    up, down = torch.eye(6, 4) * torch.tensor([10.0, 5.0, 0.1, 0.1]), torch.eye(4, 5)
    assert layers_of(LoRA({LINEAR: up}, {LINEAR: down}, "x"), {})[0].needed == 2


def test_a_resized_lora_is_compared_with_the_one_before(make: Make, names: Names) -> None:
    lora = make(names["convolutions"][:3], ranks=(6,), strength=0.5)
    small = LoRAResize(lora=lora, rank=2).run(Context())
    report, _ = inspected(lora=lora, other=small)
    for name, update in dense(lora).items():
        share = ((dense(small)[name] - update).norm() / update.norm()).item()
        assert float(row(report, name)[-1].removesuffix(" %")) == pytest.approx(100 * share, rel=1e-2)
    alike, _ = inspected(lora=lora, other=lora)
    assert {float(row(alike, name)[-1].removesuffix(" %")) < 1e-5 for name in lora.up} == {True}


def test_a_layer_that_the_other_lacks_differs_wholly(make: Make, names: Names) -> None:
    lora = make(names["attention"][:2])
    report, _ = inspected(lora=lora, other=make(names["attention"][:1]))
    assert row(report, names["attention"][1])[-1] == "100 %"


def test_only_low_rank_loras_are_compared(make: Make) -> None:
    other = LoRA({}, {}, "dora", other={CONV: {"row_norms": torch.ones(3)}})
    with pytest.raises(InputError, match=r"'dora' changes .* by more than two matrices"):
        inspected(lora=make([CONV]), other=other)


def test_layers_are_in_natural_order() -> None:
    layers = [f"text_encoder.text_model.encoder.layers.{i}.mlp.fc1" for i in (10, 2, 1)]
    found = layers_of(LoRA({}, {}, "x", other={name: {"difference": torch.ones(2, 2)} for name in layers}), {})
    assert [layer.name.split(".")[4] for layer in found] == ["1", "2", "10"]


def test_many_layers_are_plotted_by_block() -> None:
    names = [
        *(f"unet.down_blocks.1.attentions.0.transformer_blocks.{i}.attn1.to_q" for i in range(40)),
        *(f"unet.down_blocks.1.attentions.1.transformer_blocks.{i}.attn1.to_q" for i in range(9)),
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
        "unet.conv_in",
    ]
    lora = LoRA({}, {}, "x", other={name: {"difference": torch.ones(2, 2)} for name in names})
    bars = bars_of(layers_of(lora, {}))
    assert {bar.label: bar.value for bar in bars} == {
        "text_encoder.text_model.encoder.layers.0": 2.0,
        "unet.conv_in": 2.0,
        "unet.down_blocks.1.attentions.0": pytest.approx(2 * 40**0.5),
        "unet.down_blocks.1.attentions.1": 6.0,
    }


def test_bars_are_as_long_as_their_values() -> None:
    pixels = bar_plot("title", [Bar("a", 1.0, "x"), Bar("b", 2.0, "x"), Bar("c", None, "y")], "unknown").pixels
    colour = torch.tensor(PALETTE[0]).view(3, 1, 1) / 255
    coloured = (pixels[0] - colour).abs().amax(0) < 1e-6
    lengths = [int(count) for count in coloured.sum(1) if count]
    assert max(lengths) == pytest.approx(2 * min(lengths), abs=2)
    assert not ((pixels[0] - torch.tensor(PALETTE[1]).view(3, 1, 1) / 255).abs().amax(0) < 1e-6).any()


def test_all_text_is_within_the_plot() -> None:
    pixels = bar_plot("t" * 200, [Bar("long " * 20, 1.23456, "x"), Bar("b", None, "y")], "depends on the model").pixels
    assert (pixels[..., : GAP // 2] == 1).all()
    assert (pixels[..., -GAP // 2 :] == 1).all()
    assert (pixels[..., -GAP // 2 :, :] == 1).all()


def test_a_plot_has_a_size_that_can_be_drawn() -> None:
    pixels = bar_plot("t" * 10**6, [Bar("long" * 10**5, 1.0, "x")] * 2000, "unknown").pixels
    assert pixels.shape[2] < 9000
    assert pixels.shape[3] < 4000
    unknown = bar_plot("title", [Bar("a", None, "x"), Bar("b", 1.0, "x")], "unknown").pixels
    for value in (float("inf"), float("nan")):
        assert torch.equal(bar_plot("title", [Bar("a", value, "x"), Bar("b", 1.0, "x")], "unknown").pixels, unknown)


def test_norms_of_immense_numbers_are_added_up() -> None:
    large = torch.full((1, 1), 1e100, dtype=torch.float64)
    other = {f"unet.mid_block.x.0.l{i}": {"left": large, "right": large} for i in range(64)}
    layers = layers_of(LoRA({}, {}, "x", other=other), {})
    assert [bar.value for bar in bars_of(layers)] == [pytest.approx(8e200)]
    assert "norm of the update: 8e+200" in inspected(lora=LoRA({}, {}, "x", other=other))[0]


def test_an_update_that_no_machine_can_hold_has_no_norm() -> None:
    wide = torch.ones(1, 2**20)
    parts = {"up_1": wide.T, "down_1": wide, "up_2": wide.T, "down_2": wide}
    (layer,) = layers_of(LoRA({}, {}, "x", other={CONV: parts}), {})
    assert layer.norm is None


def test_layers_that_only_the_other_has_are_listed(make: Make, names: Names) -> None:
    report, _ = inspected(lora=make(names["attention"][:1]), other=make(names["attention"][:2]))
    cells = row(report, names["attention"][1])
    assert (cells[1], cells[-1]) == ("only in the other", "inf %")
    assert "- layers: 1 (" in report


def test_a_lora_of_nothing_and_of_zeros_can_be_plotted() -> None:
    for bars in ([], [Bar("a", 0.0, "x")], [Bar("a", None, "x")]):
        assert bar_plot("title", bars, "unknown").pixels.shape[1] == 3


@pytest.mark.parametrize(
    ("highest", "found"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (7.5, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0.03, [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03]),
    ],
)
def test_ticks_are_round(highest: float, found: list[float]) -> None:
    assert ticks(highest) == pytest.approx(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora": None, "file": None}, "no LoRA to inspect"),
        ({"file": "x.safetensors"}, "both given"),
        ({}, "both given"),
    ],
)
def test_it_takes_a_lora_or_a_file(given: dict[str, Any], message: str) -> None:
    """Inputs that are linked are not among those given."""
    with pytest.raises(InputError, match=message):
        LoRAInspect.check_inputs(given)


def test_either_will_do(snail: LoRA) -> None:
    LoRAInspect.check_inputs({"file": None})
    LoRAInspect.check_inputs({"lora": None})
    LoRAInspect.check_inputs({"lora": None, "file": "x.safetensors"})
    with pytest.raises(InputError, match="no LoRA"):
        LoRAInspect().run(Context())
    with pytest.raises(InputError, match="both"):
        LoRAInspect(lora=snail, file="x.safetensors").run(Context())
