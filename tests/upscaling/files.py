"""Random upscalers in the names that published files have, and what they make of pictures, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from nodes.upscaling import nets

State = Mapping[str, Tensor]
OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


def esrgan(*, seen: int = 3, doublings: int = 2, blocks: int = 2, width: int = 4, growth: int = 2) -> dict[str, Tensor]:
    """ESRGAN's tensors in Real-ESRGAN's names: `RealESRGAN_x4plus.pth` has 23 blocks, width 64, growth 32."""
    shapes = {"conv_first": (width, seen), "conv_body": (width, width), "conv_hr": (width, width)}
    shapes |= {f"conv_up{number + 1}": (width, width) for number in range(doublings)} | {"conv_last": (3, width)}
    for block in range(blocks):
        for dense in (1, 2, 3):
            for layer in range(5):
                made = width if layer == 4 else growth
                shapes[f"body.{block}.rdb{dense}.conv{layer + 1}"] = (made, width + layer * growth)
    state = _drawn({f"{name}.weight": (*shape, 3, 3) for name, shape in shapes.items()})
    return state | {"conv_last.bias": state["conv_last.bias"] + 0.5}


def compact(*, convolutions: int = 4, width: int = 6, scale: int = 4) -> dict[str, Tensor]:
    """Tensors of Real-ESRGAN's compact network: `realesr-animevideov3.pth` has 18 convolutions of width 64."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(convolutions):
        made = 3 * scale**2 if index == convolutions - 1 else width
        shapes[f"body.{2 * index}.weight"] = (made, width if index else 3, 3, 3)
        if index < convolutions - 1:
            shapes[f"body.{2 * index + 1}.weight"] = (width,)
    return _drawn(shapes)


def _drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights about as large as those of trained networks, and biases of convolutions."""
    draw, found = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        fan = shape[1] * 9 if len(shape) == 4 else 16
        found[name] = torch.randn(shape, generator=draw) / fan**0.5
        if len(shape) == 4:
            found[name.replace("weight", "bias")] = torch.randn(shape[0], generator=draw) / 20
    return found


def first_release(state: State) -> dict[str, Tensor]:
    """ESRGAN's tensors in the names of its first release, `RRDB_ESRGAN_x4_old_arch.pth`, and most that people train."""
    ups = sorted(name for name in state if name.startswith("conv_up") and name.endswith("weight"))
    blocks = len({name.split(".")[1] for name in state if name.startswith("body.")})
    layers = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    layers |= {f"conv_up{index}": f"model.{3 * index}" for index in range(1, len(ups) + 1)}
    layers |= {"conv_hr": f"model.{3 * len(ups) + 2}", "conv_last": f"model.{3 * len(ups) + 4}"}

    def renamed(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        if layer in layers:
            return f"{layers[layer]}.{kind}"
        return f"model.1.sub.{layer.removeprefix('body.').replace('rdb', 'RDB')}.0.{kind}"

    return {renamed(name): weight for name, weight in state.items()}


def second_release(state: State) -> dict[str, Tensor]:
    """ESRGAN's tensors in the names of its authors' later code: `RRDB_ESRGAN_x4.pth`, BSRGAN."""
    parts = {"body": "RRDB_trunk", "conv_body": "trunk_conv", "conv_hr": "HRconv", "conv_up1": "upconv1"}
    parts |= {"conv_up2": "upconv2"}

    def renamed(name: str) -> str:
        first, _, rest = name.partition(".")
        return f"{parts.get(first, first)}.{rest.replace('rdb', 'RDB')}"

    return {renamed(name): weight for name, weight in state.items()}


def saved(state: State, path: Path) -> Path:
    """A file of tensors: safetensors, or what torch writes."""
    if path.suffix == ".safetensors":
        save_file(dict(state), path)
    else:
        torch.save(dict(state), path)
    return path


def by_esrgan(state: State, pictures: Tensor, *, doublings: int = 2, unshuffle: int = 1) -> Tensor:
    """What ESRGAN's network makes of pictures, from its tensors in Real-ESRGAN's names."""

    def layer(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    n, c, h, w = pictures.shape
    u = unshuffle
    x = pictures.reshape(n, c, h // u, u, w // u, u).permute(0, 1, 3, 5, 2, 4).reshape(n, c * u * u, h // u, w // u)
    first = trunk = layer("conv_first", x)
    for block in sorted({int(name.split(".")[1]) for name in state if name.startswith("body.")}):
        before = trunk
        for dense in (1, 2, 3):
            parts = [trunk]
            for number in (1, 2, 3, 4):
                made = layer(f"body.{block}.rdb{dense}.conv{number}", torch.cat(parts, 1))
                parts.append(torch.where(made > 0, made, 0.2 * made))
            trunk = trunk + 0.2 * layer(f"body.{block}.rdb{dense}.conv5", torch.cat(parts, 1))
        trunk = before + 0.2 * trunk
    x = first + layer("conv_body", trunk)
    for number in range(1, doublings + 1):
        x = F.leaky_relu(layer(f"conv_up{number}", x.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
    return layer("conv_last", F.leaky_relu(layer("conv_hr", x), 0.2))


def by_compact(state: State, pictures: Tensor, *, scale: int = 4) -> Tensor:
    """What the compact network makes of pictures."""
    x, last = pictures, max(int(name.split(".")[1]) for name in state)
    for index in range(0, last + 1, 2):
        x = F.conv2d(x, state[f"body.{index}.weight"], state[f"body.{index}.bias"], padding=1)
        if index < last:
            slope = state[f"body.{index + 1}.weight"][:, None, None]
            x = torch.where(x > 0, x, slope * x)
    n, _, h, w = x.shape
    x = x.reshape(n, 3, scale, scale, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, 3, h * scale, w * scale)
    return x + pictures.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def watched(
    monkeypatch: pytest.MonkeyPatch, net: str, *, most: int | None = None, error: Exception = OUT_OF_MEMORY
) -> list[tuple[int, ...]]:
    """The shapes that networks of this class are given from now on.

    Args:
        most: pixels of all pictures for which there is memory; None for any number.
        error: what is raised for more.
    """
    kind: Any = getattr(nets, net)
    plain, seen = kind.forward, []

    def forward(own: nets.Upscaler, pictures: Tensor) -> Tensor:
        seen.append(tuple(pictures.shape))
        if most is not None and pictures[:, 0].numel() > most:
            raise error
        made: Tensor = plain(own, pictures)
        return made

    monkeypatch.setattr(kind, "forward", forward)
    return seen
