"""Where models compute: the name of a torch device, chosen or checked, and help when its memory is full."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.document.given import text_of
from engine.errors import NodeError, UsageError
from engine.loaded import torch_if_loaded
from engine.memory import Memory, memory
from engine.models import is_out_of_memory
from engine.run import nvml

ACCELERATORS = ("nvidia[0-9]*", "kfd", "dxg")
"""Files in Linux's /dev that the drivers of NVIDIA, of AMD, or of Windows below it create."""
NONE: Mapping[str, Memory] = {}


def best() -> str:
    """A GPU that torch can use, or "cpu"; torch, slow to import, is asked only if there may be one."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in ACCELERATORS):
        return "cpu"
    return next((device for device in ("cuda", "mps") if _is_available(device)), "cpu")


@dataclass(frozen=True)
class Device:
    """A device, and bytes of its memory; one that has none of its own shares the host's."""

    name: str
    """As `--device` takes it: "cuda:1"."""
    type: str
    index: int
    vram_total: int
    vram_free: int
    uuid: str = ""
    """What a GPU is called, whichever of them a process sees."""


def every() -> list[Device]:
    """All devices of the best kind that this process sees: each GPU, or the CPU.

    To ask CUDA how much memory is free opens a context, which takes some hundred MB of it. So the driver is asked if it
    is NVIDIA's; otherwise only the first GPU is, and all of the others' memory counts as free.
    """
    if best() != "cuda":
        return [_with_memory(Device(best(), best(), 0, 0, 0))]
    import torch

    known = nvml.gpus()
    return [_gpu(index, known) for index in range(torch.cuda.device_count())]


def only(name: str) -> Device:
    """The device of that name, in a process that sees no other GPU (`engine.models.visible`).

    Raises:
        UsageError: it isn't available.
    """
    kind, _, number = name.partition(":")
    if not _is_available(kind):
        raise _unavailable(name)
    if kind == "cuda":
        return replace(_gpu(0, nvml.gpus()), name=name, index=int(number or 0))
    return _with_memory(Device(name, kind, 0, 0, 0))


def present(known: Sequence[Device]) -> list[Device]:
    """Devices that were listed before, with the memory that is free now as far as that can be told."""
    gpus = nvml.gpus() if any(device.uuid for device in known) else {}
    return [_with_memory(device, gpus) for device in known]


def _gpu(index: int, known: Mapping[str, Memory]) -> Device:
    """A GPU by its number in this process."""
    import torch

    about = torch.cuda.get_device_properties(index)
    uuid = f"GPU-{getattr(about, 'uuid', '')}"
    free = torch.cuda.mem_get_info(index)[0] if not index and uuid not in known else about.total_memory
    return _with_memory(Device(f"cuda:{index}", "cuda", index, about.total_memory, free, uuid), known)


def _with_memory(device: Device, gpus: Mapping[str, Memory] = NONE) -> Device:
    """A device with the memory that it has now; a GPU as it is, unless it is among those given."""
    if device.type != "cuda":
        return replace(device, vram_total=memory().total, vram_free=memory().free)
    known = gpus.get(device.uuid)
    return replace(device, vram_free=min(known.free, device.vram_total)) if known else device


def named(device: str) -> str:
    """The name of a device, available or not; raises UsageError if it can't be one."""
    hint = "use cpu, cuda, cuda:1 or mps"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text_of(device, "device", hint)):
        raise UsageError(f"no device is called '{device}'", hint=hint)
    return device


def checked(device: str) -> str:
    """The name of a device; raises UsageError if it isn't available."""
    if not _is_available(named(device)):
        raise _unavailable(device)
    return device


def _unavailable(device: str) -> UsageError:
    return UsageError(f"torch finds no {device} on this machine", hint="choose the device cpu, which every machine has")


def _is_available(device: str) -> bool:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return True
    import torch

    if kind == "mps":
        return torch.backends.mps.is_available()
    return int(index or 0) < torch.cuda.device_count()


def unusable(device: str) -> NodeError | None:
    """The error to report if CUDA is of no more use to this process; None if it is, or isn't used.

    A kernel that fails, by an illegal access or an assertion for example, takes the process's context with it: every
    later call raises the same error. So waiting for the device tells such errors from those after which work can go on.
    """
    torch = torch_if_loaded()
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
