"""LoRAs out of two models, whose weights are read one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, StableVideoDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import Cancelled, InputError, MissingError
from engine.models import identity
from engine.node import Context
from engine.values import ImageModel, LoRA, ModelReference, VideoModel
from nodes.diffusion.adapters import applied
from nodes.diffusion.layers import all_layers
from nodes.lora.nodes import LoRAApply, LoRAExtract
from nodes.lora.stored import StoredWeights
from nodes.lora.truncation import Limit, nearest
from tests.lora.reference import Make, Names, OnApple, dense
from tests.tiny import tiny_sdxl, tiny_svd

UNET = Path("unet/diffusion_pytorch_model.safetensors")
TEXT = Path("text_encoder/model.safetensors")
BLOCK = "unet.mid_block.attentions.0.transformer_blocks.0"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ImageModel:
    path = tmp_path_factory.mktemp("base")
    tiny_sdxl().save_pretrained(path)
    return image_model(path)


def image_model(path: Path) -> ImageModel:
    return ImageModel(str(path), str(path), identity(str(path)), "float32", family="Stable Diffusion XL")


def video_model(path: Path) -> VideoModel:
    return VideoModel(str(path), str(path), identity(str(path)), "float32", family="Stable Video Diffusion")


def changed(
    model: ModelReference, folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]], file: Path = UNET
) -> Path:
    """A copy of a model's folder with other weights in a file."""
    for component in ("unet", "text_encoder", "text_encoder_2"):
        for path in (Path(model.path) / component).glob("*"):
            (folder / component).mkdir(parents=True, exist_ok=True)
            (folder / component / path.name).symlink_to(path)
    weights = load_file(folder / file)
    (folder / file).unlink()
    save_file({name: tensor.contiguous().clone() for name, tensor in change(weights).items()}, folder / file)
    return folder


def trained(model: ModelReference, folder: Path, lora: LoRA) -> Path:
    """A copy of a model's folder with a LoRA added to the weights of its UNet."""
    updates = {f"{name.removeprefix('unet.')}.weight": update.float() for name, update in dense(lora).items()}
    return changed(
        model, folder, lambda weights: weights | {name: weights[name] + update for name, update in updates.items()}
    )


def extract(base: ModelReference, tuned: ModelReference, **inputs: Any) -> tuple[LoRA, dict[str, Any], str]:
    """The LoRA, what is reported, and what is said."""
    told: list[Any] = []
    said: list[str] = []
    node = LoRAExtract(base=base, tuned=tuned, **inputs)
    lora = node.run(Context(on_report=told.append, on_text=said.append))
    return lora, {name: figure.value for name, figure in told[-1].items()}, "".join(said)


def test_a_model_of_several_sources_is_refused(base: ImageModel) -> None:
    part, packed = (ModelReference(name, name, name, "float32") for name in ("other.safetensors", "unet.gguf"))
    for parts, message in (
        ({"unet": part}, "has the unet of other.safetensors"),
        ({"unet": packed}, "unet.gguf is a GGUF file, whose weights are quantised"),
    ):
        with pytest.raises(InputError, match=message) as error:
            extract(base, replace(base, parts=parts))
        assert error.value.input == "tuned"
    video = VideoModel("svd", "", "svd", "float32", family="Stable Video Diffusion")
    with pytest.raises(InputError, match="is moved by a motion adapter") as error:
        extract(replace(video, motion=part), video)
    assert error.value.input == "base"


def test_another_vae_does_not_count(base: ImageModel, make: Make, names: Names, tmp_path: Path) -> None:
    put_in = make(names["attention"][:1])
    other = ModelReference("vae.safetensors", "vae.safetensors", "vae", "float32")
    lora, _, _ = extract(base, replace(image_model(trained(base, tmp_path, put_in)), parts={"vae": other}))
    assert set(lora.up) == set(put_in.up)


