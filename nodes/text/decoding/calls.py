"""What transformers' `generate` is given and doesn't pass on to a decoding function that isn't its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def streamer() -> Any:
    """What the `generate` that called this was given as its streamer, or None.

    It has put the prompt into it, so whoever reads it would wait for ever.
    """
    from transformers import GenerationMixin

    frame = _frame_of(GenerationMixin.generate)
    return frame.f_locals["streamer"] if frame is not None else None


class WithTokenizer(Generic[P, R]):
    """A decoding function for `generate`, with which `stop_strings` and their `tokenizer` work.

    `generate` takes the tokenizer out of its arguments, and then passes on those that are left and that the function's
    signature has. So it is put back when `generate` asks for the signature; the function must have a `tokenizer` too.
    """

    def __init__(self, decode: Callable[P, R]) -> None:
        self.__doc__, self.__name__ = decode.__doc__, decode.__name__
        self._decode = decode

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._decode(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        from transformers import GenerationMixin

        frame = _frame_of(GenerationMixin._extract_generation_mode_kwargs)
        if frame is not None:
            taken, left = frame.f_locals["generation_mode_kwargs"], frame.f_locals["kwargs"]
            if "tokenizer" in taken:
                left["tokenizer"] = taken["tokenizer"]
        return inspect.signature(self._decode)


def _frame_of(function: Any) -> FrameType | None:
    """The innermost call of a function that is going on, if any is."""
    code = inspect.unwrap(function).__code__
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame
