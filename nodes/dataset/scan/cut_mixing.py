"""Whether one picture gives way to another by being mixed with it, judged by tiny signatures of frames.

In a dissolve from A to B, frame t is (1 − α) A + α B, with α going from 0 to 1. Two things follow. The frames between
lie on the line from A to B where the shots hold still. And their contrast sags: the variance of a mix is
(1 − α)² var A + α² var B + 2 α (1 − α) cov(A, B), which motion doesn't change, while a pan, a large object that crosses
the picture or a change of light follow another curve or none. A fade is a dissolve to or from a plain picture.

A camera that pans over soft ground may meet both by chance. But what it sees can be found again, further along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from nodes.files.footage import Picture

CELLS = 16, 9
"""Columns and rows of a signature."""
FINE = 64, 36
"""Columns and rows from which contrast is measured: coarse enough to leave out noise, fine enough for detail."""
SAMPLES = np.arange(1, 8) / 8
"""Shares of the way from A to B at which frames are compared with the mix."""
Indices: TypeAlias = NDArray[np.intp]
Numbers: TypeAlias = NDArray[np.float32]


class Signature(NamedTuple):
    """What is kept of a frame, in less than three kilobytes."""

    cells: NDArray[np.uint8]
    """(9, 16, 3): the frame, each cell the mean of the pixels it covers."""
    contrast: float
    """Variance of the frame, shrunk to `FINE`, over places, mean over channels; squared grey levels."""
    grey: NDArray[np.uint8]
    """(36, 64): the frame, shrunk to `FINE`."""


def signature(picture: Picture) -> Signature:
    """The signature of a picture (H, W, 3)."""
    fine = cv2.resize(picture, FINE, interpolation=cv2.INTER_AREA)
    deviation = cv2.meanStdDev(fine)[1]
    cells = cv2.resize(fine, CELLS, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    grey = cv2.cvtColor(fine, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
    return Signature(cells, float((deviation**2).mean()), grey)


class Mix(NamedTuple):
    """How well the frames between p and q fit a mix of the two; arrays, one number per pair."""

    change: Numbers
    """How far p and q are apart: root mean square over cells and channels, in grey levels."""
    likeness: Numbers
    """Correlation of p and q over their cells, −1 to 1: near 1 if only the light has changed."""
    sag: Numbers
    """Share of the mean contrast of p and q that is lost in between."""
    astray: Numbers
    """Mean square of the frames' distances from the mix, over `change` squared: 0 for a dissolve of still pictures."""
    uneven: Numbers
    """Mean square of the contrast's distance from its curve, over the mean contrast of p and q squared."""


class Stretch:
    """Consecutive frames, to be compared with each other. Indices count from the first."""

    def __init__(self, signatures: Sequence[Signature]) -> None:
        cells = np.stack([each.cells for each in signatures]).reshape(len(signatures), -1, 3) - np.float32(128)
        means = cells.mean(axis=1)
        cells = (cells - means[:, None]).reshape(len(cells), -1)
        self._shared = cells @ cells.T / cells.shape[1]
        """(n, n): covariance of every two frames over their cells."""
        self._products = self._shared + means @ means.T / 3
        """(n, n): mean product of every two frames, from which all differences are computed."""
        self.contrast = np.array([each.contrast for each in signatures], np.float32)
        self._greys = [each.grey for each in signatures]

    def __len__(self) -> int:
        return len(self.contrast)

    def difference(self, first: Indices | slice | int, second: Indices | slice | int) -> Numbers:
        """Root mean square of the difference of two frames, in grey levels; for slices, of each pair."""
        own = self._products.diagonal()
        squares = np.add.outer(own[first], own[second]) if isinstance(first, slice) else own[first] + own[second]
        return np.sqrt(np.maximum(squares - 2 * self._products[first, second], 1e-3))  # type: ignore[no-any-return]

    def found_again(self, p: int, q: int) -> float:
        """How well the frames from p to q match some place in later ones, about −1 to 1.

        It is the mean of two correlations: of the middle of frame p with its best match in frame q, and of the same for
        frames half as far apart.
        """
        at = np.rint(np.linspace(p, q, 5)).astype(int)
        near = np.mean([_found_in(self._greys[at[i]], self._greys[at[i + 2]]) for i in range(3)])
        return float(near + _found_in(self._greys[p], self._greys[q])) / 2

    def mix(self, p: Indices, q: Indices) -> Mix:
        """Compare the frames between p and q, at least two apart, with mixes of the two."""
        change, spread = self.difference(p, q), np.sqrt(self._shared.diagonal() + 1)
        likeness = self._shared[p, q] / (spread[p] * spread[q])
        before, after = self.contrast[p][:, None], self.contrast[q][:, None]
        common = likeness[:, None] * np.sqrt(before * after)
        p, q = p[:, None], q[:, None]
        between = np.rint(p + (q - p) * SAMPLES).astype(np.intp)
        share = ((between - p) / (q - p)).astype(np.float32)
        rest, products, own = 1 - share, self._products, self._products.diagonal()
        left = own[between] + rest**2 * own[p] + share**2 * own[q] + 2 * rest * share * products[p, q]
        left -= 2 * (rest * products[between, p] + share * products[between, q])
        curve = rest**2 * before + share**2 * after + 2 * rest * share * common
        mean = (before + after) / 2 + 1
        return Mix(
            change=change,
            likeness=likeness,
            sag=1 - self.contrast[between].min(axis=1) / mean[:, 0],
            astray=left.mean(axis=1) / change**2,
            uneven=(((self.contrast[between] - curve) / mean) ** 2).mean(axis=1),
        )


def _found_in(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """The correlation of the middle of a picture, half of each side, with its best match in another."""
    height, width = before.shape
    middle = before[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return float(np.nan_to_num(cv2.matchTemplate(after, middle, cv2.TM_CCOEFF_NORMED)).max())
