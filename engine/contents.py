"""What the files and models that a workflow names hold."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from engine.errors import MissingError, naming, suggestion
from engine.models.digest import digest
from engine.models.sources import Local, parse


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
        self._seen: dict[tuple[str, str], Content] = {}

    def of(self, holds: Literal["model", "media"], name: str) -> Content:
        """The content of a model's source or a media file.

        Raises:
            MissingError: there is none, or it can't be read.
        """
        if (holds, name) not in self._seen:
            with naming(name):
                self._seen[holds, name] = self._model(name) if holds == "model" else self._media(name)
        return self._seen[holds, name]

    def _model(self, source: str) -> Content:
        place = parse(source, self._base)
        if isinstance(place, Local) and place != parse(source):
            return Content(str(place.path.absolute()), place.identity())
        return Content(source, place.identity())

    def _media(self, name: str) -> Content:
        folders = [folder for folder in (self._base, Path.cwd()) if folder is not None]
        paths = [folder / Path(name).expanduser() for folder in folders]
        for path in paths:
            if path.is_file():
                return Content(str(path.absolute()), digest(path))
        nearby = {other.name for path in paths if path.parent.is_dir() for other in path.parent.iterdir()}
        looked = " and ".join(dict.fromkeys(str(path.parent) for path in paths))
        raise MissingError(f"there is no file '{name}' in {looked}", hint=suggestion(Path(name).name, nearby))
