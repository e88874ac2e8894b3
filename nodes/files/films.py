"""Reading video files as frames at a constant rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.errors import InputError
from engine.values import Video
from nodes.files.footage import Footage, Frame
from nodes.scaling import fitted

if TYPE_CHECKING:
    from engine.node import Context

MAX_PIXELS = 2**29
"""Most pixels of all frames together: 6.4 GB of memory."""
MIN_PIXELS = 64 * 64
"""The pixels that a smaller frame counts as."""


class Selection(NamedTuple):
    """Which frames of a video to read, and at what size."""

    start: float = 0.0
    """Seconds to leave out at the beginning."""
    frames: int = 0
    """How many frames at most; 0 is all."""
    fps: float = 0.0
    """Frames per second; 0 is the file's own, on average."""
    width: int = 0
    height: int = 0
    """Pixels; 0 is the file's own size, or in proportion to the other side."""


def read(ctx: Context, path: Path, selection: Selection) -> Video:
    """A video, or a part of it, without its sound.

    Raises:
        InputError: it can't be opened or decoded, has no frames from the start time on, or is too large for memory.
    """
    footage = Footage(path, ctx.cores)
    fps = selection.fps or footage.fps
    expected = selection.frames or max(1, round((footage.duration - selection.start) * fps))
    pictures: list[NDArray[np.uint8]] = []
    for picture in islice(resampled(footage.frames(layout="rgb24"), fps, selection.start), selection.frames or None):
        pictures.append(_sized(picture, selection))
        height, width = pictures[0].shape[:2]
        limit = MAX_PIXELS // max(height * width, MIN_PIXELS)
        if len(pictures) > limit:
            raise InputError(
                f"the video is too large: {len(pictures):,} frames of {width} × {height} would be kept in memory",
                input="file",
                hint=f"give a smaller width, or {limit:,} frames at most",
            )
        ctx.progress(len(pictures), max(expected, len(pictures)), unit="frame")
    if not pictures:
        raise InputError(
            f"there are no frames from {selection.start:g} s on{f': {footage.damage}' if footage.damage else ''}",
            input="start" if selection.start else "file",
            hint=f"the video lasts {footage.duration:.1f} s" if selection.start else "the file may be damaged",
        )
    return Video(_to_float(pictures), fps)


def resampled(frames: Iterable[Frame], fps: float, start: float = 0.0) -> Iterator[NDArray[np.uint8]]:
    """A picture for every 1/fps seconds from `start` on; as in FFmpeg's `fps`, frames begin at the nearest."""
    shown, slot, begins = None, 0, -1
    for frame in frames:
        begins = floor((frame.time - start) * fps + 0.5)
        while shown is not None and slot < begins:
            yield shown
            slot += 1
        shown = frame.picture
    if shown is not None and begins >= 0:
        yield shown


def _sized(picture: NDArray[np.uint8], selection: Selection) -> NDArray[np.uint8]:
    """(H, W, 3) in the size asked for."""
    width, height = fitted(picture.shape[1], picture.shape[0], selection.width, selection.height)
    if (height, width) == picture.shape[:2]:
        return picture
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _to_float(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
    """Pictures (H, W, 3) as (T, 3, H, W) in [0, 1]; the list is emptied meanwhile, to save memory."""
    height, width = pictures[0].shape[:2]
    frames = torch.empty(len(pictures), 3, height, width)
    for index in reversed(range(len(pictures))):
        frames[index] = torch.from_numpy(pictures.pop()).movedim(-1, 0)
    return frames.div_(255)
