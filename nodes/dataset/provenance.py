"""What a table is from: the models of its scores and captions, and the files that were skipped.

It is kept in the table itself, and in files made of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.models import identity, is_path, is_shipped

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"kinograph"
"""The metadata of a table, and of a Parquet file, as JSON: of clips {"note": …, "models": [{…}, …]}, of the
manifest "sound" as well, which says that clips are silent, of videos
{"skipped": how many files, "files": [{"file": …, "reason": …}, …]}, at most `MOST_LISTED` of them."""
MOST_LISTED = 1000
"""Most skipped files that are listed one by one."""
SAID = 10
"""Most that a run says."""


@dataclass(frozen=True)
class Model:
    """A model that filled in columns of a table."""

    use: str
    """What it was used for: the input that names it, such as "image_captioner", "find_text" or "cuts"."""
    name: str
    """As it was given; of a file or folder on this machine only the last part of its path."""
    revision: str
    """A revision of the hub, or a digest of its contents."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    demo: bool = False
    """Whether it is one of those that ship with Kinograph, which know only drawn sprites."""


def model(use: str, source: str, settings: Mapping[str, Any], revision: str = "") -> Model:
    """The model of a source string; raises MissingError if its revision isn't given, and it isn't there."""
    name = Path(source).name if is_path(source) else source
    return Model(use, name, revision or identity(source), settings, is_shipped(source))


def demo_note(source: str) -> str:
    """What people should know about a demo model; "" for any other."""
    if not is_shipped(source):
        return ""
    return f"{source} is a demo model: it knows only drawn sprites, and what it says of other videos is wrong"


def note(models: Sequence[Model]) -> str:
    """What people should know first about a table: that demo models made it; "" if none did."""
    demo = [f"{model.use} ({model.name})" for model in models if model.demo]
    if not demo:
        return ""
    return (
        f"Made with demo models, which know only drawn sprites: {', '.join(demo)}. What they say of other videos is "
        "wrong; name real models to make a data set."
    )


def with_models(table: pa.Table, models: Sequence[Model]) -> pa.Table:
    """The table with a list of the models that filled it in."""
    return with_facts(table, {"note": note(models), "models": [asdict(model) for model in models]})


def with_facts(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """The table with more facts, as JSON data, beside those that it states already."""
    about = json.dumps(_facts(table) | dict(facts), ensure_ascii=False)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: about})


def models_of(table: pa.Table) -> list[Model]:
    """The models that filled in a table; none if it doesn't say."""
    return [Model(**known) for known in _facts(table).get("models", ())]


def _facts(table: pa.Table) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((table.schema.metadata or {}).get(KEY, b"{}"))
    return facts


class LeftOut(NamedTuple):
    """A file or folder that wasn't taken for a video."""

    file: str
    """As videos are named in tables."""
    reason: str
    """As it follows the name: "is a PDF document"."""


def with_skipped(table: pa.Table, count: int, listed: Sequence[LeftOut]) -> pa.Table:
    """The table of videos with how many files were skipped, and a list of them, or of the first."""
    return with_facts(table, {"skipped": count, "files": [each._asdict() for each in listed]})


def skipped_of(table: pa.Table) -> tuple[int, list[LeftOut]]:
    """How many files were skipped, and those that are listed; none if the table doesn't say."""
    about = _facts(table)
    return about.get("skipped", 0), [LeftOut(**each) for each in about.get("files", ())]


def in_words(count: int, listed: Sequence[LeftOut]) -> str:
    """What was skipped, a line each, for people who watch a run; "" if nothing was."""
    if not count:
        return ""
    lines = [f"skipped {each.file}, which {each.reason}" for each in listed[:SAID]]
    if more := count - len(lines):
        lines.append(f"skipped {more:,} more: see the report")
    return "".join(f"{line}\n" for line in lines)
