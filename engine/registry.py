"""The kinds of node there are, by name; handed around, never a global."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from engine.errors import KinographError, MissingError, UsageError
from engine.node import Node

FILE_MODULE = "kinograph_file_"
"""Begins the name of a module that was loaded from a file; a digest of the file ends it."""


class Registry(Mapping[str, type[Node]]):
    """Node classes by the name of their kind."""

    def __init__(self, kinds: Iterable[type[Node]]) -> None:
        self._kinds: dict[str, type[Node]] = {}
        for kind in kinds:
            name = kind.spec.kind
            if self._kinds.setdefault(name, kind) is not kind:
                raise UsageError(f"two kinds of node are called {name}", hint="rename one of the classes")

    @classmethod
    def of_modules(cls, *modules: ModuleType) -> Registry:
        """All the node classes that these modules define, not those they import."""
        return cls(
            member
            for module in modules
            for member in vars(module).values()
            if isinstance(member, type) and issubclass(member, Node) and member.__module__ == module.__name__
        )

    def __getitem__(self, name: str) -> type[Node]:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def load_file(path: Path) -> ModuleType:
    """The module that a Python file defines, under a name of its own that changes with the file.

    Raises:
        MissingError: there is no such file.
        UsageError: it can't be read or run.
    """
    try:
        name = FILE_MODULE + sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        raise MissingError(f"there is no file '{path}'") from None
    except OSError as error:
        raise UsageError(f"can't read '{path}': {error.strerror}") from None
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"'{path}' is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where pydantic looks up what annotations name
    try:
        spec.loader.exec_module(module)
    except KinographError:
        raise
    except Exception as error:
        raise UsageError(f"'{path}' fails: {type(error).__name__}: {error}", hint="--debug shows where") from error
    return module
