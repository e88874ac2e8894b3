"""Digest the files and models that a workflow names."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from engine.errors import MissingError, WorkflowError, path_errors, suggestion
from engine.graph.confinement import Confinement
from engine.models.digest import Watch, digest, states
from engine.models.folders import NO_FOLDERS, PICKLED, ModelFolders
from engine.models.scanning import scan
from engine.models.sources import SOURCE_HINT, Local, is_path, parse
from engine.models.sources import watch as watch_model
from engine.spec import FileContents, Found, MayRead, any_file

MOST_HINTS = 20
"""Missing models up to which similar names are looked for."""
SHOWN = 3
"""Most files that an error lists as found instead of the wanted ones."""


class Content(NamedTuple):
    """A file's name as a node gets it, valid wherever the node runs, and a digest of the file's contents."""

    name: str
    digest: str


class Contents:
    """Digests each file once; each check has its own, so that a file replaced since is noticed.

    Args:
        base: the folder to which names are relative, before the working folder.
        confinement: the folders that may be read, if not all; names are relative to its "input" and "models" then.
        folders: where models are looked for after the working folder, if there is no confinement.
    """

    def __init__(
        self, base: Path | None, confinement: Confinement | None = None, folders: ModelFolders = NO_FOLDERS
    ) -> None:
        self.in_folders: set[str] = set()
        """The names that nodes get of models that were found in `folders`."""
        self._base = base
        self._folders = folders
        self._models: list[str] | None = None
        self._hints = 0
        self._confinement = confinement
        self._may_read = confinement.allows if confinement else any_file
        self._seen: dict[tuple[FileContents, str], Content] = {}

    def of(self, file: FileContents, name: str) -> Content:
        """The content of what an input names.

        Raises:
            MissingError: it doesn't exist, or can't be read.
            WorkflowError: it may not be read.
            InputError: it names files that may not be read, or don't exist.
        """
        if (file, name) not in self._seen:
            with path_errors(name):
                self._seen[file, name] = self._model(name, file) if file.holds == "model" else self._media(name, file)
        return self._seen[file, name]

    def _model(self, source: str, file: FileContents) -> Content:
        if self._confinement and source.strip() and is_path(source):
            path = self._confinement.model(source, file.categories)
            if not path.exists():
                hint = self._near([path]) or self._near_model(source) or SOURCE_HINT
                raise MissingError(f"there is no model '{source}'", hint=hint)
            _check_form(source, path, file)
            return Content(str(path), Local(source, path).identity())
        place = parse(source, self._base, self._folders, file.categories)
        if not isinstance(place, Local):
            return Content(source, place.identity())
        _check_form(source, place.path, file)
        name = source
        if is_path(source) and place.path != (written := Path(source).expanduser()):
            name = str(place.path.absolute())
            if self._base is None or place.path != self._base / written:
                self.in_folders.add(name)
        try:
            return Content(name, place.identity())
        except MissingError as error:
            is_close = "did you mean" in (error.hint or "")
            near = None if is_close or place.find() else self._near_model(source)
            if near and (error.hint == SOURCE_HINT or "did you mean" in near):
                raise MissingError(error.message, hint=near) from None
            raise

    def _near_model(self, source: str) -> str | None:
        """A hint for a model that isn't there, from those in the folders of models; only for the first ones."""
        self._hints += 1
        if self._hints > MOST_HINTS or not self._folders.places:
            return None
        if self._models is None:
            self._models = [model.source for model in scan(self._folders, self._may_read) if not model.problem]
        return suggestion(source, self._models)

    def _media(self, name: str, file: FileContents) -> Content:
        if self._confinement:
            paths = [self._confinement.locate(name, "input")]
        else:
            folders = [folder for folder in (self._base, Path.cwd()) if folder is not None]
            paths = [folder / Path(name).expanduser() for folder in folders]
        find, besides = file.find, list[str]()
        for path in paths:
            if find and (files := find(path, self._may_read)):
                return Content(str(path.absolute()), _states(files))
            besides += files.besides if find and isinstance(files, Found) else ()
            if not find and path.is_file():
                return Content(str(path.absolute()), digest(path))
        if file.is_guess:
            return Content(str(paths[0].absolute()), "")  # the run looks again, by the kind's own `find`
        where = "" if self._confinement else f" in {' and '.join(dict.fromkeys(str(path.parent) for path in paths))}"
        message = f"{'no files match' if find else 'there is no file'} '{name}'{where}{_in_short(besides)}"
        raise MissingError(message, hint=self._near(paths))

    def _near(self, paths: list[Path]) -> str | None:
        """A hint for paths that don't exist, from the names beside them."""
        folders = [path.parent for path in paths if self._may_read(path.parent) and path.parent.is_dir()]
        names = {other.name for folder in folders for other in folder.iterdir()}
        return suggestion(paths[0].name, {name for name in names if not name.startswith(".")})


def _check_form(source: str, path: Path, file: FileContents) -> None:
    """Refuse a file that can run code when it is read, unless the input takes it all the same; raises WorkflowError."""
    ending = path.suffix.lower()
    if file.takes and ending in PICKLED and ending[1:] not in file.takes and path.is_file():
        raise WorkflowError(f"'{source}' can run code when it is read", hint="convert it to safetensors")


def _states(files: Sequence[Path]) -> str:
    """A digest of files by their states, and of what was found besides."""
    if not isinstance(files, Found) or not files.besides:
        return states(files)
    return f"{states(files)} {sha256(chr(10).join(files.besides).encode(errors='surrogateescape')).hexdigest()}"


def _in_short(besides: Sequence[str]) -> str:
    """What was found instead of files, for the end of a message."""
    if not besides:
        return ""
    more = f", and {len(besides) - SHOWN:,} more" if len(besides) > SHOWN else ""
    return f": {', '.join(besides[:SHOWN])}{more}"


def watch(file: FileContents, name: str, checked: str, may_read: MayRead) -> Watch:
    """Watch what an input of a checked step names, while the step runs.

    Args:
        file: the input's mark.
        name: the checked name.
        checked: the digest that it was checked with.
        may_read: whether a file that a folder, a list or a table names may be read.
    """
    if file.holds == "model":
        return watch_model(name, checked)
    path = Path(name)
    if find := file.find:
        return Watch(checked, lambda: _states(find(path, may_read)), lambda: ())
    return Watch(checked, lambda: digest(path), lambda: (path,))
