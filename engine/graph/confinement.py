"""Confine what a workflow reads on this machine to certain folders, however it spells the names.

A name is checked in two steps. As written, it must not lead outside the folders; only then is the disk accessed, so
that a refusal reveals nothing about other files. With all links followed, it must still be inside one of them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path, PureWindowsPath

from engine.errors import WorkflowError
from engine.models.folders import NO_FOLDERS, ModelFolders
from engine.values import brief


def annotated(name: str, roots: Collection[str]) -> tuple[str, str | None]:
    """A name such as `snail.png [output]` as the name alone and the folder, None if it names none of `roots`."""
    bare, bracket, end = name.rpartition("[")
    if bracket and end.endswith("]") and end[:-1] in roots:
        return bare.removesuffix(" "), end[:-1]
    return name, None


class Confinement:
    """The folders that may be read, with everything below them.

    Args:
        roots: the folders by name. A file's name may end in one of these, `snail.png [output]`, and is then relative to
            that folder.
        models: further folders, of models, which need not be named.
    """

    def __init__(self, roots: Mapping[str, Path], models: ModelFolders = NO_FOLDERS) -> None:
        self._opened = models.opened()
        self._roots = {name: Path(os.path.realpath(root)) for name, root in roots.items()}
        given = [*roots.values(), *(place.folder for place in models.places)]
        written = (Path(os.path.abspath(folder)) for folder in given)  # noqa: PTH100 - without following links
        self._folders = tuple({*(Path(os.path.realpath(folder)) for folder in given), *written})

    def locate(self, name: str, root: str) -> Path:
        """The path, existing or not, of a file that a workflow names, with all links followed.

        Args:
            name: as it is written.
            root: the folder that it is relative to if it names none.

        Raises:
            WorkflowError: it is in none of the folders.
        """
        bare, named = annotated(name, self._roots)
        root = named or root
        strange = bare.startswith("~") or "\0" in bare or "\\" in bare or PureWindowsPath(bare).drive
        if root in self._roots and not strange:
            written = os.path.normpath(self._roots[root] / bare)
            if self._holds(written) and self._holds(real := os.path.realpath(written)):
                return Path(real)
        hint = f"put it into the folder '{root}' and give its name there"
        raise WorkflowError(f"{brief(name)} is outside the folders that may be read", hint=hint)

    def model(self, source: str, wanted: Collection[str] = ()) -> Path:
        """The path, existing or not, of a model that a workflow names, with all links followed.

        Args:
            source: as it is written: a name in the folders of models, or else one as for "models" in `locate`.
            wanted: the categories that count first where several have a model of that name.

        Raises:
            WorkflowError: it is in none of the folders.
            MissingError: it isn't known which of several models is meant.
        """
        found = self._opened.choose(source, wanted, self.allows)
        return Path(os.path.realpath(found)) if found else self.locate(source, "models")

    def named(self, path: Path) -> str:
        """A file's name within its folder; one that is in none of them stays as it is."""
        folders = [folder for folder in self._folders if path.is_relative_to(folder)]
        return path.relative_to(folders[0]).as_posix() if folders else str(path)

    def allows(self, path: Path) -> bool:
        """Whether a file may be read; also false for a path that no file can have."""
        try:
            return self._holds(os.path.abspath(path)) and self._holds(os.path.realpath(path))  # noqa: PTH100
        except ValueError:  # a null byte
            return False

    def _holds(self, path: str) -> bool:
        return any(Path(path).is_relative_to(folder) for folder in self._folders)
