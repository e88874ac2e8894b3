"""Checks what a caller in Python gives as a workflow, its inputs, or the axes of a sweep, before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import UsageError


def no_workflow(given: Any) -> UsageError:
    """The error for something that doesn't stand for a workflow."""
    what = f"the class {given.__name__}" if isinstance(given, type) else _a(given)
    return UsageError(
        f"{what} is not a workflow",
        hint="give a path, the name of a workflow that comes with Kinograph, JSON data as a dictionary, or a Graph",
    )


def inputs_of(given: Any) -> Mapping[str, Any]:
    """Values by input; none if it is None. Raises UsageError unless it is a dictionary whose keys are texts."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        hint = 'give a dictionary, such as {"prompt": "a red fish"}'
        raise UsageError(f"inputs: values go by the names of inputs, and can't be {_a(given)}", hint=hint)
    _check_names(given, "inputs")
    return given


def axes_of(given: Any) -> dict[str, list[Any]]:
    """The values of each axis of a sweep.

    Raises:
        UsageError: it isn't a dictionary of inputs, is empty, or an axis has no list of values.
    """
    hint = 'give lists of values, such as {"seed": [1, 2, 3]}'
    if not isinstance(given, Mapping):
        raise UsageError(f"axes: values go by the names of inputs, and can't be {_a(given)}", hint=hint)
    _check_names(given, "axes")
    if not given:
        raise UsageError("there are no axes", hint=hint)
    for name, values in given.items():
        if isinstance(values, str | bytes | Mapping) or not _is_iterable(values):
            raise UsageError(f"axis {name}: the values are a list, and can't be {_a(values)}", hint=hint)
    return {name: list(values) for name, values in given.items()}


def _check_names(given: Mapping[Any, Any], where: str) -> None:
    for name in given:
        if not isinstance(name, str):
            hint = 'names are texts, such as "seed" or "sampler.seed"'
            raise UsageError(f"{where}: {_a(name)} is not the name of an input", hint=hint)


def _is_iterable(values: Any) -> bool:
    try:
        iter(values)
    except TypeError:  # also of a tensor that holds a single value, though it has the method
        return False
    return True


def _a(given: Any) -> str:
    """What something is, in short: "the number 3", "a list"."""
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
    name = type(given).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
