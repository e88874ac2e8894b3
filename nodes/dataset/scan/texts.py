"""How much of a picture is covered by text: titles, subtitles, logos, a date burnt in by the camera."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import MissingError
from nodes.files.footage import Picture

STEP = 32
"""The network's inputs have sides that are multiples of this."""
PIXELS = 352 * 208
"""About how many pixels the network is given. Time is proportional to it; letters below 5 such pixels are missed."""
INSIDE = 0.4
"""The probability above which a pixel counts as part of the core of a line of text."""
CERTAIN = 0.78
"""Least mean probability in a line's rectangle: in 126 frames without text two boxes reach it, covering at most half a
percent of the picture."""
TALLEST = 0.3
"""Thickest core believed, as a share of the picture's shorter side: thicker ones were faces and blinds so far."""
GROWTH = 1.0
"""How far a core is expanded on all sides, in units of its area over its perimeter, to become the box of the letters.

RapidOCR uses 1.6, which leaves room around the letters for reading them."""
FINENESS = 1024
"""Longest side of the mask on which the union of boxes is counted."""
INSTALL = 'pip install "kinograph[curate]"'

Quadrilateral = NDArray[np.float32]
"""(4, 2): the corners in order around it, as x and y in pixels of the picture; 0 is its left or upper edge."""


class TextDetector:
    """Finds lines of text, without reading them, with the detector that RapidOCR ships.

    The network is PP-OCRv6_small_det of PaddleOCR, © Baidu and the PaddleOCR authors, in the ONNX form that the wheel
    of RapidOCR 3.10 brings; Apache-2.0, as the wheel's MODEL_LICENSES.md says. It is a DB network (Liao et al.,
    "Real-time Scene Text Detection with Differentiable Binarization", 2020): for each pixel it gives the probability
    of being in the core of a line, which is the line without a margin. Only that file of RapidOCR is used: its own code
    downloads missing files, enlarges small pictures eightfold and rounds the boxes.

    An instance may be shared by threads.

    Args:
        pixels: about how many pixels of a picture, of any shape, the network is given.
        threads: how many one picture is computed on.

    Raises:
        MissingError: rapidocr, onnxruntime or the weights are not installed.
    """

    def __init__(self, pixels: int = PIXELS, threads: int = 1) -> None:
        self.pixels = pixels
        self._session = _session(threads)
        self._input = self._session.get_inputs()[0].name

    def boxes(self, picture: Picture) -> list[Quadrilateral]:
        """The lines of text in a picture (H, W, 3): rectangles, rotated as the lines are, cut off at its edges."""
        return _outlines(self._probabilities(picture), picture.shape[0], picture.shape[1])

    def area(self, picture: Picture) -> float:
        """The share of a picture (H, W, 3) that lies in boxes of text, 0 to 1; overlaps count once."""
        return covered(self.boxes(picture), picture.shape[0], picture.shape[1])

    def _probabilities(self, picture: Picture) -> NDArray[np.float32]:
        """(h, w), each from 0 to 1, of the picture at the network's size."""
        values = (resized(picture, self.pixels).astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        found: NDArray[np.float32] = self._session.run(None, {self._input: values})[0][0, 0]
        return found


def resized(picture: Picture, pixels: int) -> Picture:
    """A picture resized to about this many pixels, with sides that are multiples of `STEP`."""
    height, width = picture.shape[:2]
    scale = (pixels / (height * width)) ** 0.5
    size = tuple(max(STEP, round(side * scale / STEP) * STEP) for side in (width, height))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)


def covered(boxes: Sequence[Quadrilateral], height: int, width: int) -> float:
    """The share of a picture of that size that lies in boxes, 0 to 1; overlaps count once."""
    scale = FINENESS / max(height, width)
    mask = np.zeros([max(1, round(side * scale)) for side in (height, width)], np.uint8)
    for box in boxes:  # half a pixel back, as the outline itself is filled too
        cv2.fillConvexPoly(mask, np.rint(box * scale - 0.5).astype(np.int32), 1)
    return float(mask.mean())


def weights() -> Path:
    """The network's file; raises MissingError if what it needs isn't installed."""
    packages = {name: find_spec(name) for name in ("rapidocr", "onnxruntime")}
    if missing := [name for name, package in packages.items() if package is None]:
        raise MissingError(f"finding text needs {' and '.join(missing)}, not installed here", hint=INSTALL)
    package = packages["rapidocr"]
    found = package.submodule_search_locations if package else None
    files = sorted(file for folder in found or () for file in Path(folder).glob("models/*det*.onnx"))
    if not files:
        raise MissingError("rapidocr comes without a text detector here", hint=INSTALL)
    return files[-1]


def _session(threads: int) -> Any:
    """The network, ready to run. Nothing is fetched and nothing logged."""
    file = weights()
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would record what is run here, and send it to its maker
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # only what is fatal
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to the other workers
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _outlines(probabilities: NDArray[np.float32], height: int, width: int) -> list[Quadrilateral]:
    """The boxes around the letters, in pixels of a picture of that size, top to bottom."""
    cores = (probabilities > INSIDE).astype(np.uint8)
    contours, _ = cv2.findContours(cores, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([width / probabilities.shape[1], height / probabilities.shape[0]], np.float32)
    boxes = []
    for contour in contours:
        (x, y), (long, short), angle = cv2.minAreaRect(contour)
        if not 1 <= min(long, short) <= TALLEST * min(probabilities.shape):
            continue
        if _certainty(probabilities, ((x, y), (long, short), angle)) < CERTAIN:
            continue
        long, short = long + 1, short + 1  # it went through the centres of the outermost pixels
        growth = GROWTH * long * short / (long + short)  # on both sides together
        corners = cv2.boxPoints(((x + 0.5, y + 0.5), (long + growth, short + growth), angle)) * scale
        boxes.append(np.clip(corners, 0, (width, height)).astype(np.float32))
    return sorted(boxes, key=lambda box: (float(box[:, 1].min()), float(box[:, 0].min())))


def _certainty(
    probabilities: NDArray[np.float32], rectangle: tuple[tuple[float, float], tuple[float, float], float]
) -> float:
    """The mean probability in a rotated rectangle (centre, sides, degrees)."""
    mask = np.zeros(probabilities.shape, np.uint8)
    cv2.fillConvexPoly(mask, np.rint(cv2.boxPoints(rectangle)).astype(np.int32), 1)
    return float(cv2.mean(probabilities, mask)[0])
