from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import convert_unet_state_dict_to_peft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save_file
from torch import Tensor

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import applied
from nodes.diffusion.layers import layers
from nodes.lora.formats import Format, write_lora
from nodes.lora.kohya import kohya_name, layer_of_kohya_name
from nodes.lora.reading import read_lora
from tests.lora.reference import Make, Names, dense, output, with_dense

TO_Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA_TO_Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def written(path: Path, tensors: dict[str, Tensor], **header: str) -> Path:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path / "lora.safetensors", header)
    return path / "lora.safetensors"


def matrices(rank: int = 2, width: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(width, rank, generator=generator), torch.randn(rank, width, generator=generator)


def header(file: bytes) -> dict[str, dict[str, str]]:
    (size,) = struct.unpack_from("<Q", file)
    return json.loads(file[8 : 8 + size])


words = st.dictionaries(st.sampled_from(["subject", "style"]), st.lists(st.text(), max_size=2).map(tuple))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.sets(st.integers(0, 60), min_size=1),
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    strength=st.floats(-4, 4),
    words=words,
    format=st.sampled_from(["kohya", "peft"]),
)
def test_what_is_written_is_read_back(
    chosen: set[int],
    ranks: tuple[int, ...],
    strength: float,
    words: dict[str, tuple[str, ...]],
    format: Format,
    make: Make,
    names: Names,
    tmp_path: Path,
) -> None:
    lora = make([names["all"][i] for i in chosen], ranks=ranks, strength=strength, words=words, name="näme")
    (tmp_path / "lora.safetensors").write_bytes(write_lora(lora, format))
    back = read_lora(tmp_path / "lora.safetensors")
    assert (back.name, back.words, back.strength) == ("näme", words, 1)
    assert back.up.keys() == lora.up.keys()
    expected = dense(lora)
    for name, delta in dense(back).items():
        torch.testing.assert_close(delta, expected[name], rtol=1e-5, atol=1e-6)


def with_widths(lora: LoRA, widths: dict[str, int]) -> LoRA:
    """Only layers of these widths in place of those of their names, beside all others."""
    up = {name: torch.ones(8, 4) for name in widths}
    down = {name: torch.ones(4, width) for name, width in widths.items()}
    others = [name for name in lora.up if not name.endswith(("attn2.to_k", "attn2.to_v"))]
    return replace(
        lora,
        up={name: lora.up[name] for name in others} | up,
        down={name: lora.down[name] for name in others} | down,
    )


@pytest.mark.parametrize(
    ("base", "widths"),
    [
        (
            "sd_v1",
            {
                "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": 768,
                "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": 768,
            },
        ),
        (
            "svd",
            {
                "unet.down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q": 320,
                "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": 1024,
            },
        ),
        (
            None,
            {
                "transformer.transformer_blocks.0.attn.to_out.0": 3072,
                "transformer.single_transformer_blocks.0.proj_mlp": 3072,
                "transformer.x_embedder": 64,
            },
        ),
    ],
    ids=["Stable Diffusion 1.5", "Stable Video Diffusion", "Flux"],
)
def test_what_is_saved_for_another_base_is_read_back(base: str | None, widths: dict[str, int], tmp_path: Path) -> None:
    lora = with_widths(LoRA({}, {}, "other"), widths)
    file = write_lora(lora, "peft")
    assert header(file)["__metadata__"].get("ss_base_model_version") == base
    (tmp_path / "lora.safetensors").write_bytes(file)
    back = read_lora(tmp_path / "lora.safetensors")
    assert {*back.up} == {*widths}
    assert all(torch.equal(back.down[name], lora.down[name]) for name in widths)
    if base is None:
        with pytest.raises(InputError, match=r"transformer\..* has no name in kohya's format") as error:
            write_lora(lora)
        assert (error.value.input, error.value.hint) == ("format", "save the LoRA as peft")


def test_a_lora_without_layers_is_not_saved() -> None:
    with pytest.raises(InputError, match="has no layers to save"):
        write_lora(LoRA({}, {}, "nothing"))


