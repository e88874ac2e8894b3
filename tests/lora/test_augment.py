from __future__ import annotations

import torch

from nodes.lora.augment import with_views
from nodes.lora.training import Example


def dot(x: int, y: int) -> Example:
    pixels = torch.zeros(3, 32, 32)
    pixels[:, y - 2 : y + 2, x - 2 : x + 2] = 1
    return Example(pixels, f"a dot at {x}, {y}")


def centre(pixels: torch.Tensor) -> tuple[float, float]:
    light = pixels[0] / pixels[0].sum()
    places = torch.arange(32) + 0.5
    return float((light.sum(0) * places).sum()), float((light.sum(1) * places).sum())


def test_the_examples_come_first_as_they_were_and_each_view_keeps_its_caption() -> None:
    examples = [dot(16, 16), dot(10, 20)]
    views = with_views(examples, 3)
    assert views[:2] == examples
    assert [view.caption for view in views[2:]] == [examples[0].caption] * 3 + [examples[1].caption] * 3
    assert all(view.pixels.shape == (3, 32, 32) for view in views)


def test_views_are_moved_no_further_than_allowed_and_in_every_direction() -> None:
    moved = [centre(view.pixels) for view in with_views([dot(16, 16)], 200, shift=0.1, scale=0.0)[1:]]
    for along in zip(*moved, strict=True):
        assert 12.7 < min(along) < 13.5
        assert 18.5 < max(along) < 19.3


def test_views_are_larger_and_smaller_by_as_much_as_allowed() -> None:
    areas = [float(view.pixels[0].sum()) / 16 for view in with_views([dot(16, 16)], 200, shift=0.0, scale=0.25)[1:]]
    assert 0.5 < min(areas) < 0.65
    assert 1.45 < max(areas) < 1.65


def test_what_comes_in_over_the_edge_is_the_picture_mirrored() -> None:
    grey = Example(torch.full((3, 16, 24), 0.4), "grey")
    for view in with_views([grey], 20, shift=0.4, scale=0.2):
        assert torch.allclose(view.pixels, grey.pixels, atol=1e-6)


def test_equal_seeds_give_equal_views() -> None:
    first, second, other = (with_views([dot(9, 9)], 4, seed=seed)[-1].pixels for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
