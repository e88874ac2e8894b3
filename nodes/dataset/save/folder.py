"""A curated data set as a folder: the clips, a manifest that `datasets` opens, all scores, and a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import InputError
from engine.node import MayRead
from engine.values import Folder, Table
from nodes.dataset.provenance import models_of, note, skipped_of, with_facts
from nodes.dataset.save.cutting import Cutting, Layout, Write
from nodes.dataset.save.report import report
from nodes.dataset.save.statistics import about_damage, lasting, statistics
from nodes.dataset.table import VIDEOS, Row, rows, to_arrow, with_columns

FORMAT = 4
"""Raised when equal clips give other files than before, so that no unfinished folder has some of both."""
DESCRIPTION = ("README.md", "scores.parquet", "statistics.json", "report.html", "videos.parquet", "manifest.parquet")
"""The files that say what is in the folder. They are written last."""
SILENT = "Clips are silent: the sound of the videos is left out. The column `audio` says which videos had any."
"""What the card and the metadata of the manifest say of sound."""
NOT_IN_MANIFEST = ("source", "source_digest", "dropped", "fingerprint", "duplicate_of")
"""Columns that only `scores.parquet` has: they serve to filter again."""
LARGE = ("embedding", "thumbnail", "fingerprint")
"""Columns that would take much more memory as Python objects than in the table."""


def check_sources(clips: Table, may_read: MayRead) -> None:
    """Raise InputError if a kept clip's source is a video that may not be read."""
    named = {row["source"] for row in rows(clips, ["source", "dropped"]) if row["source"] and not row["dropped"]}
    if not all(may_read(Path(name)) for name in named):
        raise InputError(
            "the table names videos outside of the folders that may be read",
            input="clips",
            hint="curate the videos here, or choose the layout 'none'",
        )


def folder(prefix: str, clips: Table, videos: Table | None, *, layout: Layout, exact: bool) -> Folder:
    """The folder of a data set.

    - `manifest.parquet`: the clips that were kept, with the file that each is in. Its metadata list the models that
      scores and captions are from, and say that clips are silent; if demo models are among them, its first column is a
      note that says so.
    - `clips/000000.mp4` …, or `shards/00000.tar` … with a `.mp4`, `.txt` and `.json` for each clip.
    - `scores.parquet`: all clips with their scores, and why some were dropped; it can be filtered again.
    - `videos.parquet`, `statistics.json`, `report.html`, and a `README.md` from which `datasets` knows what to load.

    Args:
        prefix: what the folder's name starts with.
        clips: a table `CLIPS`.
        videos: a table `VIDEOS`, or None.
        layout: how clips are written; "none" leaves them in their videos.
        exact: encode clips again, exact to the frame, rather than copy them from a key frame on.
    """
    arrow = to_arrow(clips)
    everything = rows(arrow, [name for name in arrow.column_names if name not in LARGE])
    kept = [row for row in everything if not row["dropped"]]
    if layout != "none" and any(row[name] is None for row in kept for name in ("source", "start", "seconds")):
        raise InputError("the table doesn't say where its clips are", hint="load scores.parquet, not manifest.parquet")
    cutting = Cutting(kept, layout, exact=exact, hidden=NOT_IN_MANIFEST)
    title = Path(prefix).name

    @lru_cache(maxsize=1)
    def described(root: Path) -> Mapping[str, Write]:
        left_out = cutting.left_out(root)
        return _described(title, arrow, everything, videos, cutting.names, left_out)

    def write(path: Path, name: str) -> None:
        described(path.parent)[name](path)

    names = [name for name in DESCRIPTION if videos or name != "videos.parquet"]
    files = cutting.files() | {name: partial(write, name=name) for name in names}
    contents = [clips.data, videos.data if videos else b"", f"{FORMAT} {layout} {exact}".encode()]
    return Folder(prefix, files, sha256(b"\0".join(contents)).hexdigest())


