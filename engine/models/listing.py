"""List the models on this machine, apart from the user's own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from engine.models.home import home
from engine.models.pypi import PART
from engine.models.sources import SHIPPED


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
