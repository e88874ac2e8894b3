"""Single files, by models of random weights that are small, but in the makers' names and with CLIP's own tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from engine.errors import InputError, MissingError
from engine.node import Context
from engine.values import Image, ImageModel
from nodes.diffusion import checkpoints, published
from nodes.diffusion.published import SD1, SD2_BASE, SD2_V, XL, Published, scheduler, tokenizer
from nodes.image.nodes import ImageModelLoad, KeyframeSampler
from tests.checkpoint import save_checkpoint

KINDS = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
PROMPT = "a photo of a cat, (really) 東京!"


def small(whole: Published, side: int = 8) -> Published:
    """The same model with few channels, for latents of a side."""
    encoders, widths = {}, (16, 24)[: len(whole.text_encoders)]
    for width, (name, (kind, config)) in zip(widths, whole.text_encoders.items(), strict=True):
        size = {"hidden_size": width, "projection_dim": width, "intermediate_size": 32}
        encoders[name] = (kind, {**config, **size, "num_hidden_layers": 2, "num_attention_heads": 2})
    unet = {
        **whole.unet,
        "sample_size": side,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 2,
        "transformer_layers_per_block": 1,
        "cross_attention_dim": sum(widths),
    }
    if "addition_time_embed_dim" in unet:
        unet |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 24}
    vae = {
        **whole.vae,
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    return dataclasses.replace(whole, unet=unet, vae=vae, text_encoders=encoders)


def random_pipeline(model: Published, *, unet: Mapping[str, Any] | None = None, **options: Any) -> DiffusionPipeline:
    """The model with random weights, put together by hand."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config({**model.unet, **(unet or {})}).eval(),
            "vae": AutoencoderKL.from_config(dict(model.vae)).eval(),
            "scheduler": scheduler(model.scheduler),
        }
        for name, (kind, config) in model.text_encoders.items():
            parts[name] = getattr(transformers, kind)(transformers.CLIPTextConfig(**config)).eval()
    parts |= {name: tokenizer(padding) for name, padding in model.padding.items()}
    kind = KINDS[model.model_index["_class_name"]]
    if kind is StableDiffusionPipeline:
        options |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = kind(**parts, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, Published]:
    """The published models, small."""
    models = {name: small(getattr(published, name)) for name in ("SD1", "SD2_BASE", "XL")}
    models["SD2_V"] = small(published.SD2_V, side=12)
    for name, model in models.items():
        monkeypatch.setattr(checkpoints, name, model)
    return models


def load(file: Path, **inputs: Any) -> ImageModel:
    return ImageModelLoad(source=str(file), **inputs).run(Context())


def drawn(model: ImageModel, ctx: Context | None = None, **inputs: Any) -> torch.Tensor:
    node = KeyframeSampler(model=model, prompt=PROMPT, steps=2, guidance_scale=3.0, **inputs)
    return node.run(ctx or Context()).pixels


def expected(pipeline: DiffusionPipeline, **options: Any) -> torch.Tensor:
    return pipeline(
        PROMPT,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
        **options,
    ).images


@pytest.mark.parametrize("name", ["SD1", "SD2_V", "XL"])
def test_a_file_alone_draws_as_its_folder_does(tiny: dict[str, Published], name: str, tmp_path: Path) -> None:
    pipeline = random_pipeline(tiny[name])
    save_checkpoint(pipeline, tmp_path / "model.safetensors")
    pictures = drawn(load(tmp_path / "model.safetensors"))
    torch.testing.assert_close(pictures, expected(pipeline), atol=1e-5, rtol=0)


