"""How sides are cut into tiles, and that what is made in tiles is what is made of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.node import Context
from engine.values import Image, UpscaleModel
from nodes.image.nodes import ImageUpscale, UpscaleModelLoad
from nodes.upscaling.tiles import padded, side, weights
from tests.upscaling.files import compact, esrgan, saved, watched

PICTURE = torch.rand(1, 3, 50, 90, generator=torch.Generator().manual_seed(2))


def load(state: dict[str, Tensor], folder: Path) -> UpscaleModel:
    return UpscaleModelLoad(source=str(saved(state, folder / "model.safetensors"))).run(Context())


def enlarge(model: UpscaleModel, pixels: Tensor = PICTURE, **inputs: Any) -> Tensor:
    return ImageUpscale(model=model, image=Image(pixels), **inputs).run(Context()).pixels


@settings(deadline=None, max_examples=50)
@given(
    units=st.integers(1, 300),
    tile=st.integers(1, 300),
    overlap=st.integers(0, 100),
    unit=st.sampled_from([1, 2, 8]),
    scale=st.sampled_from([1, 2, 4]),
)
def test_tiles_cover_a_side_and_count_for_one_everywhere(
    units: int, tile: int, overlap: int, unit: int, scale: int
) -> None:
    length = units * unit
    cut = side(length, tile, overlap, unit)
    total = torch.zeros(length * scale)
    for index, span in enumerate(cut.spans):
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.start % unit == span.stop % unit == 0
        assert span.start == 0 or span.first - span.start >= overlap - cut.blend
        assert span.stop == length or span.stop - span.last >= overlap - cut.blend
        assert span.stop - span.start <= tile + 2 * overlap + 3 * unit
        total[span.first * scale : span.last * scale] += weights(cut, index, scale)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_a_side_is_cut_into_as_few_tiles_as_there_need_be() -> None:
    assert side(64, 64, 16).spans == ((0, 64, 0, 64),)
    assert [(span.start, span.stop) for span in side(65, 64, 16).spans] == [(0, 48), (16, 65)]
    assert [(span.start, span.stop) for span in side(72, 60, 16, unit=8).spans] == [(0, 48), (16, 72)]


@pytest.mark.parametrize("tile", [24, 48])
@pytest.mark.parametrize(
    "state",
    [esrgan(blocks=1), esrgan(blocks=1, seen=12), compact(convolutions=8)],
    ids=["esrgan", "squares of pixels", "compact"],
)
def test_tiles_of_a_network_that_looks_no_further_than_the_overlap_make_the_whole(
    state: dict[str, Tensor], tile: int, tmp_path: Path
) -> None:
    model = load(state, tmp_path)
    found = enlarge(model, tile=tile, overlap=64)
    torch.testing.assert_close(found, enlarge(model, tile=256), atol=1e-5, rtol=0)


def test_with_less_overlap_tiles_differ_by_little_and_their_edges_do_not_show(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    """The network looks 34 pixels far."""
    model = load(state, tmp_path)
    whole = enlarge(model, tile=256)
    error = {overlap: enlarge(model, tile=48, overlap=overlap) - whole for overlap in (0, 16)}
    assert error[0].abs().max() > 0.01, "else there is nothing to see"
    assert error[16].abs().max() < 0.001
    assert error[16].diff(dim=3).abs().max() < 0.0005


@pytest.mark.parametrize(("overlap", "given"), [(40, 43 + 5), (2, 43 + 2), (0, 43 + 0)])
def test_no_more_is_computed_around_a_tile_than_has_an_influence(
    overlap: int, given: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network looks 4 pixels far: 5 around a tile are enough, of which none is blended."""
    model, seen = load(compact(), tmp_path), watched(monkeypatch, "CompactNet")
    enlarge(model, PICTURE[:, :, :43, :86], tile=48, overlap=overlap)
    assert seen == [(1, 3, 43, given)] * 2


def test_pictures_are_continued_by_mirror_images_as_often_as_need_be() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).expand(1, 3, 1, 3)
    assert padded(row, 1, 8)[0, 0].tolist() == [[1, 2, 3, 3, 2, 1, 1, 2]]
    assert padded(row.mT, 4, 1)[0, 0].flatten().tolist() == [1, 2, 3, 3]
    assert padded(row, 1, 3) is row
