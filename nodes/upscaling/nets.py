"""The networks that make pictures larger, written after their papers.

- ESRGAN (Wang et al. 2018, arXiv 1809.00219): features of the picture, residual blocks of dense blocks, then nearest
  neighbours and a convolution for each doubling. Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833) puts squares of
  pixels into channels first where it makes pictures twice as large.
- Real-ESRGAN's compact network: convolutions in a row, of which the last makes the colours of each new pixel, added to
  those of the nearest old one.
- Swin2SR (Conde et al. 2022, arXiv 2209.11345), as transformers has it.

Layers have the names of Real-ESRGAN's files.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodes.upscaling.layouts import COLOURS, Architecture, Compact, Dense

SLOPE = 0.2
"""Of leaky rectifiers below 0."""
DAMPING = 0.2
"""What a block's change is multiplied by before it is added."""


class Upscaler(nn.Module):
    """Pictures (N, 3, h, w), RGB in [0, 1], with sides as `padded` gives them → (N, 3, h · scale, w · scale)."""

    scale: int
    """How many times larger pictures become."""
    unit: int = 1
    """What sides are multiples of; tiles begin at multiples of it."""
    radius: int | None = None
    """From how many pixels away a pixel may be influenced; None: from anywhere."""
    numbers: int
    """About how many numbers are held at a time for each pixel that is given."""

    def padded(self, side: int) -> int:
        """The side that a picture is padded to, in pixels."""
        return -(-side // self.unit) * self.unit


def build(architecture: Architecture) -> Upscaler:
    """The network, of weights as torch draws them, or none under `torch.device("meta")`."""
    match architecture:
        case Dense():
            return DenseNet(architecture)
        case Compact():
            return CompactNet(architecture)


class DenseNet(Upscaler):
    """ESRGAN's network, and Real-ESRGAN's."""

    def __init__(self, of: Dense) -> None:
        super().__init__()
        self.scale, self.unit = of.scale, of.unshuffle
        self.doublings = of.doublings
        self.radius = of.unshuffle * (15 * of.blocks + 2 + 2 + 1) - 1  # what follows the blocks reaches 2 features far
        self.numbers = (3 * of.width * 4**of.doublings + 4 * of.width + 8 * of.growth) // of.unshuffle**2
        self.conv_first = _convolution(COLOURS * of.unshuffle**2, of.width)
        self.body = nn.Sequential(*(_ResidualBlock(of.width, of.growth) for _ in range(of.blocks)))
        self.conv_body = _convolution(of.width, of.width)
        for number in range(1, of.doublings + 1):
            self.add_module(f"conv_up{number}", _convolution(of.width, of.width))
        self.conv_hr = _convolution(of.width, of.width)
        self.conv_last = _convolution(of.width, COLOURS)

    def forward(self, pictures: Tensor) -> Tensor:
        features = self.conv_first(F.pixel_unshuffle(pictures, self.unit))
        features = features + self.conv_body(self.body(features))
        for number in range(1, self.doublings + 1):
            features = F.interpolate(features, scale_factor=2, mode="nearest")
            features = _rectified(self.get_submodule(f"conv_up{number}")(features))
        made: Tensor = self.conv_last(_rectified(self.conv_hr(features)))
        return made


class _ResidualBlock(nn.Module):
    """Three dense blocks, whose change is added, damped: (N, width, h, w) → the same shape."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_DenseBlock(width, growth) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.rdb3(self.rdb2(self.rdb1(features)))
        return features + DAMPING * changed


class _DenseBlock(nn.Module):
    """Five convolutions, each of what all before it have made, the last of which is added, damped."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            _convolution(width + index * growth, growth) for index in range(4)
        )
        self.conv5 = _convolution(width + 4 * growth, width)

    def forward(self, features: Tensor) -> Tensor:
        known = features
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            known = torch.cat([known, _rectified(layer(known))], dim=1)
        changed: Tensor = self.conv5(known)
        return features + DAMPING * changed


class CompactNet(Upscaler):
    """Real-ESRGAN's compact network."""

    def __init__(self, of: Compact) -> None:
        super().__init__()
        self.scale = of.scale
        self.radius = of.convolutions
        self.numbers = 3 * of.width + 2 * COLOURS * of.scale**2
        layers: list[nn.Module] = []
        seen = COLOURS
        for _ in range(of.convolutions - 1):
            layers += [_convolution(seen, of.width), nn.PReLU(of.width)]
            seen = of.width
        self.body = nn.Sequential(*layers, _convolution(seen, COLOURS * of.scale**2))

    def forward(self, pictures: Tensor) -> Tensor:
        made = F.pixel_shuffle(self.body(pictures), self.scale)
        return made + F.interpolate(pictures, scale_factor=self.scale, mode="nearest")


class Swin2SR(Upscaler):
    """Swin2SR's network.

    Args:
        model: transformers' `Swin2SRForImageSuperResolution`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        of = model.config
        self.model = model
        self.scale, self.unit = of.upscale, of.window_size
        attention = 3 * max(of.num_heads) * of.window_size**2
        self.numbers = attention + 10 * of.embed_dim + 3 * 64 * of.upscale**2  # 64 channels are made larger

    def padded(self, side: int) -> int:
        """The side that a picture is padded to: by a window at least by a pixel, as its authors do."""
        return (side // self.unit + 1) * self.unit

    def forward(self, pictures: Tensor) -> Tensor:
        made: Tensor = self.model(pixel_values=pictures).reconstruction
        return made


def _convolution(seen: int, made: int) -> nn.Conv2d:
    return nn.Conv2d(seen, made, 3, padding=1)


def _rectified(features: Tensor) -> Tensor:
    return F.leaky_relu(features, SLOPE, inplace=True)