def test_a_file_with_names_that_are_not_known_is_refused(base: ImageModel, tmp_path: Path) -> None:
    file = tmp_path / "flux.safetensors"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(InputError, match="no weights of a UNet or transformer by names that are known") as error:
        extract(base, image_model(file))
    assert error.value.input == "tuned"


def test_float64_is_computed_on_the_host_where_the_device_has_none(
    base: ImageModel, make: Make, names: Names, tmp_path: Path
) -> None:
    put_in = make(names["attention"][:1])
    tuned = image_model(trained(base, tmp_path, put_in))
    found = LoRAExtract(base=base, tuned=tuned, rank=3).run(Context(device="mps"))
    (name,) = found.up
    assert lost(dense(found)[name], dense(put_in)[name]) < 1e-5
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    apples = nearest(matrix.as_subclass(OnApple), Limit(2))
    assert torch.equal(apples.up, nearest(matrix, Limit(2)).up)


def lost(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


def test_a_lora_that_was_merged_is_found_again(base: ImageModel, make: Make, names: Names, tmp_path: Path) -> None:
    put_in = make([*names["attention"][:3], *names["convolutions"]], ranks=(3,))
    lora, told, said = extract(base, image_model(trained(base, tmp_path, put_in)), rank=3, name="found")
    assert set(lora.up) == set(put_in.up)
    for name, update in dense(put_in).items():
        assert lora.down[name].shape == put_in.down[name].shape
        assert lost(dense(lora)[name], update) < 1e-5
    assert told["lost of the norm"] < 1e-3
    assert (lora.name, told["layers"], said) == ("found", len(put_in.up), "")


def test_what_a_rank_can_not_hold_is_told(base: ImageModel, make: Make, names: Names, tmp_path: Path) -> None:
    put_in = make(names["convolutions"][:4], ranks=(6,))
    lora, told, _ = extract(base, image_model(trained(base, tmp_path, put_in)), rank=2)
    gap = torch.cat([(dense(lora)[name] - update).flatten() for name, update in dense(put_in).items()])
    whole = torch.cat([update.flatten() for update in dense(put_in).values()])
    assert told["lost of the norm"] == pytest.approx(100 * (gap.norm() / whole.norm()).item(), rel=1e-3)
    assert {len(down) for down in lora.down.values()} == {2}


def test_a_share_of_the_norm_takes_the_rank_that_it_needs(
    base: ImageModel, make: Make, names: Names, tmp_path: Path
) -> None:
    put_in = make(names["attention"], ranks=(1, 3))
    lora, _, _ = extract(base, image_model(trained(base, tmp_path, put_in)), keep=0.9999)
    assert {len(down) for down in lora.down.values()} == {1, 3}


def test_the_extracted_lora_makes_the_base_the_tuned_model(
    base: ImageModel, make: Make, names: Names, tmp_path: Path, pipeline: StableDiffusionXLPipeline
) -> None:
    put_in = make(names["convolutions"])
    lora, _, _ = extract(base, image_model(trained(base, tmp_path, put_in)), rank=3)
    name = next(iter(put_in.up))
    layer = all_layers(pipeline)[name]
    x = (
        torch.randn(2, *layer.weight.shape[1:2], 6, 6)
        if layer.weight.ndim == 4
        else torch.randn(2, layer.weight.shape[1])
    )
    with torch.no_grad():
        with applied(pipeline, [put_in]):
            wanted = layer(x)
        with applied(pipeline, [lora]):
            torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-4)


def test_temporal_layers_of_video_models_are_extracted(tmp_path: Path) -> None:
    pipeline: StableVideoDiffusionPipeline = tiny_svd()
    pipeline.unet.save_pretrained(tmp_path / "base" / "unet")
    base = video_model(tmp_path / "base")
    layer = next(name for name, of in all_layers(pipeline).items() if of.weight.ndim == 5 and name.startswith("unet."))
    key = f"{layer.removeprefix('unet.')}.weight"
    draw = torch.Generator().manual_seed(0)

    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        shape = weights[key].shape
        up, down = torch.randn(len(weights[key]), 2, generator=draw), torch.randn(2, shape[1:].numel(), generator=draw)
        return weights | {key: weights[key] + (up @ down).view(shape)}

    tuned = changed(base, tmp_path / "tuned", change)
    lora, told, _ = extract(base, video_model(tuned), rank=2)
    assert set(lora.up) == {layer}
    assert lora.up[layer].shape[2:] == (1, 1, 1)
    assert told["lost of the norm"] < 1e-3
    with applied(pipeline, [lora]):
        pass