def test_files_of_stable_diffusion_2_that_predict_noise_are_chosen(tiny: dict[str, Published], tmp_path: Path) -> None:
    pipeline = random_pipeline(tiny["SD2_BASE"])
    save_checkpoint(pipeline, tmp_path / "chosen.safetensors")
    save_checkpoint(pipeline, tmp_path / "said.safetensors", metadata={"modelspec.prediction_type": "epsilon"})
    wanted, ctx = expected(pipeline), Context()
    assert drawn(load(tmp_path / "chosen.safetensors"), ctx).shape[-1] == 48, "taken for the larger one"
    for model in (load(tmp_path / "chosen.safetensors", prediction="epsilon"), load(tmp_path / "said.safetensors")):
        torch.testing.assert_close(drawn(model, ctx), wanted, atol=1e-5, rtol=0)


def test_markers_of_velocity_and_of_zero_signal_are_heeded(tiny: dict[str, Published], tmp_path: Path) -> None:
    pipeline = random_pipeline(tiny["XL"])
    markers = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    save_checkpoint(pipeline, tmp_path / "model.safetensors", markers=markers)
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **settings)
    pictures = drawn(load(tmp_path / "model.safetensors"))
    torch.testing.assert_close(pictures, expected(pipeline), atol=1e-5, rtol=0)


def test_standardised_latents_are_heeded(tiny: dict[str, Published], tmp_path: Path) -> None:
    mean, deviation = torch.tensor([-1.5, 2.0, -1.25, 2.5]), torch.tensor([8.5, 6.0, 6.5, 5.0])
    latents = {"latents_mean": mean.tolist(), "latents_std": deviation.tolist(), "scaling_factor": 0.5}
    whole = dataclasses.replace(tiny["XL"], vae={**tiny["XL"].vae, **latents}, scheduler=published.PLAYGROUND)
    pipeline = random_pipeline(whole)
    markers = {"edm_mean": mean, "edm_std": deviation}
    save_checkpoint(pipeline, tmp_path / "model.safetensors", markers=markers)
    pictures = drawn(load(tmp_path / "model.safetensors"))
    torch.testing.assert_close(pictures, expected(pipeline), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["SD1", "SD2_BASE"])
def test_a_file_for_inpainting_is_one(tiny: dict[str, Published], name: str, tmp_path: Path) -> None:
    pipeline = random_pipeline(tiny[name], unet={"in_channels": 9})
    save_checkpoint(pipeline, tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors")
    assert model.family == "Stable Diffusion Inpainting"
    with pytest.raises(InputError, match="can't do text to image"):
        drawn(model)
    square = Image(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    mask = Image((square.pixels.mean(1, keepdim=True) > 0.5).float().expand(1, 3, 32, 32))
    pictures = drawn(model, image=square, mask=mask)
    inpainting = StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False)
    inpainting.set_progress_bar_config(disable=True)
    wanted = expected(inpainting, image=square.pixels, mask_image=mask.pixels[:, :1], height=32, width=32)
    torch.testing.assert_close(pictures, wanted, atol=1e-5, rtol=0)


def test_another_vae_keeps_what_the_file_says_of_latents(tiny: dict[str, Published], tmp_path: Path) -> None:
    file, markers = tmp_path / "model.safetensors", {"edm_mean": torch.ones(4), "edm_std": torch.full((4,), 2.0)}
    save_checkpoint(random_pipeline(tiny["XL"]), file, markers=markers)
    beginning = "first_stage_model."
    vae = {name.removeprefix(beginning): t for name, t in load_file(file).items() if name.startswith(beginning)}
    save_file(vae, tmp_path / "vae.safetensors")
    whole = load(file)
    assert torch.equal(drawn(load(file, vae=str(tmp_path / "vae.safetensors"))), drawn(whole))


def test_a_schedule_down_to_zero_is_heeded_in_stable_diffusion_1_too(
    tiny: dict[str, Published], tmp_path: Path
) -> None:
    pipeline = random_pipeline(tiny["SD1"])
    markers = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    save_checkpoint(pipeline, tmp_path / "model.safetensors", markers=markers)
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, **settings)
    pictures = drawn(load(tmp_path / "model.safetensors"))
    torch.testing.assert_close(pictures, expected(pipeline), atol=1e-5, rtol=0)


