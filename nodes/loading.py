"""Loading models quietly, and with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import Cancelled, MissingError, NodeError
from engine.models import watch


@contextmanager
def loading(source: str, hint: str) -> Iterator[None]:
    """Silence libraries while they load `source`; turns their errors into a MissingError with the hint."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingError(f"{source} can't be loaded: {reason}", hint=hint) from error


@contextmanager
def unchanged(source: str, contents: str) -> Iterator[None]:
    """Read a model within this: raises NodeError at the end if it wasn't the one of these contents all the time.

    What its identity stands for, in memory or on disk, is then never made of another file. Reading a file that is
    replaced meanwhile may fail in any way, so then that is the error too.
    """
    watched, failure = watch(source, contents), None
    try:
        yield
    except Exception as error:
        if isinstance(error, Cancelled | NodeError) or watched.unchanged():
            raise
        failure = error
    if failure or not watched.unchanged():
        raise NodeError(f"{source} was replaced before it was loaded", hint="run the workflow again") from failure


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the progress bars and warnings that libraries emit while loading; errors are still raised."""
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