def test_biases_norms_and_embeddings_that_differ_are_told(
    base: ImageModel, make: Make, names: Names, tmp_path: Path
) -> None:
    half = trained(base, tmp_path / "half", make(names["attention"][:1]))
    moved = ("text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.bias")

    def change(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {key: key if key in weights else key.removeprefix("text_model.") for key in moved}
        return weights | {key: weights[key] + 1 for key in found.values()}

    tuned = changed(image_model(half), tmp_path / "tuned", change, TEXT)
    _, told, said = extract(base, image_model(tuned))
    assert told["layers"] == 1
    assert said.startswith("2 biases, norms or embeddings differ too, such as text_encoder.text_model.")


KEY = "mid_block.resnets.0.conv1.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights | {KEY: weights[KEY][:7]},
            r"unet\.mid_block\.resnets\.0\.conv1 is \(32, 32, 3, 3\) in \S+base0 and \(7, 32, 3, 3\) in \S+tuned",
        ),
        (
            lambda weights: {name: tensor for name, tensor in weights.items() if name != KEY},
            r"tuned has no unet\.mid_block\.resnets\.0\.conv1, which the other",
        ),
        (lambda weights: weights | {"extra.weight": weights[KEY]}, r"base0 has no unet\.extra, which the other model"),
        (lambda weights: weights, r"no layer of \S+tuned differs from that of \S+base0"),
        (
            lambda weights: weights | {KEY: weights[KEY] / 0},
            r"unet\.mid_block.*conv1\.weight holds numbers that are not",
        ),
    ],
)
def test_models_that_do_not_go_together_are_refused_by_the_layer(
    change: Any, message: str, base: ImageModel, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        extract(base, image_model(changed(base, tmp_path / "tuned", change)))
    assert refusal.value.input == "tuned"


def test_models_of_two_families_are_refused(base: ImageModel) -> None:
    with pytest.raises(InputError, match=r"base0 is a video model, \S+base0 is an image model"):
        extract(base, video_model(Path(base.path)))


def test_models_with_loras_are_refused(base: ImageModel, make: Make, names: Names) -> None:
    adapted = LoRAApply(model=base, lora=make(names["attention"])).run(Context())
    for models, name in (((base, adapted), "tuned"), ((adapted, base), "base")):
        with pytest.raises(InputError, match="has a LoRA applied to it") as refusal:
            extract(*models)
        assert refusal.value.input == name


def test_files_that_can_not_be_read_are_missing(base: ImageModel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="empty has no weights in safetensors"):
        extract(base, image_model(tmp_path / "empty"))
    tuned = changed(base, tmp_path / "tuned", lambda weights: weights)
    (tuned / UNET).write_bytes((tuned / UNET).read_bytes()[:100])
    with pytest.raises(MissingError, match="tuned can't be read"):
        extract(base, image_model(tuned))


def test_it_can_be_stopped(base: ImageModel) -> None:
    with pytest.raises(Cancelled):
        LoRAExtract(base=base, tuned=base).run(Context(cancelled=lambda: True))


def test_variants_and_shards_of_a_component_are_told_apart(base: ImageModel, tmp_path: Path) -> None:
    weights = load_file(Path(base.path) / UNET)
    halves = [dict(list(weights.items())[i::2]) for i in range(2)]
    (tmp_path / "unet").mkdir()
    for number, half in enumerate(halves, 1):
        save_file(half, tmp_path / "unet" / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors")
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    with StoredWeights(image_model(tmp_path)) as stored:
        assert {*stored.names} == {f"unet.{name}" for name in weights}
        assert torch.equal(stored.read("unet.conv_in.weight"), weights["conv_in.weight"])


def test_a_component_that_is_there_in_one_variant_only_is_read(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    save_file({"proj.weight": torch.ones(2, 2)}, tmp_path / "transformer/diffusion_pytorch_model.fp16.safetensors")
    (tmp_path / "text_encoder").mkdir()
    save_file({"shared.weight": torch.ones(2, 2)}, tmp_path / "text_encoder/model.safetensors")
    with StoredWeights(image_model(tmp_path)) as stored:
        assert stored.names == ["transformer.proj.weight"]


def test_layers_of_a_single_checkpoint_have_the_names_of_a_pipelines(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    wide, square = torch.randn(12, 4, generator=draw), torch.randn(4, 4, generator=draw)
    start = "conditioner.embedders.1.model"
    tensors = {
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight": square,
        "model.diffusion_model.input_blocks.3.0.op.weight": square[..., None, None],
        "model.diffusion_model.label_emb.0.2.weight": square,
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": square,
        f"{start}.transformer.resblocks.3.attn.in_proj_weight": wide,
        f"{start}.transformer.resblocks.3.attn.in_proj_bias": wide[:, 0],
        f"{start}.transformer.resblocks.3.attn.out_proj.weight": square,
        f"{start}.transformer.resblocks.3.mlp.c_fc.weight": square,
        f"{start}.transformer.resblocks.3.ln_1.bias": square[0],
        f"{start}.ln_final.weight": square[0],
        f"{start}.text_projection": wide,
        f"{start}.logit_scale": square[0, 0],
        "first_stage_model.encoder.conv_in.weight": square,
    }
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    second = "text_encoder_2.text_model.encoder.layers.3"
    wanted = {
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight": square,
        "unet.down_blocks.0.downsamplers.0.conv.weight": square[..., None, None],
        "unet.add_embedding.linear_2.weight": square,
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.weight": square,
        f"{second}.self_attn.q_proj.weight": wide[:4],
        f"{second}.self_attn.k_proj.weight": wide[4:8],
        f"{second}.self_attn.v_proj.weight": wide[8:],
        f"{second}.self_attn.q_proj.bias": wide[:4, 0],
        f"{second}.self_attn.k_proj.bias": wide[4:8, 0],
        f"{second}.self_attn.v_proj.bias": wide[8:, 0],
        f"{second}.self_attn.out_proj.weight": square,
        f"{second}.mlp.fc1.weight": square,
        f"{second}.layer_norm1.bias": square[0],
        "text_encoder_2.text_model.final_layer_norm.weight": square[0],
        "text_encoder_2.text_projection.weight": wide.T,
    }
    with StoredWeights(image_model(tmp_path / "model.safetensors")) as stored:
        assert {*stored.names} == wanted.keys()
        for name, weight in wanted.items():
            assert stored.shape(name) == weight.shape
            assert torch.equal(stored.read(name), weight)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("cond_stage_model.transformer.text_model.encoder.layers.2.mlp.fc2.weight", "encoder.layers.2.mlp.fc2.weight"),
        ("cond_stage_model.model.transformer.resblocks.2.mlp.c_proj.weight", "encoder.layers.2.mlp.fc2.weight"),
        ("cond_stage_model.model.ln_final.bias", "final_layer_norm.bias"),
        ("cond_stage_model.model.text_projection", None),
    ],
)
def test_earlier_checkpoints_have_text_encoders_of_other_names(key: str, name: str | None, tmp_path: Path) -> None:
    save_file({key: torch.ones(2, 2)}, tmp_path / "model.safetensors")
    with StoredWeights(image_model(tmp_path / "model.safetensors")) as stored:
        assert stored.names == ([f"text_encoder.text_model.{name}"] if name else [])
