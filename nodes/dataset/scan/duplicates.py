"""Clips that show the same thing: encoded again, of another size, trimmed at the edges, a little brighter.

A clip's fingerprint holds three of its moments, each as thumbnails of the complete picture and of the picture with its
edges trimmed: whichever of two clips was cropped, one of its thumbnails looks like one of the other's. Thumbnails are
compared by the correlation of their gradients, which light and contrast hardly change, and colours coarsely. The least
similar of the three moments decides, as clips from one scene often share the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nodes.files.footage import Picture

MOMENTS = 3
MARGINS = (0.0, 0.025, 0.05)
"""What a thumbnail leaves out at each edge of the picture, as a share of that side."""
PAIRED = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0))
"""Which margins of two clips are compared: of one that was cropped, or the other, or neither."""
GRID = 12
"""Cells on each side of a thumbnail, whatever the picture's shape."""
COLOURS = 4
"""Cells on each side of the two colour differences."""
LIGHT = (MOMENTS, len(MARGINS), GRID, GRID)
COLOUR = (MOMENTS, 2, COLOURS, COLOURS)
SIZE = int(np.prod(LIGHT) + np.prod(COLOUR))
"""Bytes of a fingerprint."""
CONTRAST = 32
"""Levels of a byte per standard deviation of a thumbnail's light."""
PLAIN = 2.0
"""Standard deviation, in grey levels, below which a thumbnail is too plain to be compared."""

SIMILAR = 0.92
"""The least correlation of gradients at which two moments are the same."""
TINTED = 8.0
"""The largest mean difference of colour, in levels, at which two moments are the same."""
COARSE = GRID // 2
"""Cells on each side of the middle moment by which pairs are searched for."""
NEAR = 0.85
"""The least correlation of coarse gradients for a pair to be compared in full: lower than for any duplicate."""
ROWS, COLUMNS, PAIRS = 512, 4096, 4096
"""How many clips, others and pairs are worked on at a time."""

Fingerprints = NDArray[np.uint8]
"""(clips, SIZE)."""


def fingerprint(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """The fingerprint (SIZE,) of a clip, from the first, middle and last of its evenly sampled pictures.

    The pictures may have any size and number; clips are best compared when sampled alike. One picture stands for a clip
    that doesn't move. Raises ValueError if there is none.
    """
    if not pictures:
        raise ValueError("a fingerprint needs a picture")
    chosen = [pictures[round(index * (len(pictures) - 1) / (MOMENTS - 1))] for index in range(MOMENTS)]
    parts = [_light(picture, margin) for picture in chosen for margin in MARGINS]
    return np.concatenate(parts + [_colour(picture) for picture in chosen])


def _light(picture: Picture, margin: float) -> NDArray[np.uint8]:
    """The picture's light within the margins, on a grid: 128 for the mean, `CONTRAST` more for a deviation."""
    height, width = picture.shape[:2]
    top, left = round(height * margin), round(width * margin)
    inner = picture[top : height - top, left : width - left]
    grid = cv2.resize(
        cv2.cvtColor(inner, cv2.COLOR_BGR2GRAY).astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA
    )
    return _bytes(128 + CONTRAST * (grid - grid.mean()) / max(float(grid.std()), PLAIN))


def _colour(picture: Picture) -> NDArray[np.uint8]:
    """The picture's red and blue differences on a small grid, 128 for grey."""
    small = cv2.resize(picture, (COLOURS, COLOURS), interpolation=cv2.INTER_AREA)
    return _bytes(cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb)[..., 1:].transpose(2, 0, 1))


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8).ravel()
    return rounded


