"""How exactly devices compute in float32: as the standard says, so that equal keys mean equal results."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    try:
        before = [part.allow_tf32 for part in legacy]
    except RuntimeError:  # it was set by torch's newer names, which exclude these from then on
        before = []
    if not before or getattr(backends, "fp32_precision", "none") != "none":
        with _exact_by_newer_names():
            yield
        return
    try:
        for part in legacy:
            part.allow_tf32 = False
        yield
    finally:
        for part, allowed in zip(legacy, before, strict=True):
            part.allow_tf32 = allowed


@contextmanager
def _exact_by_newer_names() -> Iterator[None]:
    import torch

    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = PRECISION
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
