"""The types of inputs and outputs as JSON data, and back: told by a process that has a pack's code, for one without it.

    int, float, str, bool, bytes, None, Any → "int"        tuple[str, ...] → {"generic": "tuple", "of": ["str", "..."]}
    int | None → {"union": ["int", "None"]}                Literal["a", 2] → {"literal": ["a", 2]}
    Annotated[int, Field(ge=1)] → {"annotated": "int", "marks": [{"ge": 1}]}
    a class → {"class": "blur_pack.values:Mask"}           anything else → {"other": "as it is written"}

Classes of Kinograph and of Python's own library stay what they are. Any other becomes a class of the same name, made
of what is told of it: its bases, and whether its values can be stored. Only a pack's own code knows what its validators
do: constants are not judged by what comes after them.
"""

from __future__ import annotations

import collections.abc
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic import StringConstraints as Text
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from engine.node import Deprecated, FileContents, FilePrefix, Lazy, MayRead, any_file
from engine.values import Value

PLAIN: Mapping[str, Any] = {
    **{plain.__name__: plain for plain in (int, float, str, bool, bytes)},
    "None": types.NoneType,
    "Any": Any,
}
GENERIC: Mapping[str, Any] = {
    **{generic.__name__: generic for generic in (tuple, list, dict, set, frozenset)},
    **{name: getattr(collections.abc, name) for name in ("Sequence", "Mapping", "Iterable", "Set")},
}
NUMBERS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "allow_inf_nan", "strict")
"""What pydantic's `Field` takes that a constant is judged by."""
TEXTS = ("strip_whitespace", "to_upper", "to_lower")
"""The same of `StringConstraints`."""


class ClassData(BaseModel):
    """What is told of a class."""

    model_config = ConfigDict(frozen=True)

    bases: tuple[str, ...] = ()
    storable: bool | None = None
    """Whether its values can be written to disk; None if it is no `Value`."""


class Encoder:
    """Turns annotations into JSON data, and gathers what is to be told of the classes in them."""

    def __init__(self) -> None:
        self.classes: dict[str, ClassData] = {}

    def encode(self, annotation: Any) -> Any:
        origin, args = get_origin(annotation), get_args(annotation)
        if (plain := _name_in(PLAIN, types.NoneType if annotation is None else annotation)) is not None:
            return plain
        if origin is Annotated:
            marks = [told for mark in annotation.__metadata__ for told in _marks(mark)]
            return {"annotated": self.encode(args[0]), "marks": marks} if marks else self.encode(args[0])
        if origin in (Union, types.UnionType):
            return {"union": [self.encode(member) for member in args]}
        if origin is Literal and all(isinstance(choice, str | int | None) for choice in args):
            return {"literal": list(args)}
        if (generic := _name_in(GENERIC, origin)) is not None:
            return {"generic": generic, "of": ["..." if arg is Ellipsis else self.encode(arg) for arg in args]}
        if isinstance(annotation, type) and origin is None:
            return {"class": self._class(annotation)}
        return {"other": str(annotation)}

    def _class(self, cls: type) -> str:
        name = f"{cls.__module__}:{cls.__qualname__}"
        if name not in self.classes and _owner(name) != "python":
            bases = [base for base in cls.__bases__ if base in (int, float, str, bytes) or _is_told(base)]
            storable = bool(cls.storable) if issubclass(cls, Value) else None
            self.classes[name] = ClassData(bases=tuple(map(self._class, bases)), storable=storable)
        return name


class Decoder:
    """Turns JSON data into annotations; what is called alike is one class, whichever pack told of it."""

    def __init__(self) -> None:
        self._made: dict[str, type] = {}

    def decode(self, data: Any, classes: Mapping[str, ClassData]) -> Any:
        """Raises ValueError or LookupError for data that `Encoder` doesn't make."""
        match data:
            case str():
                return PLAIN[data]
            case {"annotated": inner, "marks": list(marks)}:
                known = tuple(_judged(marks))
                return Annotated[self.decode(inner, classes), *known] if known else self.decode(inner, classes)
            case {"union": list(members)}:
                return Union[tuple(self.decode(member, classes) for member in members)]  # noqa: UP007
            case {"literal": list(choices)}:
                return Literal[tuple(choices)]
            case {"generic": str(name), "of": list(args)}:
                return GENERIC[name][tuple(Ellipsis if arg == "..." else self.decode(arg, classes) for arg in args)]
            case {"class": str(name)}:
                return self._class(name, classes)
            case {"other": str(text)}:
                return self._made.setdefault(text, type(text, (Unjudged,), {}))
        raise ValueError(f"{data!r} tells of no type")

    def _class(self, name: str, classes: Mapping[str, ClassData]) -> type:
        if isinstance(known := named(name), type):
            return known
        if name not in self._made:
            about = classes[name]
            module, _, qualname = name.partition(":")
            bases = tuple(self._class(base, classes) for base in about.bases)
            space: dict[str, Any] = {"__module__": module, "__slots__": ()}
            if about.storable is None:
                space["__get_pydantic_core_schema__"] = Unjudged.__get_pydantic_core_schema__
            else:
                space["storable"] = about.storable
            self._made[name] = types.new_class(qualname.rpartition(".")[2], bases, {}, lambda own: own.update(space))
        return self._made[name]


