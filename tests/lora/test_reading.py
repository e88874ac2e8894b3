"""LoRA files in the wild: spellings of keys, what headers and configurations say, and what is refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.errors import InputError
from engine.values import LoRA
from nodes.diffusion.adapters import applied, conformed
from nodes.diffusion.layers import all_layers
from nodes.lora.header import peft_of, rank_wanted
from nodes.lora.reading import read_lora
from tests.tiny import tiny_svd

TO_Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA_TO_Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
PATH = TO_Q.removeprefix("unet.")
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


def matrices(rank: int = 2, out: int = 32, inputs: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(out, rank, generator=generator), torch.randn(rank, inputs, generator=generator)


UP, DOWN = matrices()
GOOD = {f"{KOHYA_TO_Q}.lora_up.weight": UP, f"{KOHYA_TO_Q}.lora_down.weight": DOWN}


def written(path: Path, tensors: dict[str, Tensor], **header: str) -> Path:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path / "lora.safetensors", header)
    return path / "lora.safetensors"


def told(path: Path) -> tuple[LoRA, str]:
    """A LoRA, and what is said while it is read."""
    lines: list[str] = []
    return read_lora(path, lines.append), "".join(lines)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (f"{KOHYA_TO_Q}.lora_up.weight", f"{KOHYA_TO_Q}.lora_down.weight"),
        (f"lycoris_{PATH.replace('.', '_')}.lora_up.weight", f"lycoris_{PATH.replace('.', '_')}.lora_down.weight"),
        (f"{TO_Q}.lora_B.weight", f"{TO_Q}.lora_A.weight"),
        (f"{TO_Q}.lora_B", f"{TO_Q}.lora_A"),
        (f"{TO_Q}.lora_B.default.weight", f"{TO_Q}.lora_A.default.weight"),
        (f"{TO_Q}.lora_B.default_0.weight", f"{TO_Q}.lora_A.default_0.weight"),
        (f"{TO_Q}.lora.up.weight", f"{TO_Q}.lora.down.weight"),
        (f"{PATH}.lora_B.weight", f"{PATH}.lora_A.weight"),
        (f"unet.{TO_Q}.lora_B.weight", f"unet.{TO_Q}.lora_A.weight"),
        (f"base_model.model.{PATH}.lora_B.weight", f"base_model.model.{PATH}.lora_A.weight"),
        (f"base_model.model.{TO_Q}.lora_B.weight", f"base_model.model.{TO_Q}.lora_A.weight"),
        (f"unet.base_model.model.{PATH}.lora_B.weight", f"unet.base_model.model.{PATH}.lora_A.weight"),
        *(
            (
                f"{start}middle_block.1.transformer_blocks.0.attn1.to_q.lora_up.weight",
                f"{start}middle_block.1.transformer_blocks.0.attn1.to_q.lora_down.weight",
            )
            for start in ("diffusion_model.", "model.diffusion_model.", "")
        ),
        ("lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_up.weight",) * 2,
    ],
)
def test_a_layer_is_found_whatever_the_spelling(up: str, down: str, tmp_path: Path) -> None:
    lora, said = told(written(tmp_path, {up: UP, down.replace("lora_up", "lora_down"): DOWN}))
    assert torch.equal(lora.up[TO_Q], UP)
    assert torch.equal(lora.down[TO_Q], DOWN)
    assert (lora.layers, said) == ((TO_Q,), "")


@pytest.mark.parametrize(
    ("stem", "layer"),
    [
        (f"lora_te1_{TEXT.replace('.', '_')}", f"text_encoder.{TEXT}"),
        (f"text_encoder_2.{TEXT}", f"text_encoder_2.{TEXT}"),
        (f"text_encoders.clip_g.transformer.{TEXT}", f"text_encoder_2.{TEXT}"),
        (f"clip_l.{TEXT}", f"text_encoder.{TEXT}"),
        (f"clip_g.{TEXT}", f"text_encoder_2.{TEXT}"),
        (f"base_model.model.{TEXT}", f"text_encoder.{TEXT}"),
        ("lora_unet_output_blocks_2_0_out_layers_0", "unet.up_blocks.0.resnets.2.norm2"),
        ("lora_unet_out_0", "unet.conv_norm_out"),
        ("lora_te1_text_model_final_layer_norm", "text_encoder.text_model.final_layer_norm"),
    ],
)
def test_layers_of_text_encoders_and_norms_are_found(stem: str, layer: str, tmp_path: Path) -> None:
    lora = read_lora(written(tmp_path, GOOD | {f"{stem}.diff": torch.ones(4)}))
    assert layer in lora.other


def test_the_temporal_layers_of_svd_are_found(tmp_path: Path) -> None:
    pipeline = tiny_svd()
    layers = [name for name in all_layers(pipeline) if name.startswith("unet.")]
    tensors = {
        f"lora_unet_{n.removeprefix('unet.').replace('.', '_')}.diff": all_layers(pipeline)[n].weight for n in layers
    }
    lora = read_lora(written(tmp_path, {name: weight.detach() for name, weight in tensors.items()}))
    assert set(lora.other) == set(layers)
    with applied(pipeline, [lora]):
        pass


def test_stray_keys_are_told_and_passed_over(tmp_path: Path) -> None:
    strays = {
        "lora_unet_blob.alpha": UP[0, 0],
        "optimizer.step": UP,
        f"{TO_Q}.weight": UP,
        "lora_unet_a.lora_up.weight": UP,
    }
    lora, said = told(written(tmp_path, GOOD | strays))
    assert lora.layers == (TO_Q,)
    assert said.startswith("lora.safetensors has keys that belong to no layer of a LoRA and are passed over: ")
    assert "lora_unet_a.lora_up.weight" in said
    assert "and 1 more" in said


def test_bundled_embeddings_are_told(tmp_path: Path) -> None:
    bundle = {f"bundle_emb.ohwx.{name}": UP for name in ("clip_l", "clip_g")}
    lora, said = told(written(tmp_path, GOOD | bundle))
    assert lora.layers == (TO_Q,)
    assert "words of its own along (ohwx)" in said


FLUX = "transformer.single_transformer_blocks.0.attn.to_q"
EARLY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
OLD_TEXT = {f"lora_te_{TEXT.replace('.', '_')}.lora_{side}.weight": part for side, part in (("up", UP), ("down", DOWN))}


@pytest.mark.parametrize(
    ("tensors", "header", "base"),
    [
        ({f"{FLUX}.lora_A.weight": DOWN, f"{FLUX}.lora_B.weight": UP}, {}, "Flux .* keys"),
        ({"lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": UP}, {}, "Flux .* keys"),
        (GOOD | {"lora_te3_encoder_block_0_layer_0_SelfAttention_k.lora_up.weight": UP}, {}, "Stable Diffusion 3"),
        ({"transformer.x.lora_A.weight": DOWN, "transformer.x.lora_B.weight": UP}, {}, "a diffusion transformer"),
        (GOOD, {"ss_base_model_version": "sd_v1"}, r"Stable Diffusion 1\.x, as its header says"),
        (GOOD, {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, r"Stable Diffusion 2\.x"),
        (GOOD, {"ss_base_model_version": "flux1"}, "Flux"),
        (
            {f"{EARLY}.lora_A.weight": matrices(2, 320, 768)[1], f"{EARLY}.lora_B.weight": matrices(2, 320)[0]},
            {},
            r"Stable Diffusion 1\.x, as its layers say",
        ),
        (OLD_TEXT, {}, r"Stable Diffusion 1\.x or 2\.x, as its layers say"),
        (
            GOOD | {f"text_encoder.{TEXT}.lora_{s}.weight": matrices(2, 1024, 1024)[s == "A"] for s in "AB"},
            {},
            r"Stable Diffusion 2\.x, as its layers say",
        ),
    ],
)
def test_loras_of_other_bases_are_named(
    tensors: dict[str, Tensor], header: dict[str, str], base: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"is a LoRA for {base}") as refusal:
        read_lora(written(tmp_path, tensors, **header))
    assert "SDXL" in (refusal.value.hint or "")


def test_layers_count_more_than_a_header(tmp_path: Path) -> None:
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    up, down = matrices(2, 640, 2048)
    tensors = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    assert read_lora(written(tmp_path, tensors, ss_base_model_version="sd_v1")).layers == (layer,)


def test_an_old_text_encoder_of_sdxl_is_read(tmp_path: Path) -> None:
    assert read_lora(written(tmp_path, OLD_TEXT, ss_base_model_version="sdxl_base_v1-0")).layers == (
        f"text_encoder.{TEXT}",
    )


def test_a_file_for_the_first_text_encoder_alone_is_read_with_a_word(tmp_path: Path) -> None:
    tensors = {key.replace("lora_te_", "lora_te1_"): part for key, part in OLD_TEXT.items()}
    assert "doesn't say for which base model" in told(written(tmp_path, tensors))[1]


def test_the_base_of_a_lora_that_does_not_fit_is_named(pipeline: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    up, down = matrices(2, 640, 1024)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    lora = read_lora(written(tmp_path, {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}))
    with pytest.raises(InputError) as refusal:
        conformed(pipeline, lora)
    assert "made for Stable Diffusion 2.x or Stable Video Diffusion, as its shapes say" in (refusal.value.hint or "")


ALPHA = f"{KOHYA_TO_Q}.alpha"
HUGE = torch.tensor([[0.0, 1, 1], [0, 0, 1], [0, 0, 0]]).expand(2, 3, 3) * 3e38
"""Beside these the 1 of 1 − Q is lost, and a Q of three rows has no inverse."""


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (GOOD | {ALPHA: torch.tensor(float("nan"))}, "unet.mid_block.*to_q has an alpha of nan"),
        (GOOD | {ALPHA: torch.tensor(float("-inf"))}, "has an alpha of -inf"),
        (GOOD | {ALPHA: torch.tensor(0.0)}, "has an alpha of 0"),
        (GOOD | {ALPHA: torch.ones(2)}, "has an alpha of 2 elements, not one"),
        (GOOD | {ALPHA: torch.ones(0)}, "has an alpha of 0 elements, not one"),
        (GOOD | {f"{TO_Q}.lora_B.weight": UP}, rf"gives {TO_Q} twice, as {KOHYA_TO_Q}\S+ and as {TO_Q}\.lora_B"),
        (
            {f"{TO_Q}.lora_A.{name}.weight": DOWN for name in ("default", "default_0")},
            r"twice, as .*lora_A\.default\.weight and as .*lora_A\.default_0",
        ),
        (
            {key: part.to(torch.int8) for key, part in GOOD.items()},
            "has its down in int8, which is no floating-point type",
        ),
        ({key: part.bool() for key, part in GOOD.items()}, "has its down in bool"),
        (GOOD | {f"{KOHYA_TO_Q}.hada_w1_a": UP}, "holds several kinds of update, LoRA and LoHa"),
        ({f"{KOHYA_TO_Q}.hada_w1_a": UP}, "has no hada_w1_b, without which its LoHa is incomplete"),
        ({f"{KOHYA_TO_Q}.lokr_w1": UP}, "has no lokr_w2 or lokr_w2_a, without which its LoKr"),
        (GOOD | {f"{KOHYA_TO_Q}.lora_mid.weight": UP}, "which do not multiply"),
        ({f"{KOHYA_TO_Q}.lora_up.weight": UP}, "has no down, without which its LoRA"),
        (
            GOOD | {f"{KOHYA_TO_Q}.lora_up.weight": UP[:, :1]},
            r"matrices \(32, 1\) and \(2, 32\), which do not multiply",
        ),
        (GOOD | {f"{KOHYA_TO_Q}.lora_up.weight": UP[:, 0]}, r"matrices \(32,\) and \(2, 32\), which do not multiply"),
        (GOOD | {f"{KOHYA_TO_Q}.lora_up.weight": UP / 0}, "holds numbers that are not finite"),
        (
            GOOD | {f"{KOHYA_TO_Q}.lora_down.bias": UP[0]},
            r"to_q has a part that is not known, \S+to_q\.lora_down\.bias",
        ),
        (GOOD | {f"{KOHYA_TO_Q}.lora_up.weight.scale": UP[0]}, r"not known, \S+\.lora_up\.weight\.scale"),
        (GOOD | {f"{KOHYA_TO_Q}.base_layer.bias": UP[:, 0]}, r"not known, \S+\.base_layer\.bias"),
        (GOOD | {f"{KOHYA_TO_Q}.oft_diag": UP}, r"not known, \S+\.oft_diag"),
        (
            GOOD | {f"{KOHYA_TO_Q}.lora_up.bias": UP[:, 0], f"{KOHYA_TO_Q}.diff_b": UP[:, 0]},
            "gives its bias twice",
        ),
        (GOOD | {f"{KOHYA_TO_Q}.{name}": UP[:, 0] for name in ("diff_b", "b_norm")}, "gives its bias twice"),
        ({f"{KOHYA_TO_Q}.{name}": UP[:, 0] for name in ("diff", "w_norm")}, "gives its difference twice"),
        (
            {f"{KOHYA_TO_Q}.weight": UP[:, 0], f"{KOHYA_TO_Q}.on_input": torch.tensor(1)}
            | {f"{KOHYA_TO_Q}.dora_scale": UP[:, :1]},
            "has the magnitudes of a DoRA beside something that is none",
        ),
        ({f"{KOHYA_TO_Q}.diff_b": UP[:, 0], f"{KOHYA_TO_Q}.dora_scale": UP[:, :1]}, "beside something that is none"),
        ({f"{KOHYA_TO_Q}.dora_scale": UP[:, :1]}, "has the magnitudes of a DoRA beside something that is none"),
        (GOOD | {f"{KOHYA_TO_Q}.dora_scale": UP}, r"has a dora_scale of shape \(32, 2\), not 32 values"),
        (GOOD | {f"{KOHYA_TO_Q}.dora_scale": UP[:7, :1]}, r"has a dora_scale of shape \(7, 1\), not 32 values"),
        ({f"{KOHYA_TO_Q}.oft_blocks": UP}, "which are no rotations"),
        (
            GOOD | {f"{KOHYA_TO_Q}.{name}": UP[:, 0] for name in ("magnitude", "dora_scale")},
            "gives its magnitudes twice",
        ),
        ({f"{KOHYA_TO_Q}.oft_blocks": HUGE}, "holds numbers that are not finite"),
        ({f"{TO_Q}.oft_R.weight": UP}, "which says nothing without its adapter_config.json"),
        ({f"{TO_Q}.boft_R": UP}, "holds BOFT as PEFT writes it"),
        (GOOD | {f"{TO_Q}.lora_E": UP}, "holds AdaLoRA"),
        (GOOD | {f"{KOHYA_TO_Q}.lora_up.scale_weight": UP[0]}, "holds numbers with a scale of their own"),
        ({f"{KOHYA_TO_Q}.set_weight": UP}, "holds weights that replace the model's"),
        ({f"{KOHYA_TO_Q}.hada_w{i}_{e}": torch.ones(i, 2) for i in (1, 2) for e in "ab"}, "do not multiply"),
        (
            {f"{KOHYA_TO_Q}.a1.weight": UP} | {f"{KOHYA_TO_Q}.{n}.weight": DOWN for n in ("a2", "b1", "b2")},
            "do not multiply",
        ),
        ({ALPHA: UP[0, 0]}, "holds no LoRA layers"),
        ({f"{i}": UP for i in range(9)}, r"holds no LoRA layers \(its keys are 0, 1, 2 and 6 more\)"),
    ],
)
def test_bad_files_are_refused_by_the_layer(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        read_lora(written(tmp_path, tensors))
    assert (refusal.value.input, bool(refusal.value.hint)) == ("file", True)


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_files_of_another_kind_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "lora.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="is not a safetensors file"):
        read_lora(tmp_path / "lora.safetensors")


@pytest.mark.parametrize("words", ["snail", '["snail"]', '{"subject": "snail"}'])
def test_a_header_that_cannot_be_parsed_is_refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kinograph\.words can't be parsed"):
        read_lora(written(tmp_path, GOOD, **{"kinograph.words": words}))


TAGS = {"ss_tag_frequency": json.dumps({"5_a": {"ohwx": 8, "dog": 3}, "2_b": {"ohwx ": 4, "dog": 4}})}


def pictures(*counts: int) -> str:
    """Folders of training pictures, as kohya's trainers write them into the header."""
    return json.dumps({f"{i}_a": {"n_repeats": 5, "img_count": count} for i, count in enumerate(counts)})


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"modelspec.trigger_phrase": "ohwx dog, ohwx "}, {"trigger": ("ohwx dog", "ohwx")}),
        (TAGS | {"ss_dataset_dirs": pictures(8, 4)}, {"trigger": ("ohwx",)}),
        (TAGS | {"ss_dataset_dirs": pictures(9, 4)}, {}),
        (TAGS | {"ss_dataset_dirs": "[]"}, {}),
        (TAGS, {}),
        ({"ss_tag_frequency": json.dumps({"a": {"a caption": 1}}), "ss_dataset_dirs": pictures(1)}, {}),
        (
            {
                "ss_tag_frequency": json.dumps({"a": {f"tag {i}": 9 for i in range(4)}}),
                "ss_dataset_dirs": pictures(9),
            },
            {},
        ),
        ({"ss_tag_frequency": "null"}, {}),
        ({"kinograph.words": "{}", "modelspec.trigger_phrase": "ohwx"}, {}),
        ({"kinograph.words": '{"subject": ["snail"]}'}, {"subject": ("snail",)}),
    ],
)
def test_trigger_words_come_from_the_header(
    header: dict[str, str], words: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    assert read_lora(written(tmp_path, GOOD, **header)).words == words


BLOCK = "mid_block.attentions.0.transformer_blocks.0"
ENDS = [f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_v", "mid_block.attentions.0.proj_in", f"{BLOCK}.ff.net.2"]
CONVOLUTIONS = ["mid_block.resnets.0.conv1", "down_blocks.1.resnets.0.conv_shortcut"]


def configurations() -> dict[str, Any]:
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig

    patterns = {"rank_pattern": {"attn1.to_q": 6}, "alpha_pattern": {"attn1.to_q": 12, r"mid_block.*\.to_v": 1}}
    convolved = [*ENDS, *CONVOLUTIONS]
    return {
        "lora": LoraConfig(r=4, lora_alpha=2, target_modules=convolved, **patterns),
        "rslora": LoraConfig(r=4, lora_alpha=2, use_rslora=True, target_modules=ENDS, **patterns),
        "dora": LoraConfig(r=4, lora_alpha=2, use_dora=True, target_modules=convolved),
        "lora with biases": LoraConfig(r=4, lora_alpha=2, lora_bias=True, target_modules=ENDS[2:]),
        "loha": LoHaConfig(r=3, alpha=2, target_modules=convolved, **patterns),
        "loha, effective": LoHaConfig(r=3, alpha=2, use_effective_conv2d=True, target_modules=convolved),
        "lokr": LoKrConfig(r=3, alpha=2, target_modules=convolved, **patterns),
        "lokr, whole": LoKrConfig(r=32, alpha=2, target_modules=ENDS),
        "oft": OFTConfig(oft_block_size=4, target_modules=ENDS, use_cayley_neumann=False),
        "oft, approximated": OFTConfig(oft_block_size=4, target_modules=ENDS),
        "oft, shared": OFTConfig(oft_block_size=4, block_share=True, target_modules=ENDS),
        "ia3": IA3Config(target_modules=ENDS, feedforward_modules=ENDS[3:]),
        "ia3, convolutions": IA3Config(target_modules=convolved, feedforward_modules=[ENDS[3], CONVOLUTIONS[0]]),
        "ia3, by a pattern": IA3Config(target_modules=CONVOLUTIONS, feedforward_modules=r"down_blocks.*"),
        "ia3, outputs alone": IA3Config(target_modules=CONVOLUTIONS, feedforward_modules=[]),
    }


def saved(unet: UNet2DConditionModel, config: Any, folder: Path) -> nn.Module:
    """A copy of a UNet with an adapter of PEFT that has random numbers, saved as PEFT does."""
    from peft import get_peft_model

    model = get_peft_model(copy.deepcopy(unet), config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.copy_(parameter + noise if "magnitude" in name or "ia3" in name else noise)
    model.save_pretrained(folder)
    return model.get_base_model()


@pytest.mark.filterwarnings("ignore:.*have invalid shape")
@pytest.mark.parametrize("kind", configurations())
def test_layers_do_what_those_of_peft_do(kind: str, pipeline: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    theirs = saved(pipeline.unet, configurations()[kind], tmp_path)
    lora = read_lora(tmp_path)
    assert {name.removeprefix("unet.") for name in lora.layers} == set(configurations()[kind].target_modules)
    with applied(pipeline, [lora]), torch.no_grad():
        for name in lora.layers:
            layer = all_layers(pipeline)[name]
            inputs = layer.weight.shape[1]
            x = torch.randn(2, inputs, 6, 6) if isinstance(layer, nn.Conv2d) else torch.randn(2, inputs)
            wanted = theirs.get_submodule(name.removeprefix("unet."))(x)
            torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("version", "terms", "last", "factor"),
    [
        (None, 5, 4, 2),
        ("0.17.1", 5, 4, 2),
        ("0.17.1", 3, 2, 2),
        ("0.18.0", 5, 4, 1),
        ("0.18.2.dev0@main", 3, 3, 1),
        ("1.0", 2, 1, 2),
    ],
)
def test_rotations_are_approximated_as_by_the_version_of_peft_that_wrote_them(
    version: str | None, terms: int, last: int, factor: int, pipeline: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    """Before 0.18 all powers had the factor 2; since then the last one has 1."""
    saved(pipeline.unet, configurations()["oft, approximated"], tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    written = config | {"num_cayley_neumann_terms": terms, "peft_version": version}
    if version is None:
        del written["peft_version"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(written))
    triangles = load_file(tmp_path / "adapter_model.safetensors")[f"base_model.model.{PATH}.oft_R.weight"].double()
    turn = torch.zeros(8, 4, 4, dtype=torch.float64)
    turn[:, *torch.triu_indices(4, 4, 1)] = triangles
    turn = turn - turn.mT
    powers = [torch.linalg.matrix_power(turn, n) for n in range(1, last + 1)]
    wanted = torch.stack([2 * power for power in powers[:-1]] + [factor * powers[-1]]).sum(0)
    torch.testing.assert_close(read_lora(tmp_path).other[TO_Q]["input_rotation"].double(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*have invalid shape")
def test_an_ia3_of_a_convolution_says_what_it_scales_or_is_refused(
    pipeline: StableDiffusionXLPipeline, tmp_path: Path
) -> None:
    saved(pipeline.unet, configurations()["ia3, by a pattern"], tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"feedforward_modules": None}))
    with pytest.raises(InputError, match="doesn't say whether it scales inputs or outputs"):
        read_lora(tmp_path)


def test_rotations_of_peft_without_their_configuration_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is an OFT of PEFT") as refusal:
        read_lora(written(tmp_path, {f"{TO_Q}.oft_R.weight": UP}))
    assert "the folder that PEFT saved" in (refusal.value.hint or "")


def configured(folder: Path, **settings: Any) -> Path:
    """A folder with a LoRA as PEFT saves it, and its configuration."""
    tensors = {f"base_model.model.{PATH}.lora_{side}.weight": part for side, part in (("A", DOWN), ("B", UP))}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2} | settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": None}, "lora_alpha is None in PEFT's configuration"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"r": 0}, "r is 0"),
        ({"r": -4, "use_rslora": True}, "r is -4"),
        ({"rank_pattern": {"to_q": -4}}, "to_q is -4"),
        ({"alpha_pattern": {"(a+)+b": 4}}, r"'\(a\+\)\+b' is no pattern"),
        ({"alpha_pattern": {"(to_q|to_k){2,9}": 4}}, "is no pattern that can be followed"),
        ({"alpha_pattern": {r"(to)_\1": 4}}, "is no pattern that can be followed"),
        ({"alpha_pattern": {"a" * 3000: 4}}, "longer than 2,000 characters"),
        ({"alpha_pattern": {"(" * 500 + ")" * 500: 4}}, "too many parentheses"),
        ({"init_lora_weights": [[]]}, "init_lora_weights.* in PEFT's"),
        ({"peft_type": "LOHA", "alpha": 0}, "alpha is 0"),
        ({"peft_type": "LOKR", "alpha": 0}, "alpha is 0"),
        ({"alpha_pattern": {"to_q": None}}, r"alpha_pattern\.to_q is None"),
        ({"alpha_pattern": {"to_q": 0}}, "to_q is 0"),
        ({"rank_pattern": {"(to_q": 4}}, r"'\(to_q' is no pattern"),
        ({"peft_type": "IA3", "feedforward_modules": "(to_q"}, r"'\(to_q' is no pattern"),
        ({"peft_type": "IA3", "feedforward_modules": 3}, "feedforward_modules.* is 3 in PEFT's"),
        ({"use_dora": True}, "to_q is said to be a DoRA and has no magnitudes"),
        ({"modules_to_save": ["conv_in"]}, "has whole layers beside the adapter"),
        ({"init_lora_weights": "pissa_niter_16"}, "belongs to a model that its training changed"),
        ({"peft_type": "VERA"}, "is an adapter of PEFT's kind VERA"),
    ],
)
def test_configurations_that_cannot_be_followed_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        read_lora(configured(tmp_path, **settings))
    assert refusal.value.input == "file"


def test_an_alpha_that_is_not_said_is_that_of_peft(tmp_path: Path) -> None:
    config = configured(tmp_path) / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": 2, "alpha": 6}))  # alpha is LoHa's name for it
    assert torch.equal(read_lora(tmp_path).up[TO_Q], UP * 4)


@pytest.mark.parametrize(
    "pattern",
    [
        "attn1.to_q",
        "to_q",
        "to",
        r".*to_[qk]",
        r".*\.attn\d\.to_(q|k)",
        r"^mid_block\.attentions\.\d+\..*to_q$",
        r"^attn1\.to_q$",
        r"(?:down|mid)_blocks?.*",
        r"[^.]+\.attn1\.\w+?",
        r"(attn1\.)?to_q|conv_in",
        "transformer_blocks.0.attn2.to_q",
        "",
    ],
)
def test_patterns_mean_what_regular_expressions_do(pattern: str) -> None:
    paths = [PATH, "to_q", "attn1.to_q", "down_blocks.10.attentions.1.proj_in", "conv_in", TEXT, "a.to_k", "."]
    peft = peft_of("adapter_config.json", {"r": 2, "alpha_pattern": {pattern: 5}, "lora_alpha": 3})
    found = [path for path in paths if peft.alpha_of(path) == 5]
    assert found == [path for path in paths if re.fullmatch(rf"(.*\.)?({pattern})", path)]
    fed = peft_of("adapter_config.json", {"peft_type": "IA3", "feedforward_modules": pattern})
    assert [path for path in paths if fed.scales_inputs(path)] == [p for p in paths if re.fullmatch(pattern, p)]


def test_no_pattern_takes_long() -> None:
    peft = peft_of("adapter_config.json", {"r": 2, "alpha_pattern": {r".*a\d*" * 40 + "b": 5}})
    assert peft.alpha_of("a1" * 100) == 8


@pytest.mark.parametrize("rank", ["-4", "1e300", "nan", "Dynamic"])
def test_a_rank_in_a_header_that_can_be_none_counts_for_nothing(rank: str) -> None:
    assert rank_wanted({"ss_network_dim": rank}, False) is None


@pytest.mark.parametrize("kind", ["LOHA", "LOKR"])
@pytest.mark.parametrize(("said", "scale"), [({}, 4), ({"alpha": 6}, 3), ({"alpha": 6, "lora_alpha": 2}, 3)])
def test_alphas_of_loha_and_lokr_have_a_name_of_their_own(kind: str, said: dict[str, int], scale: float) -> None:
    assert peft_of("adapter_config.json", {"peft_type": kind, "r": 2} | said).scale("conv_in", 2) == scale


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 100_000])
def test_configurations_that_are_no_json_objects_are_refused(text: str, tmp_path: Path) -> None:
    (configured(tmp_path) / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match=r"adapter_config\.json (is not JSON|must hold)"):
        read_lora(tmp_path)