def test_equal_loras_give_equal_bytes(make: Make, names: Names) -> None:
    files = {
        write_lora(make(names["attention"], words={"subject": ("snail",), "style": ("mosaic",)})) for _ in range(8)
    }
    assert len(files) == 1


def test_the_header_has_what_other_tools_read(make: Make, names: Names) -> None:
    lora = make(names["all"], ranks=(4,), words={"subject": ("snail",)}, name="snail")
    assert "ss_base_model_version" not in header(write_lora(lora))["__metadata__"]  # small models may be any
    lora = with_widths(lora, {"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": 2048})
    metadata = header(write_lora(lora))["__metadata__"]
    expected = {
        "ss_v2": "False",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "4",
        "ss_network_args": '{"conv_dim": "4", "conv_alpha": "4"}',
        "ss_output_name": "snail",
        "kinograph.words": '{"subject": ["snail"]}',
    }
    assert expected.items() <= metadata.items()


def test_alpha_is_the_rank_written(make: Make, names: Names) -> None:
    tensors = load(write_lora(make(names["attention"], ranks=(5,))))
    assert {tensor.item() for key, tensor in tensors.items() if key.endswith(".alpha")} == {5.0}


def test_a_file_without_alpha_has_scale_1(tmp_path: Path) -> None:
    up, down = matrices()
    lora = read_lora(written(tmp_path, {f"{KOHYA_TO_Q}.lora_up.weight": up, f"{KOHYA_TO_Q}.lora_down.weight": down}))
    assert torch.equal(lora.up[TO_Q], up)
    assert (lora.name, lora.words) == ("lora", {})


def test_each_layers_own_alpha_counts(
    exact: StableDiffusionXLPipeline, make: Make, names: Names, tmp_path: Path
) -> None:
    lora = make(names["all"], ranks=(2, 4))
    tensors, deltas = {}, {}
    for i, (name, delta) in enumerate(dense(lora).items()):
        alpha = 1.0 + i % 3
        tensors[f"{kohya_name(name)}.lora_up.weight"] = lora.up[name]
        tensors[f"{kohya_name(name)}.lora_down.weight"] = lora.down[name]
        tensors[f"{kohya_name(name)}.alpha"] = torch.tensor(alpha)
        deltas[name] = delta * alpha / len(lora.down[name])
    expected = output(with_dense(exact, deltas))
    with applied(exact, [read_lora(written(tmp_path, tensors))]):
        torch.testing.assert_close(output(exact), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rslora", [False, True])
def test_alphas_in_pefts_configuration_count(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names, tmp_path: Path, rslora: bool
) -> None:
    lora = make(names["attention"], ranks=(4,))
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers={
            f"{name.removeprefix('unet.')}.{side}.weight": part[name]
            for name in lora.up
            for side, part in (("lora_B", lora.up), ("lora_A", lora.down))
        },
        weight_name="lora.safetensors",
        unet_lora_adapter_metadata={
            "r": 4,
            "lora_alpha": 2,
            "alpha_pattern": {"attn1.to_q": 12},
            "use_rslora": rslora,
            "target_modules": ["to_q", "to_k", "to_v", "to_out.0"],
        },
    )
    theirs = with_dense(pipeline)
    theirs.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    with applied(pipeline, [read_lora(tmp_path / "lora.safetensors")]):
        torch.testing.assert_close(output(pipeline), output(theirs), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("unet", "text"),
    [
        ("{path}.lora.{side}.weight", "{path}.lora_linear_layer.{side}.weight"),
        ("{parent}.processor.{last}_lora.{side}.weight", "{parent}.to_{letter}_lora.{side}.weight"),
    ],
)
def test_older_spellings_of_diffusers_are_read(
    pipeline: StableDiffusionXLPipeline, make: Make, names: Names, tmp_path: Path, unet: str, text: str
) -> None:
    lora = make([*names["attention"], *(name for name in names["text"] if "text_encoder_2." in name)])
    tensors = {}
    for name in lora.up:
        path = name.removesuffix(".0") if "processor" in unet else name
        parent, _, last = path.rpartition(".")
        letter = last.removesuffix("_proj")
        spelling = unet if name.startswith("unet.") else text
        for side, part in (("up", lora.up), ("down", lora.down)):
            key = spelling.format(path=path, parent=parent, last=last, letter=letter, side=side)
            tensors[key] = part[name].contiguous()
    theirs = with_dense(pipeline)
    theirs.load_lora_weights(str(written(tmp_path, tensors).parent), weight_name="lora.safetensors")
    read = read_lora(tmp_path / "lora.safetensors")
    assert read.up.keys() == lora.up.keys()
    with applied(pipeline, [read]):
        torch.testing.assert_close(output(pipeline), output(theirs), rtol=0, atol=1e-5)


