"""Random numbers of a training: each step has its own, whatever came before, so that a resumed training is the same."""

from __future__ import annotations

from hashlib import sha256

import torch


def chance(seed: int, *what: object) -> torch.Generator:
    """A generator on the CPU for one purpose: equal only for an equal seed and purpose."""
    digest = sha256(repr((seed, *what)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def shuffled(count: int, seed: int, *what: object) -> list[int]:
    """The numbers below `count` in an order of their own."""
    order: list[int] = torch.randperm(count, generator=chance(seed, *what)).tolist()
    return order
