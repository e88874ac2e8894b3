"""What the files and models that a workflow names hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from engine.errors import MissingError, naming, suggestion
from engine.models.digest import digest, states
from engine.models.sources import Local, parse
from engine.node import FileContents


class Content(NamedTuple):
    """A file as a node is to name it, wherever it is run, and a digest of what it holds."""

    name: str
    digest: str


class Contents:
    """Looks at each file once; a check has its own, so that a file replaced since is noticed.

    Args:
        base: the folder to which names are relative, before the working folder.
    """

    def __init__(self, base: Path | None) -> None:
        self._base = base
        self._seen: dict[tuple[FileContents, str], Content] = {}

    def of(self, file: FileContents, name: str) -> Content:
        """The content of what an input names.

        Raises:
            MissingError: there is none, or it can't be read.
        """
        if (file, name) not in self._seen:
            with naming(name):
                self._seen[file, name] = self._model(name) if file.holds == "model" else self._media(name, file.find)
        return self._seen[file, name]

    def _model(self, source: str) -> Content:
        place = parse(source, self._base)
        if isinstance(place, Local) and place != parse(source):
            return Content(str(place.path.absolute()), place.identity())
        return Content(source, place.identity())

    def _media(self, name: str, find: Callable[[Path], Sequence[Path]] | None) -> Content:
        folders = [folder for folder in (self._base, Path.cwd()) if folder is not None]
        paths = [folder / Path(name).expanduser() for folder in folders]
        for path in paths:
            if find and (files := find(path)):
                return Content(str(path.absolute()), states(files))
            if not find and path.is_file():
                return Content(str(path.absolute()), digest(path))
        nearby = {other.name for path in paths if path.parent.is_dir() for other in path.parent.iterdir()}
        looked = " and ".join(dict.fromkeys(str(path.parent) for path in paths))
        raise MissingError(
            f"there is no{'thing like' if find else ' file'} '{name}' in {looked}",
            hint=suggestion(Path(name).name, nearby),
        )
