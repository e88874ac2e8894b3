"""JSON text as data: what is written must be read as it stands, or be refused with its place.

`pydantic_core.from_json` reads it, which is fast, but keeps the last of several members with one name, and takes
numbers beyond a float's range for infinite. So what it gives is written again to see whether something was lost. Only
then is the text read a second time, slowly, to say what it was and where.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from pydantic_core import from_json, to_json

from engine.errors import Problem, WorkflowError

MOST_PROBLEMS = 20
"""How many are reported at most."""
_ODD = (b" :", b"\t:", b"\n:", b"\r:", b"\\u002", b"\\u003")
"""Where a text has none of these, a name's end and a colon are always written in the same way."""


def json_of(text: str | bytes, what: str = "the workflow") -> Any:
    """The JSON data in a text: UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        text: the text.
        what: what it is, for messages.

    Raises:
        WorkflowError: with the places of names that are there twice, and of numbers that JSON lacks.
    """
    data = _utf8(text, what)
    try:
        read = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        if problems := _problems(data) if b"NaN" in data or b"Infinity" in data else ():
            raise WorkflowError.of(problems) from None
        raise WorkflowError(f"{what} is not JSON: {error}", hint=_hint(data)) from None
    if not _is_whole(read, data) and (problems := _problems(data)):
        raise WorkflowError.of(problems)
    return read


def is_finite(data: Any) -> bool:
    """Whether JSON data have only numbers that JSON has."""
    waiting = [data]
    for each in waiting:  # grows during the loop
        if type(each) is float and not isfinite(each):
            return False
        if isinstance(each, list | dict):
            waiting += each if isinstance(each, list) else each.values()
    return True


def _utf8(text: str | bytes, what: str) -> bytes:
    if isinstance(text, str):
        return text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    encoding = json.detect_encoding(text)
    if encoding == "utf-8":
        return text
    try:
        return text.decode(encoding).encode()
    except ValueError:
        message = f"{what} is not JSON: it isn't text in {encoding.upper()}"
        raise WorkflowError(message, hint="save it in UTF-8") from None


def _hint(data: bytes) -> str | None:
    try:
        codecs.utf_8_decode(data, "strict", True)
    except UnicodeDecodeError:
        return "save it in UTF-8"
    return None


def _is_whole(read: Any, data: bytes) -> bool:
    """Whether what was read has as many names as the text that it was read from, and finite numbers; False if in doubt.

    Behind each name comes `":`, which may be in texts as well, but then in both.
    """
    if any(odd in data for odd in _ODD):
        return False
    written = to_json(read, inf_nan_mode="constants")
    return written.count(b'":') >= data.count(b'":') and b"Infinity" not in written


@dataclass(frozen=True, slots=True)
class _Number:
    """A number that JSON lacks, as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of which some names are written several times."""

    members: dict[str, Any] = field(default_factory=dict)
    twice: tuple[str, ...] = ()


def _problems(data: bytes) -> list[Problem]:
    """What is wrong with a JSON text beside its grammar; none if that is wrong too, or nothing is."""
    try:
        read = json.loads(data, object_pairs_hook=_object, parse_constant=_Number, parse_float=_float)
    except (ValueError, RecursionError):
        return []
    return [problem for problem, _ in zip(_found(read), range(MOST_PROBLEMS), strict=False)]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Object:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    counts = Counter(name for name, _ in pairs)
    return _Object(members, tuple(name for name, count in counts.items() if count > 1))


def _float(text: str) -> float | _Number:
    return number if isfinite(number := float(text)) else _Number(text)


_Path = tuple[str, ...]


def _found(read: Any) -> Iterator[Problem]:
    """The problems, in order, each with its place."""
    waiting: list[tuple[_Path, Any]] = [((), read)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, _Number):
            yield _problem(f"{each.text} is no number that JSON has", path, "write a finite number")
        elif isinstance(each, list):
            waiting += [((*path, _index(path, index, item)), item) for index, item in enumerate(each)][::-1]
        elif isinstance(each, dict | _Object):
            members = each if isinstance(each, dict) else each.members
            for name in () if isinstance(each, dict) else each.twice:
                yield _problem("is written twice", (*path, name), "rename one, or remove it")
            waiting += [((*path, name), value) for name, value in members.items()][::-1]


def _index(path: _Path, index: int, item: Any) -> str:
    """What a list's item is called: a node of the UI format by its id."""
    node = item.get("id") if path[-1:] == ("nodes",) and isinstance(item, dict) else None
    return str(node) if isinstance(node, int | str) else str(index)


def _problem(message: str, path: _Path, hint: str) -> Problem:
    """A problem at a place, given by node and input as far as that is within a node."""
    start = _graph(path)
    about, rest = path[start + 1 : start + 2], path[start + 1 :]
    if not (start or about in (("inputs",), ("_meta",))):
        return Problem(f"{'.'.join(path)}: {message}" if path else message, hint=hint)
    socket = None
    if about == ("inputs",) and len(rest) > 1:
        socket, rest = rest[1], rest[2:]
    return Problem(f"{'.'.join(rest)}: {message}" if rest else message, path[start], socket, hint)


def _graph(path: _Path) -> int:
    """Where in a path within a document, a request or the UI format the id of a node stands; 0 if that isn't clear."""
    start = 1 if path[:1] == ("prompt",) else 0
    start += 1 if path[start : start + 1] == ("definitions",) else 0
    start += 2 if path[start : start + 1] == ("subgraphs",) else 0
    start += 1 if path[start : start + 1] in (("graph",), ("nodes",)) else 0
    return start if start < len(path) else 0
