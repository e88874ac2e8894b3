"""Group options that belong together: a command takes a frozen dataclass whose fields are options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, TypeVar, get_type_hints

Returned = TypeVar("Returned")


def with_groups(command: Callable[..., Returned]) -> Callable[..., Returned]:
    """The command as typer needs it: each dataclass among its parameters is replaced by the dataclass's fields."""
    hints = get_type_hints(command, include_extras=True)
    taken = inspect.signature(command).parameters
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    flat: list[Parameter] = []
    for name, parameter in taken.items():
        kind = hints[name]
        if is_dataclass(kind) and isinstance(kind, type):
            inner = get_type_hints(kind, include_extras=True)
            flat += [_parameter(field, inner[field.name]) for field in fields(kind)]
            groups[name] = kind, [field.name for field in fields(kind)]
        else:
            flat.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))

    @wraps(command)
    def called(**given: Any) -> Returned:
        made = {name: kind(**{inner: given.pop(inner) for inner in names}) for name, (kind, names) in groups.items()}
        return command(**given, **made)

    called.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return called


def _parameter(field: Field[Any], annotation: Any) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
