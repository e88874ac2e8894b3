"""The kinds of node there are, by name; handed around, never a global."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from engine.errors import KinographError, MissingError, UsageError
from engine.node import Node
from engine.spec import Pack

FILE_MODULE = "kinograph_file_"
"""Begins the name of a module that was loaded from a file; a digest of the file ends it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The kinds that a pack offers, and whether they can be used."""

    pack: Pack
    modules: tuple[str, ...]
    """The modules whose node classes are its kinds."""
    kinds: tuple[str, ...] = ()
    """Empty while unknown; if there is a problem, none of them is in the registry."""
    problem: str | None = None
    """Why the pack can't be used: a phrase to follow its name."""
    is_imported: bool = False
    """Whether the registry holds the pack's own classes rather than stand-ins (`engine.packs.standin`)."""

    def __str__(self) -> str:
        return f"the pack {self.pack}"


class Registry(Mapping[str, type[Node]]):
    """Node classes by the name of their kind.

    Args:
        kinds: the classes; those of packs may be stand-ins.
        packs: all installed packs, including those that can't be used.

    Raises:
        UsageError: two kinds have the same name.
    """

    def __init__(self, kinds: Iterable[type[Node]], packs: Iterable[Offer] = ()) -> None:
        self._kinds: dict[str, type[Node]] = {}
        self.packs = tuple(packs)
        for kind in kinds:
            name = kind.spec.kind
            if (other := self._kinds.setdefault(name, kind)) is not kind:
                raise UsageError(
                    f"two kinds of node are called {name}: of {origin(other)} and of {origin(kind)}",
                    hint="rename one of the classes",
                )

    @classmethod
    def of_modules(cls, *modules: ModuleType) -> Registry:
        """All the node classes that these modules define, not those they import."""
        return cls(
            member
            for module in modules
            for member in vars(module).values()
            if isinstance(member, type) and issubclass(member, Node) and member.__module__ == module.__name__
        )

    def imported(self, names: Iterable[str]) -> Registry:
        """The same with the packs of these kinds imported, since only their own classes can run.

        Raises:
            KinographError: a pack can't be imported.
        """
        wanted = {pack for name in names if name in self and (pack := self[name].spec.pack)}
        waiting = [offer for offer in self.packs if offer.pack in wanted and not offer.is_imported]
        if not waiting:
            return self
        kinds = {name: kind for name, kind in self.items() if kind.spec.pack not in {offer.pack for offer in waiting}}
        found = [kind for offer in waiting for kind in _imported(offer)]
        packs = [replace(offer, is_imported=True) if offer in waiting else offer for offer in self.packs]
        return Registry([*kinds.values(), *found], packs)

    def why_not(self, name: str) -> str | None:
        """Why an unknown kind may be missing: a pack that has it, or may have it, can't be used."""
        refused = [offer for offer in self.packs if offer.problem]
        for offer in refused:
            if name in offer.kinds:
                return f"{offer} has it, but {offer.problem}"
        return next((f"{offer} {offer.problem}" for offer in refused if not offer.kinds), None)

    def __getitem__(self, name: str) -> type[Node]:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def origin(kind: type[Node]) -> str:
    """Where a kind comes from, for messages."""
    if kind.spec.pack:
        return f"the pack {kind.spec.pack}"
    if kind.__module__.startswith(FILE_MODULE):
        return f"'{sys.modules[kind.__module__].__file__}'"
    return "Kinograph" if kind.__module__.startswith("nodes.") else kind.__module__


def _imported(offer: Offer) -> Iterable[type[Node]]:
    """A pack's own classes; what it prints on import goes to standard error, since standard output is for results."""
    try:
        installed = version(offer.pack.name)
        with redirect_stdout(sys.stderr):
            found = Registry.of_modules(*map(importlib.import_module, offer.modules))
    except (Exception, SystemExit) as error:
        raise KinographError(f"{offer} can't be imported: {reason(error)}") from error
    if installed != offer.pack.version:
        message = f"{offer} has been replaced by version {installed} since Kinograph was started"
        raise KinographError(message, hint="start it again")
    for kind in found.values():
        kind.spec = replace(kind.spec, pack=offer.pack)
    return found.values()


def reason(error: BaseException) -> str:
    """An exception from other people's code on one line, with the place that raised it."""
    ours = [Path(module.__file__ or "").parent for module in (sys.modules[__name__], importlib)]
    paths = ((Path(frame.filename), frame) for frame in traceback.extract_tb(error.__traceback__))
    theirs = [frame for path, frame in paths if path.is_absolute() and not any(map(path.is_relative_to, ours))]
    where = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


class _FileLoader(SourceFileLoader):
    """Runs exactly the source that the module is named after.

    Python would take a file's bytecode of before for its present one if both have the same size and second.
    """

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)


def load_file(path: Path) -> ModuleType:
    """The module that a Python file defines, under a name of its own that changes with the file.

    Raises:
        MissingError: there is no such file.
        UsageError: it can't be read or run.
    """
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise MissingError(f"there is no file '{path}'") from None
    except OSError as error:
        raise UsageError(f"can't read '{path}': {error.strerror}") from None
    except ValueError as error:  # a null byte
        raise UsageError(f"{str(path)!r} can't be the name of a file: {error}") from None
    name = FILE_MODULE + sha256(source).hexdigest()[:16]
    loader = _FileLoader(name, path, source)
    spec = spec_from_file_location(name, path, loader=loader)
    if spec is None or path.suffix != ".py":
        raise UsageError(f"'{path}' is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where pydantic looks up what annotations name
    try:
        loader.exec_module(module)
    except KinographError:
        raise
    except SystemExit as error:
        hint = "put what only a program does under `if __name__ == '__main__':`"
        raise UsageError(f"'{path}' ends the process (SystemExit: {error})", hint=hint) from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"see its line {lines[-1]}" if lines else None
        raise UsageError(f"'{path}' fails: {type(error).__name__}: {error}", hint=where) from error
    return module
