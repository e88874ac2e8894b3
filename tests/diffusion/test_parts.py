"""Components in files of their own."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers import DiffusionPipeline, FluxTransformer2DModel, GGUFQuantizationConfig
from safetensors.torch import load_file, save_file

from engine.errors import InputError, MissingError
from engine.node import Context
from engine.values import ImageModel, LoRA
from nodes.diffusion.pipelines import pipeline_for
from nodes.image.nodes import ImageModelLoad, KeyframeSampler
from nodes.lora.nodes import LoRAApply
from tests.checkpoint import save_checkpoint
from tests.diffusion.tiny_flows import flux
from tests.tiny import tiny_sdxl

PROMPT = "a red snail"


def load(source: Path, **inputs: Any) -> ImageModel:
    return ImageModelLoad(source=str(source), **{name: str(value) for name, value in inputs.items()}).run(Context())


def drawn(model: ImageModel) -> torch.Tensor:
    settings = {"steps": 2, "guidance_scale": 2.0, "width": 64, "height": 64}
    return KeyframeSampler(model=model, prompt=PROMPT, **settings).run(Context()).pixels


def expected(pipeline: DiffusionPipeline) -> torch.Tensor:
    settings = {"num_inference_steps": 2, "guidance_scale": 2.0, "width": 64, "height": 64}
    return pipeline(PROMPT, generator=torch.Generator().manual_seed(0), output_type="pt", **settings).images


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flux without its transformer's weights, of which the settings are there."""
    folder = tmp_path_factory.mktemp("flux")
    flux().save_pretrained(folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return folder


def save_gguf(weights: dict[str, torch.Tensor], file: Path) -> None:
    """What can be quantised in 8 bits, the rest in float32."""
    writer = gguf.GGUFWriter(file, "flux")
    for name, weight in weights.items():
        if weight.ndim == 2 and weight.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(weight.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_diffusers_reads(file: Path, rest: Path) -> DiffusionPipeline:
    """Flux with a quantised transformer."""
    config = GGUFQuantizationConfig(compute_dtype=torch.float32)
    options = {"config": str(rest), "subfolder": "transformer", "dtype": torch.float32, "quantization_config": config}
    transformer = FluxTransformer2DModel.from_single_file(str(file), **options)
    plain = type(flux())(**{**flux().components, "transformer": transformer})
    plain.set_progress_bar_config(disable=True)
    return plain


def test_a_transformer_alone_takes_the_rest_from_a_folder(rest: Path, tmp_path: Path) -> None:
    save_file(flux().transformer.state_dict(), tmp_path / "flux.safetensors")
    model = load(tmp_path / "flux.safetensors", rest=rest)
    assert model.family == "Flux 1"
    torch.testing.assert_close(drawn(model), expected(flux()), atol=1e-5, rtol=0)


def test_a_quantised_transformer_draws_as_diffusers_reads_it(rest: Path, tmp_path: Path) -> None:
    file = tmp_path / "flux-Q8_0.gguf"
    save_gguf(flux().transformer.state_dict(), file)
    pictures = drawn(load(file, rest=rest))
    torch.testing.assert_close(pictures, expected(as_diffusers_reads(file, rest)), atol=1e-5, rtol=0)
    assert not torch.equal(pictures, expected(flux()))


def test_a_lora_changes_a_quantised_layer_as_it_does_the_layer(rest: Path, tmp_path: Path) -> None:
    save_gguf(flux().transformer.state_dict(), tmp_path / "flux.gguf")
    model, ctx, noise = load(tmp_path / "flux.gguf", rest=rest), Context(), torch.Generator().manual_seed(0)
    name = "transformer_blocks.0.ff.net.2"
    layer = pipeline_for(ctx, model, "text to image").transformer.get_submodule(name)
    assert not layer.weight.is_floating_point()
    lora = LoRA(
        up={f"transformer.{name}": 0.02 * torch.randn(layer.out_features, 2, generator=noise)},
        down={f"transformer.{name}": torch.randn(2, layer.in_features, generator=noise)},
        name="random",
    )
    changed = drawn(LoRAApply(model=model, lora=lora).run(ctx))
    assert (changed - drawn(model)).abs().max() > 1e-3

    plain, (up,), (down,) = as_diffusers_reads(tmp_path / "flux.gguf", rest), lora.up.values(), lora.down.values()
    layer = plain.transformer.get_submodule(name)
    layer.register_forward_hook(lambda _, inputs, output: output + inputs[0] @ (up @ down).T)
    torch.testing.assert_close(changed, expected(plain), atol=1e-5, rtol=0)


def test_another_vae_takes_the_place_of_the_models_own(tmp_path: Path) -> None:
    pipeline = deepcopy(tiny_sdxl())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        pipeline.vae = type(pipeline.vae).from_config(pipeline.vae.config).eval()
    pipeline.vae.save_pretrained(tmp_path / "vae")
    save_checkpoint(pipeline, tmp_path / "whole.safetensors")
    prefix = "first_stage_model."
    whole = load_file(tmp_path / "whole.safetensors")
    vae = {name.removeprefix(prefix): t for name, t in whole.items() if name.startswith(prefix)}
    save_file(vae, tmp_path / "vae.safetensors")
    tiny_sdxl().save_pretrained(tmp_path / "model")
    for file in ("vae", "vae.safetensors"):
        pictures = drawn(load(tmp_path / "model", vae=tmp_path / file))
        torch.testing.assert_close(pictures, expected(pipeline), atol=1e-5, rtol=0)


def test_a_file_that_lacks_weights_is_named(rest: Path, tmp_path: Path) -> None:
    weights = flux().transformer.state_dict()
    del weights["x_embedder.weight"]
    save_file(weights, tmp_path / "flux.safetensors")
    with pytest.raises(MissingError, match=r"flux\.safetensors can't be loaded: .*transformer"):
        drawn(load(tmp_path / "flux.safetensors", rest=rest))


def test_a_file_of_another_family_is_refused(rest: Path, tmp_path: Path) -> None:
    save_file(tiny_sdxl().unet.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(MissingError, match=r"other\.safetensors can't be loaded") as caught:
        drawn(load(tmp_path / "other.safetensors", rest=rest))
    assert "same family" in str(caught.value)


def test_a_rest_without_the_transformers_settings_is_refused(rest: Path, tmp_path: Path) -> None:
    save_file(flux().transformer.state_dict(), tmp_path / "flux.safetensors")
    bare = shutil.copytree(rest, tmp_path / "bare", ignore=shutil.ignore_patterns("transformer"))
    with pytest.raises(MissingError, match=r"lacks transformer/config\.json"):
        load(tmp_path / "flux.safetensors", rest=bare)


def test_a_transformer_in_8_bits_with_scales_is_refused(rest: Path, tmp_path: Path) -> None:
    weights = {**flux().transformer.state_dict(), "scaled_fp8": torch.zeros(2)}
    save_file(weights, tmp_path / "flux.safetensors")
    with pytest.raises(InputError, match="weights in 8 bits with scales of their own"):
        load(tmp_path / "flux.safetensors", rest=rest)


def test_a_gguf_file_alone_is_told_what_it_lacks(tmp_path: Path) -> None:
    save_gguf({"x": torch.zeros(2, 32)}, tmp_path / "flux.gguf")
    with pytest.raises(InputError, match="holds no whole model") as caught:
        load(tmp_path / "flux.gguf")
    assert "rest" in str(caught.value)


def test_a_rest_that_is_a_file_and_a_part_that_is_a_pickle_are_refused(rest: Path, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "some.safetensors")
    with pytest.raises(InputError, match="is a file"):
        load(tmp_path / "some.safetensors", rest=tmp_path / "some.safetensors")
    (tmp_path / "vae.pt").write_bytes(b"")
    with pytest.raises(InputError, match="neither in safetensors nor GGUF") as caught:
        load(rest, vae=tmp_path / "vae.pt")
    assert caught.value.input == "vae"
