"""Swin2SR, compared with transformers' own model and processor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Swin2SRForImageSuperResolution
from transformers.models.swin2sr.image_processing_pil_swin2sr import Swin2SRImageProcessorPil

from engine.errors import InputError, MissingError
from engine.node import Context
from engine.values import Image, UpscaleModel
from nodes.image.nodes import ImageUpscale, UpscaleModelLoad
from tests.upscaling.swin2sr import tiny_swin2sr

Make = Callable[..., Path]
PICTURE = torch.rand(1, 3, 21, 40, generator=torch.Generator().manual_seed(4)).mul(255).round() / 255


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Saves a tiny Swin2SR of random weights."""

    def saved(**settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("swin2sr")
        tiny_swin2sr(**settings).save_pretrained(folder)
        return folder

    return saved


@pytest.fixture(scope="module")
def classical(make: Make) -> Path:
    return make(upscale=2)


def load(folder: Path, **inputs: Any) -> UpscaleModel:
    return UpscaleModelLoad(source=str(folder), **inputs).run(Context())


def enlarge(model: UpscaleModel, picture: Tensor = PICTURE, **inputs: Any) -> Tensor:
    return ImageUpscale(model=model, image=Image(picture), **inputs).run(Context()).pixels


def by_transformers(folder: Path, picture: Tensor = PICTURE) -> Tensor:
    model = Swin2SRForImageSuperResolution.from_pretrained(folder)
    levels = (picture[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    with torch.no_grad():
        made = model(**Swin2SRImageProcessorPil()(levels, return_tensors="pt")).reconstruction
    scale = model.config.upscale
    return made[:, :, : picture.shape[2] * scale, : picture.shape[3] * scale].clamp(0, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"upscale": 2},
        {"upscale": 3},
        {"upscale": 4},
        {"upscale": 8},
        {"upscale": 2, "upsampler": "pixelshuffledirect", "resi_connection": "3conv", "embed_dim": 16},
        {"upscale": 4, "upsampler": "nearest+conv"},
        {"upscale": 4, "upsampler": "pixelshuffle_aux"},
        {"upscale": 1, "upsampler": ""},
    ],
    ids=["classical 2", "classical 3", "classical 4", "classical 8", "lightweight", "real", "compressed", "denoising"],
)
def test_each_variant_makes_what_transformers_makes_of_it(make: Make, settings: dict[str, Any]) -> None:
    folder = make(**settings)
    model = load(folder)
    assert model.scale == settings["upscale"]
    torch.testing.assert_close(enlarge(model), by_transformers(folder), atol=1e-5, rtol=0)


def test_a_side_that_is_a_multiple_of_the_window_is_padded_as_by_transformers(classical: Path) -> None:
    picture = PICTURE[:, :, :16]
    torch.testing.assert_close(
        enlarge(load(classical), picture), by_transformers(classical, picture), atol=1e-5, rtol=0
    )


def test_old_weights_are_read_as_data_and_converted_once(
    classical: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(classical / "config.json", tmp_path)
    torch.save(load_file(classical / "model.safetensors"), tmp_path / "pytorch_model.bin")
    expected = by_transformers(classical)
    model = load(tmp_path)
    assert len(list(home.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(torch, "load", None)
    torch.testing.assert_close(enlarge(model), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_close(dtype: Any, classical: Path) -> None:
    assert (enlarge(load(classical, dtype=dtype)) - by_transformers(classical)).abs().mean() < 0.02


def test_tiles_begin_where_windows_do_and_differ_by_little(classical: Path) -> None:
    picture = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 93, 133), 6, 1)
    model = load(classical)
    whole = enlarge(model, picture, tile=512)
    tiles = enlarge(model, picture, tile=48, overlap=24)
    assert (tiles - whole).abs().max() < 1e-4


def test_loading_draws_no_random_numbers_and_writes_nothing(classical: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    enlarge(load(classical), PICTURE[:, :, :8, :8])
    assert torch.equal(torch.rand(1), expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "clip"}, "holds a clip, not Swin2SR"),
        ({"model_type": None}, "holds a model of an unknown kind"),
        ({"num_channels": 1}, "reads 1 channels"),
        ({"num_channels_out": 1}, "makes 1"),
        ({"upscale": "2"}, "'upscale' must be a whole number"),
        ({"upscale": 0}, "'upscale' must be a whole number"),
    ],
)
def test_other_folders_are_refused(config: dict[str, Any], said: str, classical: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(classical, tmp_path / "copy")
    own = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(own | config))
    with pytest.raises(InputError, match=said) as caught:
        load(copy)
    assert caught.value.input == "source"


def test_missing_and_damaged_weights_are_named(classical: Path, tmp_path: Path) -> None:
    shutil.copy(classical / "config.json", tmp_path)
    with pytest.raises(MissingError, match="has no weights"):
        load(tmp_path)
    state = load_file(classical / "model.safetensors")
    del state["swin2sr.conv_after_body.weight"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingError, match=r"lacks swin2sr\.conv_after_body\.weight"):
        enlarge(load(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(np.zeros(100).tobytes())
    with pytest.raises(MissingError, match="can't be read"):
        load(tmp_path)