def groups(fingerprints: Fingerprints, similar: float = SIMILAR) -> list[int]:
    """For each clip, the index of the first clip that it duplicates, or its own if there is none.

    That first clip duplicates none itself, and each clip of its group was compared with it: likeness doesn't drift from
    clip to clip. Clips that are plain throughout duplicate nothing, as they can't be distinguished.

    All pairs of a clip and an earlier first are compared coarsely, by products of matrices in blocks, and near ones in
    full: n² / 2 times about 200 multiplications, some 70 s for 100,000 clips on one core (BLAS may use more). Many
    clips of one still scene take longer, as most are near each other. Memory is a few kB per clip.
    """
    parts = _parts(fingerprints)
    light = parts[0]
    distinct = ~np.all(_plain(light[:, :, 0]), axis=1)
    coarse = _coarse(light[:, MOMENTS // 2])
    found = list(range(len(fingerprints)))
    firsts = np.empty(0, np.intp)
    for start in range(0, len(found), ROWS):
        rows = start + np.flatnonzero(distinct[start : start + ROWS])
        for clip, other in sorted(_duplicates(parts, coarse, rows, np.concatenate([firsts, rows]), similar)):
            if found[clip] == clip and found[other] == other:
                found[clip] = other
        firsts = np.concatenate([firsts, [row for row in rows if found[row] == row]]).astype(np.intp)
    return found


def _parts(fingerprints: Fingerprints) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Light (clips, moments, margins, GRID, GRID) and colour (clips, moments, 2, COLOURS, COLOURS)."""
    count, split = len(fingerprints), int(np.prod(LIGHT))
    return fingerprints[:, :split].reshape(count, *LIGHT), fingerprints[:, split:].reshape(count, *COLOUR)


def _plain(light: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which thumbnails (…, GRID, GRID) had less contrast than `PLAIN`, and so weren't stretched to `CONTRAST`."""
    plain: NDArray[np.bool_] = light.std((-1, -2), np.float32) < 0.9 * CONTRAST
    return plain


def _gradients(light: NDArray[np.float32], plain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(…, D), of length 1: the differences between neighbours in thumbnails (…, N, N).

    Those of plain thumbnails are 0 except for a last number, so that they resemble each other and nothing else.
    """
    size = light.shape[-1] * (light.shape[-1] - 1)
    across, down = (np.diff(light, axis=axis).reshape(*plain.shape, size) for axis in (-1, -2))
    values = np.concatenate([across, down], -1)
    values *= ~plain[..., None] / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
    return np.concatenate([values, plain[..., None]], -1, dtype=np.float32)


def _coarse(light: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(2, clips, D): gradients of one moment (clips, margins, GRID, GRID) on a coarse grid, untrimmed and trimmed."""
    chosen = light[:, [0, -1]].swapaxes(0, 1)
    cells = chosen.reshape(*chosen.shape[:2], COARSE, 2, COARSE, 2).mean((3, 5), dtype=np.float32)
    return _gradients(cells, _plain(chosen))


def _duplicates(
    parts: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    coarse: NDArray[np.float32],
    rows: NDArray[np.intp],
    others: NDArray[np.intp],
    similar: float,
) -> Iterator[tuple[int, int]]:
    """Pairs of a clip among `rows` and an earlier one among `others` that show the same."""
    untrimmed, trimmed = coarse[:, rows]
    for start in range(0, len(others), COLUMNS):
        columns = others[start : start + COLUMNS]
        other_untrimmed, other_trimmed = coarse[:, columns]
        nearness = untrimmed @ other_untrimmed.T
        np.maximum(nearness, untrimmed @ other_trimmed.T, out=nearness)
        np.maximum(nearness, trimmed @ other_untrimmed.T, out=nearness)
        row, column = np.nonzero(nearness >= NEAR)
        pairs = np.stack([rows[row], columns[column]], 1)
        pairs = pairs[pairs[:, 1] < pairs[:, 0]]
        for at in range(0, len(pairs), PAIRS):
            some = pairs[at : at + PAIRS]
            yield from map(tuple, some[_same(*parts, some, similar)].tolist())


def _same(
    light: NDArray[np.uint8], colour: NDArray[np.uint8], pairs: NDArray[np.intp], similar: float
) -> NDArray[np.bool_]:
    """Which pairs of clips (pairs, 2) show the same in all moments."""
    shades = light[pairs]
    one, other = _gradients(shades.astype(np.float32), _plain(shades)).swapaxes(0, 1)
    likeness = np.max([np.einsum("pmd,pmd->pm", one[:, :, a], other[:, :, b]).min(1) for a, b in PAIRED], axis=0)
    tints = np.abs(np.diff(colour[pairs].astype(np.int16), axis=1)[:, 0]).mean((2, 3, 4)).max(1)
    same: NDArray[np.bool_] = (likeness >= similar) & (tints <= TINTED)
    return same