class Unjudged:
    """In the place of a type, or a mark, that only a pack's own code knows: any constant may be right."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()


def found_as_it_seems(path: Path, may_read: MayRead = any_file, /) -> list[Path]:
    """The files that a path stands for at first sight, in the place of a pack's own way to find them."""
    if not path.exists() and re.search(r"[*?\[]", path.name):
        return sorted(filter(may_read, path.parent.glob(path.name)))
    return [path] if path.exists() and may_read(path) else []


def named(name: str) -> Any:
    """What a name like `nodes.inputs:Seed` stands for, if it is Kinograph's or Python's own, else None."""
    module, _, qualname = name.partition(":")
    owner = _owner(name)
    if owner == "python" or module.partition(".")[0] == "engine":
        try:
            found: Any = import_module(module)
        except ImportError:
            return None
    else:
        found = sys.modules.get(module) if owner == "kinograph" else None  # those that list their kinds are, by then
    return reduce(lambda part, step: getattr(part, step, None), qualname.split("."), found)


def _owner(name: str) -> str:
    package = name.partition(":")[0].partition(".")[0]
    if package in ("engine", "nodes", "kinograph"):
        return "kinograph"
    return "python" if package in sys.stdlib_module_names else "other"


def _is_told(base: type) -> bool:
    """Whether a base class says something of what fits where."""
    return _owner(f"{base.__module__}:{base.__qualname__}") != "python" and base is not BaseModel


def _name_in(table: Mapping[str, Any], thing: Any) -> str | None:
    return next((name for name, known in table.items() if known is thing), None)


def _marks(mark: Any) -> Iterator[dict[str, Any]]:
    """What is told of a mark in an Annotated; nothing of those that have no part in judging constants."""
    if isinstance(mark, FieldInfo):
        for part in mark.metadata:
            yield from _marks(part)
    elif getattr(mark, "__is_annotated_types_grouped_metadata__", None):
        for part in mark:
            yield from _marks(part)
    elif isinstance(mark, Lazy):
        yield {"lazy": True}
    elif isinstance(mark, FilePrefix):
        yield {"prefix": True}
    elif isinstance(mark, Deprecated):
        yield {"deprecated": mark.instead}
    elif isinstance(mark, FileContents):
        yield {"file": mark.holds, "find": _reference(mark.find)}
    elif isinstance(mark, AfterValidator | BeforeValidator) and (name := _reference(mark.func)):
        yield {"after" if isinstance(mark, AfterValidator) else "before": name}
    elif isinstance(mark, AfterValidator):
        yield {"unknown": "after"}
    elif constraints := dict(_constraints(mark)):
        yield constraints
    elif hasattr(mark, "__get_pydantic_core_schema__"):
        yield {"unknown": "all"}


def _constraints(mark: Any) -> Iterator[tuple[str, Any]]:
    for name in (*NUMBERS, *TEXTS):
        value = getattr(mark, name, None)
        value = value.pattern if isinstance(value, re.Pattern) else value
        if isinstance(value, bool | int | float | str):
            yield name, value


def _reference(thing: Any) -> str | None:
    """The name of a function of Kinograph's, if it can be found by it."""
    name = f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"
    return name if thing is not None and _owner(name) == "kinograph" and named(name) is thing else None


def _judged(marks: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """The marks, without those whose part in judging constants can't be known; raises ValueError for what is none."""
    marks = list(marks)
    judges = not any(mark.get("unknown") == "all" for mark in marks)
    if not judges:
        yield Unjudged()
    for mark in marks:
        match mark:
            case {"lazy": True}:
                yield Lazy()
            case {"prefix": True}:
                yield FilePrefix()
            case {"deprecated": str(instead)}:
                yield Deprecated(instead)
            case {"file": ("model" | "media" | "files") as holds, "find": find}:
                known = named(find) if find else None
                is_guess = holds == "files" and known is None
                yield FileContents(holds, found_as_it_seems if is_guess else known, is_guess)
            case {"unknown": _}:
                judges = False
            case {"after": str(name)} | {"before": str(name)} if judges:
                made = AfterValidator if "after" in mark else BeforeValidator
                if (function := named(name)) is not None:
                    yield made(function)
                else:
                    judges = False
            case _ if judges and mark.keys() <= {*NUMBERS}:
                yield Field(**mark)
            case _ if judges and mark.keys() <= {*TEXTS}:
                yield Text(**mark)
            case _ if judges:
                raise ValueError(f"{mark!r} is no mark")
