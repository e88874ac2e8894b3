"""ComfyUI's `extra_model_paths.yaml`, which names folders of models elsewhere.

webui:
  base_path: ~/stable-diffusion-webui    # relative to the file; ~ and $VARIABLES are replaced
  is_default: true                       # looked through before all others
  checkpoints: models/Stable-diffusion
  loras: |
    models/Lora
    models/LyCORIS
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import UsageError
from engine.models.folders import WITHOUT_MODELS, Shelf, category_of

NAME = "extra_model_paths.yaml"
HINT = "give each section a base_path, and for each category a folder, or several in lines"


class ExtraPaths(NamedTuple):
    """What such a file names."""

    default: tuple[Shelf, ...]
    """The folders to be looked through first."""
    others: tuple[Shelf, ...]
    notes: tuple[str, ...]
    """A line for each folder that isn't there."""


def read_extra_paths(file: Path) -> ExtraPaths:
    """Read such a file; folders that aren't there are passed over.

    Raises:
        UsageError: it can't be read, isn't YAML, or something in it is no path; the message names the key.
    """
    found: dict[bool, list[Shelf]] = {True: [], False: []}
    notes: list[str] = []
    for name, section in _sections(file).items():
        is_default = section.get("is_default", False)
        if not isinstance(is_default, bool):
            raise UsageError(f"{file}: {name}.is_default must be true or false", hint=HINT)
        base = _base(file, name, section)
        if not base.is_dir():
            notes.append(f"{file}: {name}.base_path: there is no folder {base}")
            continue
        for key, value in section.items():
            if key in ("base_path", "is_default") or key in WITHOUT_MODELS:
                continue
            for line in _lines(file, f"{name}.{key}", value):
                if (folder := _folder(base, line)).is_dir():
                    found[is_default].append(Shelf(folder, category_of(key)))
                else:
                    without = "" if "base_path" in section else f" ({name} has no base_path)"
                    notes.append(f"{file}: {name}.{key}: there is no folder {folder}{without}")
    return ExtraPaths(tuple(found[True]), tuple(found[False]), tuple(notes))


def _sections(file: Path) -> dict[str, dict[str, Any]]:
    """The sections by name; empty ones are left out."""
    import yaml

    try:
        data = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not YAML: {_what(error)}", hint=HINT) from None
    if not isinstance(data, dict | None):
        raise UsageError(f"{file} has no sections", hint=HINT)
    sections: dict[str, dict[str, Any]] = {}
    for name, section in (data or {}).items():
        if not isinstance(section, dict | None):
            raise UsageError(f"{file}: {name} is not a section", hint=HINT)
        sections[str(name)] = {str(key): value for key, value in (section or {}).items()}
    return {name: section for name, section in sections.items() if section}


def _what(error: Exception) -> str:
    """What is wrong with YAML, and where, in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"line {mark.line + 1}: {reason}" if mark else str(reason)


def _base(file: Path, name: str, section: Mapping[str, Any]) -> Path:
    """The folder to which a section's paths are relative: the file's own, unless it names one."""
    written = section.get("base_path", ".")
    if not isinstance(written, str) or not written.strip():
        raise UsageError(f"{file}: {name}.base_path must be the path of a folder", hint=HINT)
    return _path(file.parent, written.strip())


def _lines(file: Path, key: str, value: Any) -> Iterator[str]:
    """The paths that a key has: a text with one in each line, or a list of them."""
    given = value if isinstance(value, list) else [value]
    for text in given:
        if not isinstance(text, str | None) or (text and "\0" in text):
            raise UsageError(f"{file}: {key} must be a path, or several in lines", hint=HINT)
        yield from (line for each in (text or "").splitlines() if (line := each.strip()) and not line.startswith("#"))


def _folder(base: Path, line: str) -> Path:
    """The folder that a line names; what follows a # is a remark, which YAML leaves in a text of several lines."""
    written = _path(base, line)
    return written if written.is_dir() else _path(base, re.split(r"\s#", line)[0].rstrip())


def _path(base: Path, written: str) -> Path:
    return Path(os.path.normpath(base / os.path.expandvars(os.path.expanduser(written))))  # noqa: PTH111
