"""Where models compute: the name of a torch device, chosen or checked."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from engine.errors import UsageError

ACCELERATORS = ("nvidia[0-9]*", "kfd", "dxg")
"""Files in Linux's /dev that come with a driver of NVIDIA's, of AMD's, or of Windows below it."""


def best() -> str:
    """A GPU that torch can use, or "cpu"; torch, slow to import, is asked only where there may be one."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in ACCELERATORS):
        return "cpu"
    return next((device for device in ("cuda", "mps") if _is_here(device)), "cpu")


def checked(device: str) -> str:
    """The name of a device, if it is one and is here; raises UsageError."""
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise UsageError(f"no device is called '{device}'", hint="cpu, cuda, cuda:1 or mps")
    if not _is_here(device):
        raise UsageError(f"torch finds no {device} here", hint="--device cpu")
    return device


def _is_here(device: str) -> bool:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return True
    import torch

    if kind == "mps":
        return torch.backends.mps.is_available()
    return int(index or 0) < torch.cuda.device_count()
