"""Giving back the memory that torch keeps for later."""

from __future__ import annotations

from engine.loaded import torch_if_loaded
from engine.values import release_pinned


def empty_cache() -> None:
    """Have torch release the memory that it caches, on the device and of the host's pinned memory."""
    torch = torch_if_loaded()
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    release_pinned()
