"""Silence the messages of libraries."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """Keep libraries' messages for developers off the user's terminal."""
    import warnings

    warnings.simplefilter("ignore")
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
