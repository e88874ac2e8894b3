"""The files of a component's weights in its folder, which may hold them in several forms."""

from __future__ import annotations

import re
from pathlib import Path


def variant(folder: Path) -> str | None:
    """The form of a component's weights that is loaded: None for the usual one if it is there, else such as "fp16".

    Raises ValueError if there are none in safetensors.
    """
    forms = set(_forms(folder).values())
    if None in forms:
        return None
    if not forms:
        others = [path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".ckpt")]
        there = f", but {min(others)}, which can run code: convert it" if others else ""
        raise ValueError(f"{folder.name} has no weights in safetensors{there}")
    return min(forms, key=lambda form: (form != "fp16", form))


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights that are loaded, by name; raises ValueError if there are none in safetensors."""
    loaded = variant(folder)
    return sorted(path for path, form in _forms(folder).items() if form == loaded)


def _forms(folder: Path) -> dict[Path, str | None]:
    """The form of each file of weights."""
    files = {path: _WEIGHTS.fullmatch(path.name) for path in folder.glob("*.safetensors")}
    return {path: found[1] for path, found in files.items() if found}


_WEIGHTS = re.compile(r"(?:model|diffusion_pytorch_model)(?:\.([a-z]\w*))?(?:-\d+-of-\d+)?\.safetensors")
"""Names of weights' files, with the form, and in parts."""
