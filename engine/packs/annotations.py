"""The types of inputs and outputs as JSON data, and back: encoded with a pack's code at hand, decoded without it.

    int, float, str, bool, bytes, None, Any → "int"        tuple[str, ...] → {"generic": "tuple", "of": ["str", "..."]}
    int | None → {"union": ["int", "None"]}                Literal["a", 2] → {"literal": ["a", 2]}
    Annotated[int, Field(ge=1)] → {"annotated": "int", "marks": [{"ge": 1}]}
    a class → {"class": "blur_pack.values:Mask"}           anything else → {"other": "its text"}

Classes of Kinograph and of Python's standard library are decoded as themselves. For any other, a class of the same name
is built, with the same base classes and storability. What a pack's own validators do is unknown without its code, so
constraints that follow one are left out.
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

from engine.spec import Deprecated, FileContents, FilePrefix, Lazy, MayRead, any_file
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
"""The constraints that pydantic's `Field` takes."""
TEXTS = ("strip_whitespace", "to_upper", "to_lower")
"""Those that only `StringConstraints` takes."""


class ClassData(BaseModel):
    """What is known of a class without its code."""

    model_config = ConfigDict(frozen=True)

    bases: tuple[str, ...] = ()
    storable: bool | None = None
    """Whether its values can be written to disk; None if it is no `Value`."""


class Encoder:
    """Turns annotations into JSON data, and collects the classes in them."""

    def __init__(self) -> None:
        self.classes: dict[str, ClassData] = {}

    def encode(self, annotation: Any) -> Any:
        origin, args = get_origin(annotation), get_args(annotation)
        if (plain := _name_in(PLAIN, types.NoneType if annotation is None else annotation)) is not None:
            return plain
        if origin is Annotated:
            marks = [data for mark in annotation.__metadata__ for data in _marks(mark)]
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
            bases = [base for base in cls.__bases__ if base in (int, float, str, bytes) or _is_of_pack(base)]
            storable = bool(cls.storable) if issubclass(cls, Value) else None
            self.classes[name] = ClassData(bases=tuple(map(self._class, bases)), storable=storable)
        return name


class Decoder:
    """Turns JSON data into annotations; a name stands for the same class in the descriptions of all packs."""

    def __init__(self) -> None:
        self._made: dict[str, type] = {}

    def decode(self, data: Any, classes: Mapping[str, ClassData]) -> Any:
        """Raises ValueError or LookupError for data that `Encoder` doesn't make."""
        match data:
            case str():
                return PLAIN[data]
            case {"annotated": inner, "marks": list(marks)}:
                known = tuple(_known_marks(marks))
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
                return self._made.setdefault(text, type(text, (Unchecked,), {}))
        raise ValueError(f"{data!r} describes no type")

    def _class(self, name: str, classes: Mapping[str, ClassData]) -> type:
        if isinstance(known := named(name), type):
            return known
        if name not in self._made:
            about = classes[name]
            module, _, qualname = name.partition(":")
            bases = tuple(self._class(base, classes) for base in about.bases)
            space: dict[str, Any] = {"__module__": module, "__slots__": ()}
            if about.storable is None:
                space["__get_pydantic_core_schema__"] = Unchecked.__get_pydantic_core_schema__
            else:
                space["storable"] = about.storable
            self._made[name] = types.new_class(qualname.rpartition(".")[2], bases, {}, lambda own: own.update(space))
        return self._made[name]


class Unchecked:
    """Takes the place of a type or mark that only the pack's code can check: any constant is accepted."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()


def found_as_it_seems(path: Path, may_read: MayRead = any_file, /) -> list[Path]:
    """The files that a path seems to name, where only the pack's code knows which it does."""
    if not path.exists() and re.search(r"[*?\[]", path.name):
        return sorted(filter(may_read, path.parent.glob(path.name)))
    return [path] if path.exists() and may_read(path) else []


def named(name: str) -> Any:
    """What a name like `nodes.inputs:Seed` stands for, if it is in Kinograph or the standard library, else None."""
    module, _, qualname = name.partition(":")
    owner = _owner(name)
    if owner == "python" or module.partition(".")[0] == "engine":
        try:
            found: Any = import_module(module)
        except ImportError:
            return None
    else:
        found = sys.modules.get(module) if owner == "kinograph" else None  # those that kinds use are loaded by then
    return reduce(lambda part, step: getattr(part, step, None), qualname.split("."), found)


def _owner(name: str) -> str:
    package = name.partition(":")[0].partition(".")[0]
    if package in ("engine", "nodes", "kinograph"):
        return "kinograph"
    return "python" if package in sys.stdlib_module_names else "other"


def _is_of_pack(base: type) -> bool:
    """Whether a base class is one that inputs may ask for, rather than a detail of Python's or pydantic's."""
    return _owner(f"{base.__module__}:{base.__qualname__}") != "python" and base is not BaseModel


def _name_in(table: Mapping[str, Any], thing: Any) -> str | None:
    return next((name for name, known in table.items() if known is thing), None)


def _marks(mark: Any) -> Iterator[dict[str, Any]]:
    """A mark in an Annotated as JSON data; nothing for marks that don't affect which constants are accepted."""
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
        forms = {"categories": [*mark.categories], "takes": [*mark.takes]}
        yield {"file": mark.holds, "find": _reference(mark.find)} | {name: some for name, some in forms.items() if some}
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
    """The name of one of Kinograph's own functions, if it can be imported by that."""
    name = f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"
    return name if thing is not None and _owner(name) == "kinograph" and named(name) is thing else None


def _texts(data: Any) -> tuple[str, ...]:
    """The texts of a list; none if it isn't there."""
    return tuple(map(str, data or ()))


def _known_marks(marks: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """The marks, without constraints that follow an unknown validator; raises ValueError for data that is no mark."""
    marks = list(marks)
    is_known = not any(mark.get("unknown") == "all" for mark in marks)
    if not is_known:
        yield Unchecked()
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
                find = found_as_it_seems if is_guess else known
                yield FileContents(holds, find, is_guess, _texts(mark.get("categories")), _texts(mark.get("takes")))
            case {"unknown": _}:
                is_known = False
            case {"after": str(name)} | {"before": str(name)} if is_known:
                made = AfterValidator if "after" in mark else BeforeValidator
                if (function := named(name)) is not None:
                    yield made(function)
                else:
                    is_known = False
            case _ if is_known and mark.keys() <= {*NUMBERS}:
                yield Field(**mark)
            case _ if is_known and mark.keys() <= {*TEXTS}:
                yield Text(**mark)
            case _ if is_known:
                raise ValueError(f"{mark!r} describes no mark")
