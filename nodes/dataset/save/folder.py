"""A curated data set as a folder: the clips, a manifest that `datasets` opens, all scores, and a report."""

from __future__ import annotations

import io
import json
import logging
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.error import FFmpegError

from engine.errors import InputError
from engine.node import MayRead
from engine.values import Folder, Table
from nodes.dataset.provenance import models_of, note
from nodes.dataset.save.excerpts import Clip, write_copy, write_exact
from nodes.dataset.save.report import report
from nodes.dataset.save.statistics import statistics
from nodes.dataset.table import Row, rows, to_arrow

log = logging.getLogger(__name__)

Write = Callable[[Path], object]

SHARD = 256
"""Clips in a WebDataset shard."""
NOT_IN_MANIFEST = ("source", "dropped", "fingerprint", "duplicate_of")
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


def folder(
    prefix: str, clips: Table, videos: Table | None, *, layout: Literal["files", "webdataset", "none"], exact: bool
) -> Folder:
    """The folder of a data set.

    - `manifest.parquet`: the clips that were kept, with the file that each is in. Its metadata list the models that
      scores and captions are from; if demo models are among them, its first column is a note that says so.
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
    of = rows(videos) if videos else []
    kept = [row for row in everything if not row["dropped"]]
    if layout != "none" and any(row[name] is None for row in kept for name in ("source", "start", "seconds")):
        raise InputError("the table doesn't say where its clips are", hint="load scores.parquet, not manifest.parquet")
    names = _names(len(kept), layout)
    mask = pa.array([not row["dropped"] for row in everything], pa.bool_())
    manifest = arrow.filter(mask).drop_columns(list(NOT_IN_MANIFEST))
    if names:
        manifest = manifest.add_column(0, pa.field("file", pa.string()), pa.array(names, pa.string()))
    models = models_of(arrow)
    if about := note(models):
        manifest = manifest.add_column(0, pa.field("note", pa.string()), pa.array([about] * len(kept), pa.string()))
    facts = {"note": about, **statistics(everything, of), "models": [asdict(model) for model in models]}
    title = Path(prefix).name
    files: dict[str, Write] = {
        "README.md": _text(_card(title, facts)),
        "scores.parquet": partial(_parquet, arrow),
        "statistics.json": _text(json.dumps(facts, indent=1)),
        "report.html": _text(report(title, facts, everything, of, arrow["thumbnail"])),
    }
    if videos:
        files["videos.parquet"] = partial(_parquet, to_arrow(videos))
    cut = write_exact if exact else write_copy
    writers = [partial(_cut, cut, row) for row in kept] if layout != "none" else []
    if layout == "files":
        files |= zip(names, writers, strict=True)
    elif layout == "webdataset":
        files |= _shards(kept, names, writers)
    files["manifest.parquet"] = partial(_manifest, manifest)
    contents = [clips.data, videos.data if videos else b"", f"{layout} {exact}".encode()]
    return Folder(prefix, files, sha256(b"\0".join(contents)).hexdigest())


def _names(count: int, layout: str) -> list[str]:
    """The file that each clip is in."""
    if layout == "files":
        return [f"clips/{index:06}.mp4" for index in range(count)]
    return [f"shards/{index // SHARD:05}.tar" for index in range(count)] if layout == "webdataset" else []


def _shards(kept: Sequence[Row], names: Sequence[str], writers: Sequence[Write]) -> dict[str, Write]:
    members: dict[str, list[tuple[str, Row, Write]]] = {}
    for index, (row, name, write) in enumerate(zip(kept, names, writers, strict=True)):
        members.setdefault(name, []).append((f"{index:06}", row, write))
    return {name: partial(_shard, members=of) for name, of in members.items()}


def _shard(path: Path, members: Sequence[tuple[str, Row, Write]]) -> None:
    """A tar of samples, as WebDataset reads it; equal samples give equal bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard, tempfile.TemporaryDirectory() as scratch:
        for key, row, write in members:
            clip = Path(scratch, "clip.mp4")
            clip.unlink(missing_ok=True)
            write(clip)
            if not clip.exists():
                continue
            known = {name: value for name, value in row.items() if name not in NOT_IN_MANIFEST}
            for suffix, data in (
                ("mp4", clip.read_bytes()),
                ("txt", (row["caption"] or "").encode()),
                ("json", json.dumps(known, default=np.ndarray.tolist).encode()),
            ):
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))


def _cut(cut: Callable[[Path, Path, Clip], object], row: Row, path: Path) -> None:
    """Write a clip; one that can't be cut, as from a damaged video, is left out and logged."""
    try:
        clip = Clip(row["start"], row["seconds"], row["first_frame"], row["end_frame"])
        cut(path, Path(row["source"]), clip)
    except (InputError, FFmpegError) as error:
        path.unlink(missing_ok=True)
        log.warning("clip %s of %s is left out: %s", row["clip"], row["source"], error)


def _manifest(table: pa.Table, path: Path) -> None:
    """Write the rows whose files have been written."""
    if "file" in table.column_names:
        there = [(path.parent / name).exists() for name in table["file"].to_pylist()]
        table = table.filter(pa.array(there, pa.bool_()))
    _parquet(table, path)


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def _text(text: str) -> Write:
    return lambda path: path.write_text(text, encoding="utf-8")


def _card(title: str, facts: Mapping[str, Any]) -> str:
    warning = f"> **{facts['note']}**\n\n" if facts["note"] else ""
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files: manifest.parquet\n---\n# {title}\n\n{warning}"
        f"{facts['clips_kept']:,} of {facts['clips']:,} clips from {facts['videos']:,} videos, "
        f"{facts['hours_kept']:.2f} hours. `manifest.parquet` lists them, `scores.parquet` has all clips with their "
        "scores and why some were dropped, `report.html` shows both. Made with Kinograph from `workflow.json`.\n"
        + _models(facts["models"])
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


def _cell(value: Any) -> str:
    """A setting in a table of Markdown."""
    return str(value).replace("|", "\\|").replace("\n", " ")
