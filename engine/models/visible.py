"""Processes that see one GPU alone, so that nothing in them can open a context on another."""

from __future__ import annotations

from collections.abc import Mapping

VARIABLES = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""The variables that list the GPUs that a process sees, by number or name; AMD's libraries read both."""
NONE = "-1"


def seeing_only(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables with which a new process sees one GPU alone, which is "cuda" there; {} for other devices.

    Args:
        device: the GPU as this process would name it, "cuda:1"; "cuda" is the first.
        environment: this process's variables, which may leave out some GPUs, or list them in another order.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return {}
    index = int(number or 0)
    variable = next((name for name in VARIABLES if name in environment), VARIABLES[-1])
    listed = environment[variable].split(",") if variable in environment else None
    if listed is None:
        return {variable: str(index)}
    return {variable: listed[index].strip() if index < len(listed) else NONE}
