"""What is imported already: some work is only there to do if torch is, and it isn't imported just to find none."""

from __future__ import annotations

import sys
from types import ModuleType


def torch_if_loaded() -> ModuleType | None:
    """The module torch, if anything has imported it.

    If another thread is importing it, this waits: until then the module is there, but without most of its contents.
    """
    if "torch" not in sys.modules:
        return None
    try:
        import torch
    except ImportError:  # in the other thread too, which reports it
        return None
    return torch
