"""Loading models with libraries that say much: quietly, and with errors that tell what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import MissingError


@contextmanager
def loading(source: str, hint: str) -> Iterator[None]:
    """Load quietly what a source string names; raises MissingError, with the hint, where it can't be loaded."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingError(f"{source} can't be loaded: {reason}", hint=hint) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the bars and the advice with which libraries accompany loading; errors still come as exceptions."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
