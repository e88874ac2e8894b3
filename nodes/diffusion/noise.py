"""Noise that doesn't depend on the device: it is drawn in host memory and copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class HostNoise(TorchFunctionMode):
    """Within it `torch.randn` takes a generator of the host for noise on any device, as diffusers' own function does.

    Most pipelines draw by that function; a few draw by torch's, which refuses such a generator on a GPU.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if function is torch.randn and given.get("generator") is not None and "device" in given:
            device = given.pop("device")
            return function(*args, **given).to(device)
        return function(*args, **given)
