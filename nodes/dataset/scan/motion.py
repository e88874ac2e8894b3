"""How much motion a clip has, and how much of it is the camera's.

As for Stable Video Diffusion (Blattmann et al. 2023, arXiv 2311.15127, appendix C): Farnebäck's dense optical flow at
two frames a second, the flow maps reduced to 16 pixels on the shorter side, and their mean length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nodes.files.footage import Picture

FLOW_SIDE = 16
"""Shorter side of the flow maps that are kept."""
STEADY = 3
"""How often the camera's motion is fitted, each time without the outliers of the last fit."""

FlowMap = NDArray[np.float32]
"""(h, w, 2): across and down, in percent of the picture's longer side per second."""


class Motion(NamedTuple):
    """Mean lengths of flow, in percent of the picture's longer side per second."""

    total: float
    camera: float
    """Of the similarity (shift, rotation, zoom) that explains most of the flow."""
    objects: float
    """Of the remaining flow."""


def grey(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) → (H, W), as Farnebäck's method needs it."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dense flow between two grey pictures (H, W) → (H, W, 2), in pixels."""
    start = np.zeros((*before.shape, 2), np.float32)
    return np.asarray(cv2.calcOpticalFlowFarneback(before, after, start, 0.5, 3, 15, 3, 5, 1.2, 0), np.float32)


def flow_map(before: NDArray[np.uint8], after: NDArray[np.uint8], seconds: float) -> FlowMap:
    """The flow between two grey pictures that lie `seconds` apart, reduced and independent of size and interval."""
    found = flow(before, after)
    height, width = before.shape
    factor = FLOW_SIDE / min(height, width)
    if factor < 1:
        size = max(FLOW_SIDE, round(width * factor)), max(FLOW_SIDE, round(height * factor))
        found = np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA), np.float32)
    return found * np.float32(100 / max(height, width) / max(seconds, 1e-3))


def motion(maps: Sequence[FlowMap]) -> Motion:
    """The motion of a clip's flow maps; 0 for a clip too short to have any."""
    if not maps:
        return Motion(0.0, 0.0, 0.0)
    fields = np.stack(maps)
    cameras = np.stack([_camera(field) for field in maps])
    return Motion(_mean_length(fields), _mean_length(cameras), _mean_length(fields - cameras))


def _camera(field: FlowMap) -> FlowMap:
    """The flow of the similarity that fits a flow map best, by least squares without outliers."""
    height, width, _ = field.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x - x.mean()).ravel(), (y - y.mean()).ravel()
    one, none = np.ones_like(x), np.zeros_like(x)
    across, down = np.stack([one, none, x, -y], 1), np.stack([none, one, y, x], 1)
    u, v = field[..., 0].ravel(), field[..., 1].ravel()
    inside = np.ones(len(x), bool)
    for _ in range(STEADY):
        rows, values = np.concatenate([across[inside], down[inside]]), np.concatenate([u[inside], v[inside]])
        fit = np.linalg.lstsq(rows, values, rcond=None)[0]
        error = np.hypot(across @ fit - u, down @ fit - v)
        inside = error <= max(2.5 * float(np.median(error)), 1e-3)
    return np.stack([across @ fit, down @ fit], 1).reshape(height, width, 2).astype(np.float32)


def _mean_length(fields: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(fields.astype(np.float64), axis=-1).mean())
