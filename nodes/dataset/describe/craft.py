"""CRAFT, the text detector that Stable Video Diffusion's authors used, for those who have its weights.

Baek et al., "Character Region Awareness for Text Detection" (2019, arXiv 1904.01941): a U-net on VGG16 gives for each
place how likely it is the middle of a character (region), and of the space between two of a word (affinity). Places
above a threshold in either belong to a word; a word's box is the smallest rectangle around it, rotated as needed.

The network's parameters have the names of the checkpoints that the authors published (`craft_mlt_25k.pth`).
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.errors import MissingError
from engine.models import identity, resolve
from nodes.dataset.scan.texts import Quadrilateral, covered, resized
from nodes.files.footage import Picture
from nodes.loading import unchanged
from nodes.weights import converted, read_weights

if TYPE_CHECKING:
    from engine.node import Context

REGION, AFFINITY = 0.4, 0.4
"""Scores above which a place belongs to a character, or to the link between two, as in the authors' code."""
CERTAIN = 0.7
"""The region score that some place of a word must reach."""
MIN_PLACES = 10
"""Least places of the score map that a word covers."""
PIXELS = 640 * 384
"""About how many pixels of a picture the network is given."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue in ImageNet, on which VGG16 was trained."""

_VGG = 64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512
"""Channels of the VGG16 convolutions that CRAFT has; 0 halves the picture."""
_ENDS = 12, 19, 29, 39
"""Layers of VGG16 before which its slices end."""


class Craft(nn.Module):
    """(N, 3, H, W), normalised as for ImageNet, sides multiples of 32 → (N, 2, H / 2, W / 2): region and affinity."""

    def __init__(self) -> None:
        super().__init__()
        self.basenet = nn.ModuleDict({f"slice{i}": part for i, part in enumerate(_slices(), 1)})
        self.upconv1 = _Merge(1024 + 512, 512, 256)
        self.upconv2 = _Merge(256 + 512, 256, 128)
        self.upconv3 = _Merge(128 + 256, 128, 64)
        self.upconv4 = _Merge(64 + 128, 64, 32)
        self.conv_cls = nn.Sequential(
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 1), nn.ReLU()),
            nn.Conv2d(16, 2, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        seen = [pixels]
        for part in self.basenet.values():
            seen.append(part(seen[-1]))
        *_, half, quarter, eighth, sixteenth, deepest = seen
        # Each slice ends before its last rectifier, with which the next one starts: skips are taken after it. The
        # deepest slice has none after it.
        y: Tensor = self.upconv1(torch.cat([deepest, sixteenth], 1))
        for skip, merge in ((eighth, self.upconv2), (quarter, self.upconv3), (half, self.upconv4)):
            y = F.interpolate(y, size=skip.shape[2:], mode="bilinear", align_corners=False)
            y = merge(torch.cat([y, F.relu(skip)], 1))
        scores: Tensor = self.conv_cls(y)
        return scores


class _Merge(nn.Module):
    """Mixes the deeper features with those of a skip connection."""

    def __init__(self, channels: int, inner: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(x)
        return mixed


def _slices() -> list[nn.Sequential]:
    """VGG16 with batch norms in four slices, its layers numbered consecutively, and one with a wider view."""
    layers: list[nn.Module] = []
    channels = 3
    for width in _VGG:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    named = [(str(index), layer) for index, layer in enumerate(layers)]
    parts = [nn.Sequential(OrderedDict(named[a:b])) for a, b in zip((0, *_ENDS), _ENDS, strict=False)]
    around = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
    return [*parts, nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), around, nn.Conv2d(1024, 1024, 1))]


class CraftDetector(NamedTuple):
    """Finds words with a loaded CRAFT, as `TextDetector` finds lines."""

    model: Craft

    def boxes(self, picture: Picture) -> list[Quadrilateral]:
        """The words in a picture (H, W, 3), BGR: rectangles, rotated as they are, cut off at its edges."""
        region, affinity = self._scores(picture)
        return words(region, affinity, picture.shape[0], picture.shape[1])

    def area(self, picture: Picture) -> float:
        """The share of a picture (H, W, 3) that lies in boxes of words, 0 to 1; overlaps count once."""
        return covered(self.boxes(picture), picture.shape[0], picture.shape[1])

    @torch.inference_mode()
    def _scores(self, picture: Picture) -> NDArray[np.float32]:
        """(2, h, w): region and affinity, of the picture at the network's size."""
        seen = resized(picture, PIXELS)
        pixels = torch.from_numpy(np.ascontiguousarray(seen[..., ::-1])).permute(2, 0, 1).float() / 255
        pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
        device = next(self.model.parameters()).device
        scores: NDArray[np.float32] = self.model(pixels[None].to(device))[0].cpu().numpy()
        return scores


def words(region: NDArray[np.float32], affinity: NDArray[np.float32], height: int, width: int) -> list[Quadrilateral]:
    """The boxes of the words that score maps (h, w) show, in pixels of a picture of that size, top to bottom."""
    linked = ((region > REGION) | (affinity > AFFINITY)).astype(np.uint8)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(linked, connectivity=4)
    scale = np.array([width / region.shape[1], height / region.shape[0]], np.float32)
    boxes = []
    for label in range(1, count):
        inside = labels == label
        if facts[label, cv2.CC_STAT_AREA] < MIN_PLACES or region[inside].max() < CERTAIN:
            continue
        places = np.argwhere(inside)[:, ::-1].astype(np.float32)
        (x, y), (long, short), angle = cv2.minAreaRect(places)
        corners = cv2.boxPoints(((x + 0.5, y + 0.5), (long + 1, short + 1), angle)) * scale  # to the edges of places
        boxes.append(np.clip(corners, 0, (width, height)).astype(np.float32))
    return sorted(boxes, key=lambda box: (float(box[:, 1].min()), float(box[:, 0].min())))


def load_craft(ctx: Context, source: str) -> CraftDetector:
    """The CRAFT of a source string, loaded once and shared.

    Raises:
        MissingError: it doesn't exist, or its weights are not CRAFT's.
    """
    path = resolve(source, progress=lambda done, total: ctx.progress(done, total, unit="B"))
    contents = identity(source)
    found: CraftDetector = ctx.models.get(("craft", contents), partial(_load, source, contents, path), ctx.device)
    return found


def _load(source: str, contents: str, path: Path) -> CraftDetector:
    with unchanged(source, contents):
        state = read_weights(converted(path, "CRAFT"), "CRAFT")
    state = {name.removeprefix("module."): weight for name, weight in state.items()}
    with torch.device("meta"):
        model = Craft()
    wanted = model.state_dict()
    differing = sorted(state.keys() ^ wanted.keys())
    differing += [name for name, weight in state.items() if name in wanted and weight.shape != wanted[name].shape]
    if differing:
        raise MissingError(
            f"{path} is not CRAFT: {differing[0]} is {_what(differing[0], state, wanted)}",
            hint="give craft_mlt_25k.pth, which its authors publish",
        )
    model.load_state_dict(state, assign=True)
    return CraftDetector(model.eval())


def _what(name: str, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    if name not in state:
        return "missing"
    return "unknown" if name not in wanted else f"{tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
