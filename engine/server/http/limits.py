"""How much JSON the server reads at once, so that reading it delays no other client for long.

A JSON parser holds the interpreter's lock until it has finished, so that no other thread runs meanwhile, and a small
text can have very many values: 32 MB of `[]` take seconds. What parsing takes goes by the number of values, and that
can be counted without parsing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from engine.errors import UsageError

MOST_VALUES = 500_000
"""Values in a text, about as many as 20,000 nodes have. Parsing them takes 20 to 150 ms, by what they are."""
SMALL = 64 << 10
"""Bytes up to which parsing takes less time than a thread's turn."""
MOST_LISTED = 10_000
"""Items in a list of ids or the like."""
MOST_PROBLEMS = 1000
"""Problems of one workflow or request that an answer lists."""

_TURNS = ThreadPoolExecutor(1, "kinograph-bodies")  # one after the other: parsed, a text takes ten times its size

P = ParamSpec("P")
T = TypeVar("T")


class TooLargeError(UsageError):
    """A text is larger than the server reads."""


def check_values(text: bytes | str) -> None:
    """Raise TooLargeError if a JSON text may have too many values; commas within its strings count as well."""
    if isinstance(text, bytes):
        values = text.count(b",") + text.count(b"[") + text.count(b"{")
    else:
        values = text.count(",") + text.count("[") + text.count("{")
    if values > MOST_VALUES:
        raise TooLargeError(
            f"this has about {values:,} values; the server reads at most {MOST_VALUES:,}",
            hint="send a smaller workflow, or run it with `kinograph run`",
        )


async def in_turn(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function that reads a large text, in a thread, when all earlier ones have been read."""
    return await asyncio.get_running_loop().run_in_executor(_TURNS, lambda: function(*args, **kwargs))
