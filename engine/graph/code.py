"""A digest of the code of kinds that aren't in a file or package: defined in a notebook, in a script or at a prompt.

People change such a class, run it again and forget its version. So a digest of the code that would run enters the key:
the bytecode of the class and of the functions and classes of the same module that it uses, however deep, and the plain
values that these name. Comments and positions don't count, nor do imported modules, which a version stands for.

- A list, a dictionary and a class's own value count as they were when they were first seen, since code that modifies
  them would otherwise never find its own results again. A newly assigned one is a different object.
- An object of any other type, such as a loaded model, counts by identity: results of a kind that uses one aren't
  reused from an earlier process.
"""

from __future__ import annotations

import dis
import enum
import weakref
from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from uuid import uuid4

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
_SEEN: dict[tuple[int, str], tuple[Callable[[], object], str]] = {}
"""By an object's `id` and a part's name: a reference to the object, if it still exists, and the digest of the part when
it was first seen."""


def code_digest(kind: type) -> str:
    """64 hexadecimal digits, equal in all processes for the same code, unless it uses objects of a process."""
    return _Walk(kind.__module__).digest(kind)


class _Walk:
    """Describes objects as text, and lists those of one module that are to be described in full."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._found: list[Any] = []
        self._numbers: dict[int, int] = {}

    def digest(self, value: Any) -> str:
        """The digest of an object and of all that it uses; of a walk that has not started."""
        digest = sha256(self.describe(value).encode())
        for found in self._found:  # grows while it is walked
            text = self._class(found) if isinstance(found, type) else self._function(found)
            digest.update(f"\n{text}".encode())
        return digest.hexdigest()

    def describe(self, value: Any) -> str:
        """A description of an object, the same wherever the object occurs."""
        match value:
            case _ if type(value) in PLAIN:
                return repr(value)
            case tuple():
                return f"{self.describe(type(value))}({','.join(map(self.describe, value))})"
            case frozenset():
                return f"{{{','.join(sorted(map(self.describe, value)))}}}"
            case list() | set() | dict() if type(value) in (list, set, dict):
                return self._first_seen(value, lambda: _items(value))
            case CodeType():
                return self._code(value)
            case type() | FunctionType():
                return self._number(value) if value.__module__ == self._module else _name(value)
            case ModuleType() | BuiltinFunctionType():
                return _name(value)
            case enum.Enum():
                return f"{self.describe(type(value))}.{value.name}"
            case staticmethod() | classmethod() | MethodType():
                return f"{type(value).__name__} {self.describe(value.__func__)}"
            case property():
                return f"property {self.describe((value.fget, value.fset, value.fdel))}"
            case partial():
                return f"partial {self.describe((value.func, value.args, tuple(value.keywords.items())))}"
        if callable(value) and (wrapped := getattr(value, "__wrapped__", None)):
            return f"{_name(type(value))} {self.describe(wrapped)}"
        if getattr(type(value), "__module__", "") in ("typing", "types"):  # an annotation
            return repr(value)
        return self._first_seen(value, lambda: uuid4().hex)

    def _number(self, value: Any) -> str:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._found)
            self._found.append(value)
        return f"#{self._numbers[id(value)]}"

    def _first_seen(self, value: object, content: Callable[[], Any], part: str = "") -> str:
        """The digest of what an object, or a part of it, held when it was first seen."""
        key = id(value), part
        if (seen := _SEEN.get(key)) and seen[0]() is value:
            return seen[1]
        try:
            there: Callable[[], object] = weakref.ref(value)
        except TypeError:
            there = lambda: value  # noqa: E731
        _SEEN[key] = there, "itself"  # for an object that contains itself
        digest = _Walk(self._module).digest(content())
        _SEEN[key] = there, digest
        return digest

    def _class(self, kind: type) -> str:
        lines = [f"class {kind.__qualname__} {self.describe(kind.__bases__)}"]
        for name, member in sorted(vars(kind).items()):
            if isinstance(member, FunctionType | staticmethod | classmethod | property):
                lines.append(f"{name} {self.describe(member)}")
            elif not name.startswith("_") and name not in ("spec", "model_config"):
                lines.append(f"{name} {self._first_seen(kind, partial(vars(kind).get, name), name)}")
        return " ".join(lines)

    def _function(self, function: FunctionType) -> str:
        cells = [_content(cell) for cell in function.__closure__ or ()]
        defaults = function.__defaults__, tuple((function.__kwdefaults__ or {}).items())
        around = function.__globals__
        named = [f"{name} {self.describe(around[name])}" for name in _global_names(function.__code__) if name in around]
        return " ".join([self._code(function.__code__), self.describe((*defaults, *cells)), *named])

    def _code(self, code: CodeType) -> str:
        shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        run = code.co_code, getattr(code, "co_exceptiontable", b"")
        return f"code {shape} {names} {run} {self.describe(code.co_consts)}"


@cache
def _global_names(code: CodeType) -> tuple[str, ...]:
    """The global names that code, and the functions within it, read and never write."""
    read, written = set[str](), set[str]()
    waiting = [code]
    while waiting:
        code = waiting.pop()
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(instruction.argval)
            elif instruction.opname == "STORE_GLOBAL":
                written.add(instruction.argval)
    return tuple(sorted(read - written))


def _items(value: list[Any] | set[Any] | dict[Any, Any]) -> tuple[Any, ...]:
    """What a collection holds, with its type, as something that can't change."""
    held = frozenset(value) if isinstance(value, set) else tuple(value.items() if isinstance(value, dict) else value)
    return type(value), held


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing has been assigned to it yet
        return None


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
