"""Models of the Hugging Face hub, in the cache that its own tools share.

`HF_HUB_OFFLINE` and `HF_TOKEN` are respected.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import MissingError
from engine.models.progress import Progress

SETTINGS = ["*.json", "*.txt", "*.model", "*.jinja"]
# Weights are taken as safetensors only: other formats can run code when loaded, or repeat the same weights.
WEIGHTS = ["*.safetensors"]
# A pipeline may also have the same weights as one file beside its folders: those in the folders are enough.
PIPELINE_WEIGHTS = ["*/*.safetensors"]
# Files of the same weights in other forms are left out, unless a folder has no others: then the first of these counts.
VARIANTS = {"fp16": ["*.fp16.*", "*.fp16-*"], "bf16": ["*.bf16.*", "*.bf16-*"], "non_ema": ["*.non_ema.*"]}


@dataclass(frozen=True)
class Hub:
    """A repository at a revision, or one path of it."""

    source: str
    repository: str
    revision: str
    member: PurePosixPath | None

    @classmethod
    def parse(cls, source: str, rest: str) -> Hub:
        match = re.fullmatch(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:/([^@]+))?(?:@(.+))?", rest, re.ASCII)
        member = PurePosixPath(match[2]) if match and match[2] else None
        revision = PurePosixPath(match[3]) if match and match[3] else PurePosixPath("main")  # names a file of the cache
        if match is None or any(part and (part.is_absolute() or ".." in part.parts) for part in (member, revision)):
            raise MissingError(
                f"'{source}' does not name a model of the hub", hint="write hf:owner/name[/path][@revision]"
            )
        return cls(source, match[1], match[3] or "main", member)

    def find(self) -> Path | None:
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return self._snapshot(local_files_only=True)
        except (LocalEntryNotFoundError, MissingError):
            return None

    def identity(self) -> str:
        path = self.find()
        if path is None:
            raise MissingError(
                f"'{self.source}' is not on this machine yet", hint="fetch it with kinograph models FILE --fetch"
            )
        commit = path.parents[len(self.member.parts) - 1].name if self.member else path.name
        forms = "".join(f"+{folder}:{form}" for folder, form in _forms(path))
        return f"hf:{self.repository}{f'/{self.member}' if self.member else ''}@{commit}{forms}"

    def watched(self) -> Iterable[Path]:
        return ()  # a revision's files never change; which revision and which forms are in the identity

    def fetch(self, progress: Progress) -> Path:
        from huggingface_hub import constants, errors

        if constants.HF_HUB_OFFLINE:
            raise MissingError(
                f"'{self.source}' is not on this machine, and HF_HUB_OFFLINE forbids fetching it",
                hint="unset HF_HUB_OFFLINE, or give a local folder",
            )
        try:
            return self._snapshot(tqdm_class=_bar(progress))
        except errors.GatedRepoError as error:
            raise MissingError(
                f"the owner of '{self.source}' requires you to accept terms",
                hint=f"accept them on the page of {self.repository}, then set HF_TOKEN or run 'hf auth login'",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise MissingError(
                f"the hub has no public model '{self.repository}'",
                hint="check its name; if it is private, set HF_TOKEN or run 'hf auth login'",
            ) from error
        except errors.RevisionNotFoundError as error:
            raise MissingError(f"'{self.repository}' has no revision '{self.revision}'") from error
        except _failures() as error:
            reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
            raise MissingError(
                f"'{self.source}' can't be downloaded: {reason}",
                hint="check the network and run again, which keeps what is downloaded already; or give a local folder",
            ) from error

    def _snapshot(self, **options: Any) -> Path:
        """The repository's settings and weights, or its one path; the settings show which weights a pipeline needs."""
        from huggingface_hub import snapshot_download

        def get(patterns: list[str], ignored: Iterable[str] = ()) -> Path:
            options.update(revision=self.revision, allow_patterns=patterns, ignore_patterns=list(ignored))
            return Path(snapshot_download(self.repository, **options))

        if self.member:
            path = get([str(self.member), f"{self.member}/*"]) / self.member
            if not path.exists():
                raise MissingError(f"{self.repository} at '{self.revision}' holds no '{self.member}'")
            return path
        folder = get(SETTINGS)
        weights = PIPELINE_WEIGHTS if (folder / "model_index.json").exists() else WEIGHTS
        if not options.get("local_files_only"):
            return get(SETTINGS + _without_repeats(self._files(), weights))
        folder = get(SETTINGS + weights, chain.from_iterable(VARIANTS.values()))
        if parts := _lacking(folder):
            raise MissingError(f"{self.repository} was fetched in part: {', '.join(parts)} is missing")
        return folder

    def _files(self) -> list[str]:
        from huggingface_hub import HfApi, constants

        info = HfApi(endpoint=constants.ENDPOINT).model_info(self.repository, revision=self.revision)
        return [file.rfilename for file in info.siblings or ()]


def _failures() -> Any:
    """The hub's errors, connections' and a full disk's; those of its HTTP library need not be OSErrors."""
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, *HfHubHTTPError.__bases__


def _forms(model: Path) -> list[tuple[str, str]]:
    """The folders of a model with weights in another form only, and that form; else the usual one would count."""
    folders: dict[str, list[str]] = {}
    for path in model.rglob("*.safetensors") if model.is_dir() else ():
        folders.setdefault(path.parent.relative_to(model).as_posix(), []).append(path.name)
    if (model / "model_index.json").exists():
        folders.pop(".", None)
    chosen = {folder: _one_form(names)[0] for folder, names in folders.items()}
    return sorted((folder, form) for folder, name in chosen.items() for form in VARIANTS if _is_form(name, form))


def _lacking(folder: Path) -> list[str]:
    """The folders of a pipeline that have settings of a model and no weights, or not all of their parts."""
    settings = folder.glob("*/config.json") if (folder / "model_index.json").exists() else ()
    return sorted(path.parent.name for path in settings if not _has_weights(path.parent))


def _has_weights(folder: Path) -> bool:
    names = [path.name for path in folder.glob("*.safetensors")]
    parts = [found for name in names if (found := re.search(r"-(\d+)-of-(\d+)\.safetensors$", name))]
    return bool(names) and (len(parts) < len(names) or len(parts) >= int(parts[0][2]))


def _without_repeats(names: Iterable[str], patterns: list[str]) -> list[str]:
    """The files that match the patterns, in one form of the weights for each folder."""
    folders: dict[str, list[str]] = {}
    for name in names:
        if any(fnmatch(name, pattern) for pattern in patterns):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    return [name for files in folders.values() for name in _one_form(files)]


def _one_form(files: list[str]) -> list[str]:
    forms = {form: [name for name in files if _is_form(name, form)] for form in VARIANTS}
    plain = [name for name in files if not any(_is_form(name, form) for form in VARIANTS)]
    return next((chosen for chosen in (plain, *forms.values()) if chosen), [])


def _is_form(name: str, form: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in VARIANTS[form])


def _bar(progress: Progress) -> type[Any]:
    """A tqdm class that shows nothing and reports bytes."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"file": io.StringIO()})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self.unit == "B":
                progress(int(self.n), int(self.total or 0))

    return Bar
