"""Resized pictures, compared with Pillow's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch import Tensor

from engine.errors import InputError
from engine.node import Context
from engine.values import Image
from nodes.image.nodes import EmptyImage, ImageGrid, ImageScale

SOFT = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0)), 5, 1)
"""(2, 3, 46, 66)."""


def scale(pixels: Tensor, **inputs: Any) -> Tensor:
    scaled = ImageScale(image=Image(pixels), **inputs).run(Context()).pixels
    assert scaled.is_contiguous()
    assert 0 <= scaled.min() <= scaled.max() <= 1
    return scaled


def by_pillow(pixels: Tensor, size: tuple[int, int], how: Pictures.Resampling) -> np.ndarray:
    planes = [[Pictures.fromarray(plane.numpy()).resize(size, how) for plane in picture] for picture in pixels]
    return np.stack([np.stack([np.asarray(plane) for plane in picture]) for picture in planes])


@pytest.mark.parametrize("size", [(33, 23), (20, 40), (132, 92), (100, 30)])
@pytest.mark.parametrize(
    ("method", "how", "close"),
    [
        ("nearest-exact", Pictures.Resampling.NEAREST, 0),
        ("bilinear", Pictures.Resampling.BILINEAR, 1e-5),
        ("bicubic", Pictures.Resampling.BICUBIC, 1e-5),
        ("lanczos", Pictures.Resampling.LANCZOS, 1e-6),
    ],
)
def test_methods_are_those_of_pillow(
    method: str, how: Pictures.Resampling, close: float, size: tuple[int, int]
) -> None:
    ours = scale(SOFT, upscale_method=method, width=size[0], height=size[1])
    np.testing.assert_allclose(ours, by_pillow(SOFT, size, how).clip(0, 1), atol=close)


def test_area_takes_the_mean() -> None:
    ours = scale(SOFT, upscale_method="area", width=33, height=23)
    assert torch.allclose(ours, SOFT.reshape(2, 3, 23, 2, 33, 2).mean((3, 5)), atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "given"),
    [((0, 0), (66, 46)), ((33, 0), (33, 23)), ((0, 92), (132, 92)), ((1, 0), (1, 1)), ((7, 9), (7, 9))],
)
def test_a_side_of_0_is_in_proportion(asked: tuple[int, int], given: tuple[int, int]) -> None:
    assert scale(SOFT, width=asked[0], height=asked[1]).shape == (2, 3, given[1], given[0])


def test_pictures_are_cropped_evenly_on_both_sides() -> None:
    wide = torch.zeros(1, 3, 10, 30)
    wide[..., 10:20] = 1
    assert torch.equal(scale(wide, width=10, height=10, crop="center"), torch.ones(1, 3, 10, 10))
    assert torch.equal(scale(wide.mT.contiguous(), width=5, height=5, crop="center"), torch.ones(1, 3, 5, 5))
    assert scale(wide, width=10, height=10).mean() < 0.5, "else it is stretched"


def test_pictures_of_one_colour() -> None:
    pixels = EmptyImage(width=3, height=2, batch_size=4, color=0xFF8000).run(Context()).pixels
    assert (pixels.shape, pixels.is_contiguous()) == ((4, 3, 2, 3), True)
    assert (pixels[3, :, 1, 2] * 255).tolist() == [255, 128, 0]
    assert EmptyImage().run(Context()).pixels.shape == (1, 3, 512, 512)


def test_more_than_fits_into_memory_is_refused() -> None:
    with pytest.raises(InputError, match="more than 268,435,456"):
        EmptyImage(width=16384, height=16384, batch_size=4096).run(Context())


def test_a_grid_has_pictures_in_rows_on_white() -> None:
    batch = Image(torch.stack([torch.full((3, 2, 3), level / 10) for level in range(5)]))
    pixels = ImageGrid(images=(batch,), columns=3, gap=1).run(Context()).pixels
    assert pixels.shape == (1, 3, 2 * 2 + 1, 3 * 3 + 2)
    assert torch.equal(pixels[0, :, 3:, 4:7], batch.pixels[4])
    assert torch.equal(pixels[0, :, :2, 8:], batch.pixels[2])
    assert (pixels[0, :, 2] == 1).all()
    assert (pixels[0, :, 3:, 8:] == 1).all()


@pytest.mark.parametrize(("count", "shape"), [(1, (2, 2)), (2, (2, 4)), (4, (4, 4)), (5, (4, 6))])
def test_a_grid_is_about_square(count: int, shape: tuple[int, int]) -> None:
    images = tuple(Image(torch.zeros(1, 3, 2, 2)) for _ in range(count))
    assert ImageGrid(images=images, gap=0).run(Context()).pixels.shape[2:] == shape


def test_a_grid_of_many_large_pictures_is_refused() -> None:
    large = Image(torch.zeros(1, 3, 1, 1).expand(1, 3, 8192, 8192))
    with pytest.raises(InputError, match="the grid has 268,566,544 pixels, more than 67,108,864"):
        ImageGrid(images=(large,) * 4).run(Context())


def test_a_grid_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="there is no picture to show"):
        ImageGrid(images=()).run(Context())
