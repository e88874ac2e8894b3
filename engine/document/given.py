"""Checks what a caller in Python gives, such as a workflow, its inputs, paths and names, before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import UsageError

INPUTS_HINT = 'give a dictionary, such as {"prompt": "a red fish"}'


def no_workflow(given: Any) -> UsageError:
    """The error for something that doesn't stand for a workflow."""
    return UsageError(
        f"{described(given)} is not a workflow",
        hint="give a path, the name of a workflow that comes with Kinograph, JSON data as a dictionary, or a Graph",
    )


def inputs_of(given: Any) -> Mapping[str, Any]:
    """Values by input; none if it is None. Raises UsageError unless it is a dictionary whose keys are texts."""
    return {} if given is None else _by_input(given, "inputs", INPUTS_HINT)


def axes_of(given: Any) -> dict[str, list[Any]]:
    """The values of each axis of a sweep.

    Raises:
        UsageError: it isn't a dictionary of inputs, is empty, or an axis has no list of values.
    """
    hint = 'give lists of values, such as {"seed": [1, 2, 3]}'
    axes = _by_input(given, "axes", hint)
    if not axes:
        raise UsageError("there are no axes", hint=hint)
    for name, values in axes.items():
        if isinstance(values, str | bytes | Mapping) or not _is_iterable(values):
            raise UsageError(f"axis {name}: the values are a list, and can't be {described(values)}", hint=hint)
    return {name: list(values) for name, values in axes.items()}


def named(given: Any, where: str, hint: str) -> Mapping[str, Any]:
    """Things by name; none if it is None. Raises UsageError unless it is a dictionary whose keys are texts."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: {described(given)} is not a dictionary", hint=hint)
    _check_names(given, where, "a name", hint)
    return given


def text_of(given: Any, where: str, hint: str | None = None) -> str:
    """A text; raises UsageError if it is anything else."""
    if not isinstance(given, str):
        raise UsageError(f"{where}: {described(given)} is not a text", hint=hint or 'give a text, such as "a red fish"')
    return given


def texts_of(given: Any, where: str, hint: str) -> list[str]:
    """Several texts; raises UsageError if it is anything else, or a single one."""
    if isinstance(given, str | bytes | Mapping) or not _is_iterable(given):
        raise UsageError(f"{where}: {described(given)} is not a list", hint=hint)
    return [text_of(one, where, hint) for one in given]


def path_of(given: Any, where: str, hint: str) -> Path:
    """The path of a file or folder, with `~` expanded; raises UsageError if none can have it."""
    try:
        path = Path(given).expanduser()
    except TypeError:
        raise UsageError(f"{where}: {described(given)} is not a path", hint=hint) from None
    except RuntimeError as error:  # an unknown `~user`
        raise UsageError(f"{where}: '{given}' is not a path: {error}", hint=hint) from None
    if "\0" in str(path):
        raise UsageError(f"{where}: {described(given)} is not a path: it has a null character", hint=hint)
    return path


def whole_of(given: Any, where: str, hint: str) -> int:
    """A whole number from 0 on; raises UsageError if it is anything else."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise UsageError(f"{where}: {described(given)} is not a whole number from 0 on", hint=hint)
    return given


def seconds_of(given: Any, where: str, *, can_be_zero: bool = False) -> float:
    """A length of time; raises UsageError unless it is a number of seconds, more than 0 or, if it may be that, 0."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and not math.isnan(given)
    if not is_number or given < 0 or (given == 0 and not can_be_zero):
        raise UsageError(f"{where}: {described(given)} is not a time", hint="give seconds, such as 10.0")
    return float(given)


def _by_input(given: Any, where: str, hint: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: values go by the names of inputs, and can't be {described(given)}", hint=hint)
    _check_names(given, where, "the name of an input", 'names are texts, such as "seed" or "sampler.seed"')
    return given


def _check_names(given: Mapping[Any, Any], where: str, what: str, hint: str) -> None:
    for name in given:
        if not isinstance(name, str):
            raise UsageError(f"{where}: {described(name)} is not {what}", hint=hint)


def _is_iterable(values: Any) -> bool:
    try:
        iter(values)
    except TypeError:  # also of a tensor that holds a single value, though it has the method
        return False
    return True


def described(given: Any) -> str:
    """What something is, in short, for messages: "the number 3", "a list"; never its address."""
    match given:
        case None | bool():
            return repr(given)
        case int() | float():
            return f"the number {given!r}"
        case str():
            return f"the text {given!r}" if len(given) <= 40 else "a text"
        case bytes():
            return "a bytes object"
        case Mapping():
            return "a dictionary"
        case type():
            return f"the class {given.__name__}"
    name = type(given).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