def _described(
    title: str,
    arrow: pa.Table,
    everything: Sequence[Row],
    videos: Table | None,
    names: Sequence[str],
    left_out: Mapping[int, str],
) -> dict[str, Write]:
    """What writes tables and texts, once clips are written: those that are left out count as dropped.

    Args:
        title: what the data set is called.
        arrow: all clips.
        everything: their rows, without large columns.
        videos: a table `VIDEOS`, or None.
        names: the file of each clip that was kept, or none.
        left_out: why some of these weren't written, by their number among them.
    """
    kept = [index for index, row in enumerate(everything) if not row["dropped"]]
    reasons = {kept[number]: [reason] for number, reason in left_out.items()}
    listed = [{**row, "dropped": reasons.get(index, row["dropped"])} for index, row in enumerate(everything)]
    arrow = with_columns(arrow, {"dropped": [row["dropped"] for row in listed]})
    manifest = arrow.filter(pa.array([not row["dropped"] for row in listed], pa.bool_()))
    manifest = manifest.drop_columns(list(NOT_IN_MANIFEST))
    if names:
        there = [name for number, name in enumerate(names) if number not in left_out]
        manifest = manifest.add_column(0, pa.field("file", pa.string()), pa.array(there, pa.string()))
        manifest = with_facts(manifest, {"sound": SILENT})
    models = models_of(arrow)
    if about := note(models):
        manifest = manifest.add_column(
            0, pa.field("note", pa.string()), pa.array([about] * manifest.num_rows, pa.string())
        )
    of = rows(videos) if videos else []
    skipped, skipped_files = skipped_of(to_arrow(videos)) if videos else (0, [])
    facts = {
        "note": about,
        "sound": SILENT if names else "",
        **statistics(listed, of),
        "models": [asdict(model) for model in models],
        "skipped": skipped,
        "skipped_files": [each._asdict() for each in skipped_files],
    }
    return {
        "README.md": _text(_card(title, facts)),
        "scores.parquet": partial(_parquet, arrow),
        "statistics.json": _text(json.dumps(facts, indent=1)),
        "report.html": _text(report(title, facts, listed, of, arrow["thumbnail"])),
        "videos.parquet": partial(_parquet, to_arrow(videos) if videos else VIDEOS.empty_table()),
        "manifest.parquet": partial(_parquet, manifest),
    }


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _text(text: str) -> Write:
    return lambda path: path.write_text(text, encoding="utf-8")


def _card(title: str, facts: Mapping[str, Any]) -> str:
    warning = f"> **{facts['note']}**\n\n" if facts["note"] else ""
    problems = f" ({facts['videos_with_problems']:,} with problems)" if facts["videos_with_problems"] else ""
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files: manifest.parquet\n---\n# {title}\n\n{warning}"
        f"{facts['clips_kept']:,} of {facts['clips']:,} clips from {facts['videos']:,} videos{problems}, "
        f"{lasting(facts['hours_kept'])}. `manifest.parquet` lists them, `scores.parquet` has all clips with their "
        "scores and why some were dropped, `report.html` shows both. Made with Kinograph from `workflow.json`.\n"
        + (f"\n{facts['sound']}\n" if facts["sound"] else "")
        + (f"\n{damage}\n" if (damage := about_damage(facts)) else "")
        + _models(facts["models"])
        + _skipped(facts["skipped"], facts["skipped_files"])
    )


def _models(models: Sequence[Mapping[str, Any]]) -> str:
    """The card's section on the models; without any, no score or caption needed one."""
    if not models:
        return ""
    rows = "".join(
        f"| {model['use']} | {model['name']}{' (demo)' if model['demo'] else ''} | `{model['revision']}` "
        f"| {'; '.join(f'{name}: {_cell(value)}' for name, value in model['settings'].items())} |\n"
        for model in models
    )
    return f"\n## Models\n\n| used for | model | revision | settings |\n|---|---|---|---|\n{rows}"


def _skipped(count: int, files: Sequence[Mapping[str, str]]) -> str:
    """The card's section on the files that weren't taken for videos, by reason."""
    if not count:
        return ""
    reasons = Counter(each["reason"] for each in files)
    lines = "".join(f"| {_cell(reason)} | {number:,} |\n" for reason, number in reasons.most_common())
    more = f"| not listed one by one | {count - len(files):,} |\n" if count > len(files) else ""
    return (
        f"\n## Skipped\n\n{count:,} files or folders beside the videos were skipped; `report.html` names them.\n\n"
        f"| why | how many |\n|---|---|\n{lines}{more}"
    )


def _cell(value: Any) -> str:
    """A setting in a table of Markdown."""
    return str(value).replace("|", "\\|").replace("\n", " ")
