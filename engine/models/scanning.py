"""Which models are in the folders that people give, by names and sizes alone: no file is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.models.folders import (
    CATEGORIES,
    INDEXES,
    PICKLED,
    READ_AS_DATA,
    MayRead,
    ModelFolders,
    Shelf,
    category_of,
    is_shelf,
)

WEIGHTS = (".safetensors", ".gguf")
"""The endings of files of weights that can be read without running code."""
CONVERT = "can run code when it is read: convert it to safetensors"
LEADS_OUT = "is a link that leads out of the folders of models: give the folder that it leads to as well"
_PARTS = re.compile(r"(model|diffusion_pytorch_model|pytorch_model|adapter_model)\b")
"""How files are called that are part of the model which their folder is."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A model on this machine, or what is there in place of one."""

    source: str
    """What workflows call it."""
    path: Path
    form: str
    """"folder", or the ending of its file without the dot."""
    category: str = ""
    """One of the known categories; "" for any other."""
    nbytes: int = 0
    """Its size; that of a folder is the sum of its files."""
    problem: str = ""
    """Why it can't be used; "" if it can."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found on a shelf."""

    category: str
    name: str
    """Its path within the shelf; "" for the shelf itself."""
    path: Path
    form: str
    nbytes: int = 0
    problem: str = ""


def scan(folders: ModelFolders, may_read: MayRead = lambda path: True) -> list[Listed]:
    """The models in folders, each with the shortest name that stands for it alone, and what can't be read or used.

    Args:
        folders: the folders of models.
        may_read: whether what a link leads to may be read.
    """
    found = [each for shelf in _shelves(folders, may_read) for each in _on_shelf(shelf, may_read)]
    first: dict[str, dict[str, Path]] = {}
    for each in found:
        first.setdefault(each.name, {}).setdefault(each.category, each.path)
    categories = {each.category for each in found}
    listed: dict[str, Listed] = {}
    for each in found:
        if first[each.name][each.category] == each.path:  # else one of its name was found before
            known = each.category if each.category in CATEGORIES else ""
            source = _source(each, [*first[each.name]], categories)
            one = Listed(source, each.path, each.form, known, each.nbytes, each.problem)
            listed.setdefault(source, one)
    return sorted(listed.values(), key=lambda one: (not one.category, one.category, one.source))


def readable(category: str) -> tuple[str, ...]:
    """The endings, in lower case, of the files of weights of a category that are read."""
    return (*WEIGHTS, *PICKLED) if category in READ_AS_DATA else WEIGHTS


def size_of(model: Path) -> int:
    """The bytes of a file, or of all files in a folder but hidden ones."""
    total, waiting, seen = 0, [model], set[str]()
    while waiting:
        path = waiting.pop()
        try:
            if not path.is_dir():
                total += path.stat().st_size
            elif (real := os.path.realpath(path)) not in seen:  # links may lead in circles
                seen.add(real)
                waiting += (path / name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208
        except OSError:  # a broken link, or not readable
            continue
    return total


def _source(found: _Found, homes: Sequence[str], categories: set[str]) -> str:
    """The name of a model: with its category where others have one of the same name, or it would mean another."""
    if not found.name:
        return found.category or found.path.name
    top = found.name.partition("/")[0]
    is_plain = found.category in CATEGORIES and len(homes) == 1
    would_mean_another = "/" in found.name and (category_of(top) in categories or top == "sprite")
    if not found.category or (is_plain and not would_mean_another and ":" not in top):
        return found.name
    return f"{found.category}/{found.name}"


def _shelves(folders: ModelFolders, may_read: MayRead) -> Iterator[Shelf]:
    """The shelves that may be read; what lies in a root itself is on one without a category."""
    yield from (Shelf(root) for root in folders.roots)
    yield from (shelf for shelf in folders.shelves() if may_read(shelf.folder))


def _on_shelf(shelf: Shelf, may_read: MayRead) -> Iterator[_Found]:
    """What is on a shelf; of a root only what is no shelf."""
    is_root, category = shelf.category is None, shelf.category or ""
    waiting, seen = [(shelf.folder, "")], set[str]()
    while waiting:
        folder, name = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:  # links may lead in circles
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                inside = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            yield _Found(category, name, folder, "folder", problem=f"can't be read: {error.strerror}")
            continue
        is_one = bool(name) and not {each.name for each in inside}.isdisjoint(INDEXES)
        if is_one:
            yield _Found(category, name, folder, "folder", size_of(folder))
        for entry in inside:
            below = f"{name}/{entry.name}".lstrip("/")
            if entry.is_symlink() and not may_read(Path(entry.path)):
                yield _Found(category, below, Path(entry.path), _form(entry.name), problem=LEADS_OUT)
            elif _is_folder(entry):
                if not is_one and not (is_root and is_shelf(Path(entry.path))):
                    waiting.append((Path(entry.path), below))
            elif not (is_one and _PARTS.match(entry.name)):
                yield from _file(category, below, entry)


def _file(category: str, name: str, entry: os.DirEntry[str]) -> Iterator[_Found]:
    """A file of weights; nothing for any other."""
    ending = Path(entry.name).suffix.lower()
    if ending not in (*WEIGHTS, *PICKLED):
        return
    path, form = Path(entry.path), ending[1:]
    try:
        nbytes = entry.stat().st_size
    except OSError as error:
        broken = "is a link that leads nowhere" if entry.is_symlink() else f"can't be read: {error.strerror}"
        yield _Found(category, name, path, form, problem=broken)
        return
    yield _Found(category, name, path, form, nbytes, "" if ending in readable(category) else CONVERT)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _form(name: str) -> str:
    ending = Path(name).suffix.lower()
    return ending[1:] if ending in (*WEIGHTS, *PICKLED) else "folder"
