"""How much of a device's memory is free, and how much computing on it takes."""

from __future__ import annotations

from typing import Protocol


class Gauge(Protocol):
    """Measures a device's memory, in bytes."""

    @property
    def total(self) -> int:
        """All of it."""

    @property
    def free(self) -> int:
        """What this process could take now; what other processes have taken isn't."""

    @property
    def taken(self) -> int:
        """What this process's tensors take."""

    @property
    def peak(self) -> int | None:
        """The most that they have taken since the last `restart`; None if that isn't known."""

    def restart(self) -> None:
        """Measure the peak from now on."""


def gauge_of(device: str) -> Gauge | None:
    """What measures a torch device; None for one that isn't there, or has no memory of its own."""
    kind, _, index = device.partition(":")
    if kind not in ("cuda", "mps"):
        return None
    import torch

    if kind == "mps":
        return Mps() if torch.backends.mps.is_available() else None
    return Cuda(device) if int(index or 0) < torch.cuda.device_count() else None


class Cuda:
    """The memory of a GPU as CUDA and torch see it.

    Args:
        device: a torch device, such as "cuda:0", or "cuda" for the present one.
    """

    def __init__(self, device: str) -> None:
        import torch

        index = torch.device(device).index
        self._cuda = torch.cuda
        self._device: int = torch.cuda.current_device() if index is None else index  # some calls refuse "cuda"
        self._whole: int = torch.cuda.mem_get_info(self._device)[1]

    @property
    def total(self) -> int:
        fraction = getattr(self._cuda, "get_per_process_memory_fraction", None)  # which older torch lacks
        return int(self._whole * fraction(self._device)) if fraction else self._whole

    @property
    def free(self) -> int:
        taken = self.taken
        unused = self._bytes("reserved_bytes", "current") - taken  # kept by torch for later use
        return min(self._cuda.mem_get_info(self._device)[0] + unused, self.total - taken)

    @property
    def taken(self) -> int:
        return self._bytes("allocated_bytes", "current")

    @property
    def peak(self) -> int:
        return self._bytes("allocated_bytes", "peak")

    def restart(self) -> None:
        self._cuda.reset_peak_memory_stats(self._device)

    def _bytes(self, what: str, when: str) -> int:
        """One of torch's figures; 0 as long as nothing has been allocated."""
        known = self._cuda.memory_stats_as_nested_dict(self._device)  # the flat one takes a millisecond
        return int(known[what]["all"][when]) if known else 0


class Mps:
    """The memory of Apple's GPUs, which is the host's. Peaks aren't known."""

    peak = None

    def __init__(self) -> None:
        import torch

        self._mps = torch.mps
        self.total: int = torch.mps.recommended_max_memory()

    @property
    def free(self) -> int:
        return max(0, self.total - self.taken)

    @property
    def taken(self) -> int:
        return self._mps.current_allocated_memory()

    def restart(self) -> None:
        """Nothing: there is no peak to forget."""