SGM = (
    "input_blocks_0_0",
    "input_blocks_1_0_in_layers_2",
    "input_blocks_3_0_op",
    "input_blocks_4_0_skip_connection",
    "input_blocks_4_1_proj_in",
    "input_blocks_5_1_transformer_blocks_1_attn2_to_k",
    "input_blocks_8_1_transformer_blocks_9_ff_net_0_proj",
    "middle_block_0_out_layers_3",
    "middle_block_1_transformer_blocks_0_attn1_to_out_0",
    "middle_block_2_emb_layers_1",
    "output_blocks_0_1_transformer_blocks_3_ff_net_2",
    "output_blocks_2_2_conv",
    "output_blocks_5_1_proj_out",
    "output_blocks_8_0_skip_connection",
    "time_embed_0",
    "time_embed_2",
    "label_emb_0_0",
    "label_emb_0_2",
    "out_2",
)


def test_sgm_names_are_those_that_diffusers_reads() -> None:
    for sgm in SGM:
        up, down = matrices()
        keys = {f"lora_unet_{sgm}.lora_down.weight": down, f"lora_unet_{sgm}.lora_up.weight": up}
        converted, _ = StableDiffusionXLPipeline.lora_state_dict(keys, unet_config=SimpleNamespace(layers_per_block=2))
        (key, _) = sorted(convert_unet_state_dict_to_peft(converted))
        assert layer_of_kohya_name(f"lora_unet_{sgm}") == key.removesuffix(".lora_A.weight")


def test_kohya_names_lead_back_to_every_layer(pipeline: StableDiffusionXLPipeline, names: Names) -> None:
    assert [layer_of_kohya_name(kohya_name(name)) for name in names["all"]] == names["all"]
    assert len(names["all"]) == len([name for name in layers(pipeline) if not name.startswith("vae")])


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_input_blocks_x_1_proj_in",
        "lora_unet_input_blocks_0_1_proj_in",
        "lora_unet_output_blocks_1",
        "lora_unet_middle_block_3_proj_in",
        "lora_unet_down_blocks_0_",
        "lora_unet_",
        "lora_te3_text_model_encoder_layers_0_mlp_fc1",
        "lora_transformer_blocks_0_attn_to_q",
    ],
)
def test_names_of_other_models_lead_nowhere(name: str) -> None:
    assert layer_of_kohya_name(name) is None


def test_kohya_names_of_a_single_text_encoder_are_the_first_ones() -> None:
    name = "text_model_encoder_layers_0_self_attn_q_proj"
    assert layer_of_kohya_name(f"lora_te_{name}") == layer_of_kohya_name(f"lora_te1_{name}")


def test_a_lora_survives_the_cache(make: Make, names: Names) -> None:
    lora = make(names["all"], words={"subject": ("snail",)}, strength=0.5)
    back = LoRA.from_tensors(*lora.to_tensors())
    assert (back.name, back.words, back.strength) == (lora.name, lora.words, lora.strength)
    assert all(torch.equal(back.up[name], lora.up[name]) for name in lora.up)
