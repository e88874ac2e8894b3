"""Where models compute: the name of a torch device, chosen or checked, and help when its memory is full."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from engine.document.given import text_of
from engine.errors import NodeError, UsageError
from engine.memory import memory

ACCELERATORS = ("nvidia[0-9]*", "kfd", "dxg")
"""Files in Linux's /dev that the drivers of NVIDIA, of AMD, or of Windows below it create."""


def best() -> str:
    """A GPU that torch can use, or "cpu"; torch, slow to import, is asked only if there may be one."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in ACCELERATORS):
        return "cpu"
    return next((device for device in ("cuda", "mps") if _is_available(device)), "cpu")


def every() -> list[dict[str, str | int]]:
    """All devices of the best kind, each GPU or the CPU: `name`, `type`, `index`, and bytes of memory."""
    if (device := best()) == "cuda":
        import torch

        return [_gpu(index, *torch.cuda.mem_get_info(index)) for index in range(torch.cuda.device_count())]
    host = memory()
    return [{"name": device, "type": device, "index": 0, "vram_total": host.total, "vram_free": host.free}]


def _gpu(index: int, free: int, total: int) -> dict[str, str | int]:
    return {"name": f"cuda:{index}", "type": "cuda", "index": index, "vram_total": total, "vram_free": free}


def named(device: str) -> str:
    """The name of a device, available or not; raises UsageError if it can't be one."""
    hint = "use cpu, cuda, cuda:1 or mps"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text_of(device, "device", hint)):
        raise UsageError(f"no device is called '{device}'", hint=hint)
    return device


def checked(device: str) -> str:
    """The name of a device; raises UsageError if it isn't available."""
    if not _is_available(named(device)):
        raise UsageError(
            f"torch finds no {device} on this machine", hint="choose the device cpu, which every machine has"
        )
    return device


def _is_available(device: str) -> bool:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return True
    import torch

    if kind == "mps":
        return torch.backends.mps.is_available()
    return int(index or 0) < torch.cuda.device_count()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a device, or the host, has no memory left."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return type(error) is RuntimeError and "can't allocate memory" in str(error)  # torch's, of the host


def unusable(device: str) -> NodeError | None:
    """The error to report if CUDA is of no more use to this process; None if it is, or isn't used.

    A kernel that fails, by an illegal access or an assertion for example, takes the process's context with it: every
    later call raises the same error. So waiting for the device tells such errors from those after which work can go on.
    """
    torch = sys.modules.get("torch")
    if not (torch and torch.cuda.is_initialized()):
        return None
    device = device if device.startswith("cuda") else "cuda"
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:  # torch.AcceleratorError is one
        if not is_out_of_memory(error):
            reason = str(error).partition("\n")[0]
            hint = "a call before it may be to blame; a new process can use the device again"
            return NodeError(f"this process can no longer use {device}: {reason}", hint=hint)
    return None


def empty_cache() -> None:
    """Have torch release the memory that it caches."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
