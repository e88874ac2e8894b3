"""What is measured once on a machine: as JSON in the user's cache, by all that it depends on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.atomic import replacing
from engine.models import home


def place(of: Sequence[str], device: str | None = None) -> Path:
    """Where is kept what depends on these, the number of torch's threads, its version and the processor.

    Args:
        of: what was measured, in words.
        device: the name of what computes; the processor if None.
    """
    import torch

    machine = f"{platform.machine()} {platform.processor()}" if device is None else device
    on = [machine, torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads()), torch.__version__]
    digest = hashlib.sha256("\n".join([*of, *on]).encode()).hexdigest()[:32]
    return home() / "pass-costs" / f"{digest}.json"


def keep(kept: Path, measured: Any) -> None:
    """Keep it as JSON; where that can't be written, it is measured again next time."""
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as part:
            part.write_text(json.dumps(measured))
