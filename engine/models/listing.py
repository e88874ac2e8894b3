"""List the models on this machine: in folders of models, shipped, and fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from engine.models.folders import CATEGORIES, NO_FOLDERS, MayRead, ModelFolders, category_of
from engine.models.home import home
from engine.models.pypi import PART
from engine.models.scanning import Listed, scan, size_of
from engine.models.sources import SHIPPED


def available(folders: ModelFolders = NO_FOLDERS, may_read: MayRead = lambda path: True) -> list[Listed]:
    """All models: those in the folders by category, then those that ship with Kinograph or were fetched.

    Args:
        folders: the folders of models.
        may_read: whether what a link in them leads to may be read.
    """
    others = (
        Listed(source, path, "folder" if path.is_dir() else path.suffix[1:].lower(), _category(source), size_of(path))
        for source, path in local_models().items()
    )
    return [*scan(folders, may_read), *others]


def _category(source: str) -> str:
    """The category of a shipped model, by its folder."""
    scheme, _, rest = source.partition("/")
    found = category_of(rest.partition("/")[0]) if scheme == "sprite" and "/" in rest else ""
    return found if found in CATEGORIES else ""


def local_models() -> dict[str, Path]:
    """The paths of models, by source: those that ship with Kinograph, come from wheels, or are in the hub's cache."""
    return {**dict(_shipped()), **dict(_wheels()), **dict(_hub())}


def _shipped() -> Iterator[tuple[str, Path]]:
    """Each folder with an index or a configuration is one model; elsewhere each file of weights is."""
    waiting = [SHIPPED / "sprite"]
    while waiting:
        path = waiting.pop()
        if any((path / name).is_file() for name in ("model_index.json", "config.json")):
            yield path.relative_to(SHIPPED).as_posix(), path
        elif path.is_dir():
            waiting += sorted(path.iterdir(), reverse=True)
        elif path.suffix == ".safetensors":
            yield path.relative_to(SHIPPED).as_posix(), path


def _wheels() -> Iterator[tuple[str, Path]]:
    for path in sorted((home() / "pypi").glob("*-*/*")):
        if PART not in path.parent.name:
            package, _, version = path.parent.name.rpartition("-")
            yield f"pypi:{package}=={version}/{unquote(path.name)}", path


def _hub() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        for revision in repository.revisions if repository.repo_type == "model" else ():
            names = sorted(revision.refs) or [revision.commit_hash]
            yield f"hf:{repository.repo_id}@{names[0]}", revision.snapshot_path