def test_a_dora_of_diffusers_without_its_magnitudes_is_refused(tmp_path: Path) -> None:
    metadata = json.dumps({"unet.lora_alpha": 2, "unet.r": 2, "unet.use_dora": True})
    tensors = {f"{TO_Q}.lora_A.weight": DOWN, f"{TO_Q}.lora_B.weight": UP}
    with pytest.raises(InputError, match="is said to be a DoRA"):
        read_lora(written(tmp_path, tensors, lora_adapter_metadata=metadata))


def test_a_file_that_needs_the_configuration_beside_it_is_not_read_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"half without the adapter_config\.json") as refusal:
        read_lora(configured(tmp_path) / "adapter_model.safetensors")
    assert refusal.value.hint == "give the folder"


def test_the_configuration_counts_for_a_file_of_another_name(tmp_path: Path) -> None:
    configured(tmp_path, lora_alpha=4)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "pytorch_lora_weights.safetensors")
    assert torch.equal(read_lora(tmp_path).up[TO_Q], UP * 2)


def test_folders_of_several_components_are_one_lora(tmp_path: Path) -> None:
    for component, path, alpha in (("unet", PATH, 4), ("text_encoder_2", TEXT, 6)):
        (folder := tmp_path / component).mkdir()
        configured(folder, lora_alpha=alpha)
        tensors = {f"base_model.model.{path}.lora_{side}.weight": part for side, part in (("A", DOWN), ("B", UP))}
        save_file(tensors, folder / "adapter_model.safetensors")
    lora = read_lora(tmp_path)
    assert torch.equal(lora.up[TO_Q], UP * 2)
    assert torch.equal(lora.up[f"text_encoder_2.{TEXT}"], UP * 3)


def test_the_component_is_told_by_the_class_that_was_trained(tmp_path: Path) -> None:
    tensors = {f"base_model.model.{TEXT}.lora_{side}.weight": part for side, part in (("A", DOWN), ("B", UP))}
    configured(tmp_path, auto_mapping={"base_model_class": "CLIPTextModelWithProjection"})
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    assert read_lora(tmp_path).layers == (f"text_encoder_2.{TEXT}",)