def test_weights_in_8_bits_with_scales_are_refused(tiny: dict[str, Published], tmp_path: Path) -> None:
    scales = {"model.diffusion_model.time_embed.0.scale_weight": torch.ones(1)}
    save_checkpoint(random_pipeline(tiny["SD1"]), tmp_path / "model.safetensors", markers=scales)
    with pytest.raises(InputError, match="weights in 8 bits with scales of their own"):
        load(tmp_path / "model.safetensors")


def test_what_lies_beside_a_file_in_the_hubs_cache_doesnt_count(
    tiny: dict[str, Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies there only if other files of the repository have been fetched as well."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--name" / "snapshots" / "abc"
    (tmp_path / "models--owner--name" / "refs").mkdir(parents=True)
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("abc")
    folder.mkdir(parents=True)
    pipeline = random_pipeline(tiny["SD1"])
    save_checkpoint(pipeline, folder / "model.safetensors")
    alone = drawn(ImageModelLoad(source="hf:owner/name/model.safetensors").run(Context()))
    pipeline.scheduler = DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    pipeline.save_pretrained(folder)
    assert torch.equal(drawn(ImageModelLoad(source="hf:owner/name/model.safetensors").run(Context())), alone)


def test_a_missing_tensor_is_named(tiny: dict[str, Published], tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_checkpoint(random_pipeline(tiny["SD1"]), file)
    tensors = load_file(file)
    del tensors["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    save_file(tensors, file)
    with pytest.raises(MissingError, match=r"unet lacks mid_block\.resnets\.0\.conv1\.weight"):
        drawn(load(file))


@pytest.mark.parametrize(("part", "beginning"), [("the UNet", "model.diffusion_model."), ("the VAE", "first_stage")])
def test_a_missing_part_is_named_when_the_model_is_chosen(
    tiny: dict[str, Published], part: str, beginning: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    save_checkpoint(random_pipeline(tiny["XL"]), file)
    save_file({name: t for name, t in load_file(file).items() if not name.startswith(beginning)}, file)
    with pytest.raises(InputError, match=f"lacks {part}"):
        load(file)


def test_a_unet_of_other_inputs_is_refused(tiny: dict[str, Published], tmp_path: Path) -> None:
    save_checkpoint(random_pipeline(tiny["SD1"], unet={"in_channels": 8}), tmp_path / "edit.safetensors")
    with pytest.raises(InputError, match="UNet of 8 input channels"):
        load(tmp_path / "edit.safetensors")


@pytest.mark.parametrize(
    ("model", "unet", "encoders"),
    [
        (SD1, 859_520_964, [123_060_480]),
        (SD2_V, 865_910_724, [340_387_840]),
        (SD2_BASE, 865_910_724, [340_387_840]),
        (XL, 2_567_463_684, [123_060_480, 694_659_840]),
    ],
)
def test_published_models_have_their_sizes(model: Published, unet: int, encoders: list[int]) -> None:
    with torch.device("meta"):
        modules = [
            UNet2DConditionModel.from_config(dict(model.unet)),
            AutoencoderKL.from_config(dict(model.vae)),
            *(
                getattr(transformers, kind)(transformers.CLIPTextConfig(**c))
                for kind, c in model.text_encoders.values()
            ),
        ]
    sizes = [sum(weight.numel() for weight in module.parameters()) for module in modules]
    assert sizes == [unet, 83_653_863, *encoders]


def test_the_tokenizer_is_clips() -> None:
    ids = tokenizer("!")(["a photo of a cat", "Don't  STOP — 東京"], padding="max_length", max_length=12)["input_ids"]
    assert ids[0] == [49406, 320, 1125, 539, 320, 2368, 49407, 0, 0, 0, 0, 0]
    assert ids[1][:3] == [49406, 847, 713]
    assert len(tokenizer("<|endoftext|>")) == 49408
