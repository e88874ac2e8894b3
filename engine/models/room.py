"""How much memory is left where models compute, and which errors say that there is none."""

from __future__ import annotations

from engine.loaded import torch_if_loaded
from engine.memory import memory
from engine.models.gauge import gauge_of

OUT_OF_MEMORY = (
    "can't allocate memory",  # torch, of the host
    "CUDA error: out of memory",
    "HIP error: out of memory",
    "MPS backend out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSOLVER, cuSPARSE
    "_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",  # cuDNN since version 9
    "_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
)
"""What errors say that have no type of their own for a lack of memory."""


def room_on(device: str) -> int:
    """Bytes that this process could take now on a torch device, or of host memory if it has none of its own."""
    gauge = gauge_of(device)
    return max(0, gauge.free if gauge else memory().free)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a device, or the host, has no memory left."""
    torch = torch_if_loaded()
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    # torch.AcceleratorError, for one, is a RuntimeError, and libraries' own errors are nothing else
    return isinstance(error, RuntimeError) and any(said in str(error) for said in OUT_OF_MEMORY)
