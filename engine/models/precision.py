"""How exactly devices compute in float32: as the standard says, so that equal keys mean equal results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# With workspaces of another size cuBLAS isn't deterministic; torch reads this when it first multiplies on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

PRECISION = "ieee"
"""What stands in cache keys for how CUDA computes in float32 within `exact_float32`."""


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within it CUDA computes in float32 when it is asked to; afterwards as this process had it set.

    torch lets cuDNN round what convolutions multiply to TF32's 10 bits unless it is told otherwise. Whoever wants that
    speed loads a model in float16 or bfloat16. The setting is the process's, not the thread's.
    """
    import torch

    backends: Any = torch.backends
    legacy = (backends.cuda.matmul, backends.cudnn)
    newer = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    with _held(newer, "fp32_precision", PRECISION) if _goes_by_newer(legacy) else _held(legacy, "allow_tf32", False):
        yield


def _goes_by_newer(legacy: Sequence[Any]) -> bool:
    """Whether the precision was set by torch's newer names, which exclude the others from then on."""
    import torch

    try:
        for part in legacy:
            _ = part.allow_tf32
    except RuntimeError:
        return True
    return getattr(torch.backends, "fp32_precision", "none") != "none"


@contextmanager
def _held(parts: Sequence[Any], name: str, value: object) -> Iterator[None]:
    """Within it an attribute of several objects has a value; afterwards those that it had."""
    before = [getattr(part, name) for part in parts]
    try:
        for part in parts:
            setattr(part, name, value)
        yield
    finally:
        for part, earlier in zip(parts, before, strict=True):
            setattr(part, name, earlier)
