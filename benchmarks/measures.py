"""Figures with their confidence intervals, and distances that several benchmarks use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor


def share(hits: Iterable[bool]) -> str:
    """A share in per cent with Wilson's 95 % interval."""
    tried = list(hits)
    n, p, z = len(tried), float(np.mean(tried)), 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * p:.1f} % ({100 * (centre - spread):.1f}–{100 * (centre + spread):.1f}, n = {n})"


def share_of_groups(groups: Sequence[Sequence[bool]], of: str) -> str:
    """A share in per cent of results in groups of one size that tend to be right or wrong together, such as the videos
    of one key frame; the 95 % interval comes from how the groups differ.
    """
    each = np.mean(groups, axis=1)
    p, spread = float(each.mean()), 1.96 * float(each.std(ddof=1)) / np.sqrt(len(each))
    low, high = max(p - spread, 0.0), min(p + spread, 1.0)
    return f"{100 * p:.1f} % ({100 * low:.1f}–{100 * high:.1f}, n = {np.size(groups)} of {len(groups)} {of})"


def mean(values: Sequence[float], unit: str) -> str:
    """A mean with its 95 % interval."""
    spread = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return f"{np.mean(values):.1f} ± {spread:.1f} {unit} (n = {len(values)})"


def frechet(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of two sets of features (N, D), each modelled as a Gaussian (Heusel et al. 2017)."""
    a, b = one.double().numpy(), other.double().numpy()
    first, second = np.cov(a.T), np.cov(b.T)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real))


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """How often a score of `right` is above one of `wrong`: the area under the ROC curve."""
    a, b = np.asarray(right)[:, None], np.asarray(wrong)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def flow(frames: Tensor) -> float:
    """Mean optical flow (Farnebäck) between the frames (T, 3, H, W) in [0, 1] of a clip, in pixels per frame."""
    grey = [cv2.cvtColor(_bytes(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    return float(np.mean([np.hypot(*_farneback(a, b)).mean() for a, b in pairwise(grey)]))


def _bytes(frame: Tensor) -> NDArray[np.uint8]:
    return (frame.permute(1, 2, 0) * 255).round().byte().numpy()


def _farneback(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    settings = {"pyr_scale": 0.5, "levels": 3, "winsize": 9, "iterations": 3, "poly_n": 5, "poly_sigma": 1.1}
    found = cv2.calcOpticalFlowFarneback(first, second, None, flags=0, **settings)
    return np.moveaxis(found, -1, 0)
