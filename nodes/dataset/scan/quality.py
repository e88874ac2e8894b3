"""How sharp and how well exposed pictures are."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from nodes.files.footage import Picture

DARK, BRIGHT = 10, 245
"""Grey levels below and above which no detail can be seen."""


class Quality(NamedTuple):
    """The quality of one picture, or the mean of several."""

    sharpness: float
    """Standard deviation of the Laplacian over that of the picture, about 0 (blurred) to 3: independent of contrast and
    brightness."""
    brightness: float
    """Mean grey, 0 to 1."""
    clipped: float
    """Share of pixels that are all but black or white, 0 to 1."""


def quality(picture: Picture) -> Quality:
    """The quality of a picture (H, W, 3) at the size at which pictures are compared: `Frame.small`."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    contrast = float(grey.std())
    edges = float(cv2.Laplacian(grey, cv2.CV_32F).std())
    clipped = float(np.mean((grey <= DARK) | (grey >= BRIGHT)))
    return Quality(edges / contrast if contrast > 1 else 0.0, float(grey.mean()) / 255, clipped)


def mean(qualities: list[Quality]) -> Quality:
    """The mean of one or more."""
    return Quality(*(float(np.mean(column)) for column in zip(*qualities, strict=True)))
