"""The memory of NVIDIA's GPUs, by the library of `nvidia-smi`: unlike CUDA it takes none of it to tell."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from typing import Any

from engine.memory import Memory

NAME_BYTES = 96
"""The most bytes of a GPU's UUID."""


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def gpus() -> dict[str, Memory]:
    """The bytes of memory of each GPU of the machine, by UUID ("GPU-8932f937-…"); {} where there is no such library."""
    library, count = _library(), ctypes.c_uint()
    if library is None or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return {}
    found: dict[str, Memory] = {}
    for index in range(count.value):
        gpu, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES), _Memory()
        failed = (  # each returns 0 if it succeeds
            library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(gpu))
            or library.nvmlDeviceGetUUID(gpu, name, NAME_BYTES)
            or library.nvmlDeviceGetMemoryInfo(gpu, ctypes.byref(memory))
        )
        if not failed:
            found[name.value.decode()] = Memory(memory.total, memory.free)
    return found


@cache
def _library() -> Any:
    """The library, ready for use; None if it isn't there, or finds no driver."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if library.nvmlInit_v2() == 0:
            return library
    return None
