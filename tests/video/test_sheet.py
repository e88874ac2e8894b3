"""A contact sheet shows every frame, in order."""

from __future__ import annotations

import pytest
import torch

from engine.node import Context
from engine.values import Video
from nodes.video.nodes import ContactSheet


def sheet(count: int, columns: int, gap: int) -> torch.Tensor:
    frames = torch.stack([torch.full((3, 4, 6), i / 100) for i in range(count)])
    return ContactSheet(video=Video(frames, 7), columns=columns, gap=gap).run(Context()).pixels


def test_frames_stand_in_rows_with_white_between_them() -> None:
    pixels = sheet(count=5, columns=3, gap=2)
    assert pixels.shape == (1, 3, 2 * 4 + 2, 3 * 6 + 2 * 2)
    for index in range(5):
        top, left = (index // 3) * 6, (index % 3) * 8
        assert torch.equal(pixels[0, :, top : top + 4, left : left + 6], torch.full((3, 4, 6), index / 100))
    assert (pixels[..., 4:6, :] == 1).all()
    assert (pixels[..., 6:, 16:] == 1).all()


@pytest.mark.parametrize(("count", "columns", "width"), [(2, 7, 12), (7, 7, 42), (1, 1, 6)])
def test_the_sheet_is_no_wider_than_it_needs_to_be(count: int, columns: int, width: int) -> None:
    assert sheet(count, columns, gap=0).shape == (1, 3, 4, width)
