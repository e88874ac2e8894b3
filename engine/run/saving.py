"""Write what a run saves: numbered files in the output folder, each with the workflow that made it embedded.

PNG files carry it in text chunks, MP4 files in container tags: as `engine.document.tags` says, the document, the graph,
and for ComfyUI's editor the workflow that its client sent along, or one made from the document. Local files are named
in it relative to the saved file, so that it can be run again from there and doesn't reveal the folders of this machine.
"""

from __future__ import annotations

import json
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

from engine.atomic import finish, is_disk_full, sync, sync_folder, unfinished
from engine.document.formats import is_small, to_ui
from engine.document.subgraphs import Place
from engine.document.tags import DOCUMENT, DRAWN, GRAPH
from engine.document.workflow import NodeEntry, Workflow
from engine.errors import InputError, NodeError
from engine.registry import Registry
from engine.run.file_in_work import file_in_work, sweep
from engine.run.folder_in_work import folder_in_work
from engine.run.naming import Names
from engine.values import Files, Folder, Media

PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PNG_HEADER = 33
"""Bytes of a PNG's signature and IHDR chunk, after which text may stand."""
TAG = re.compile(r"(?=.{1,79}$)[!-~¡-ÿ]+( [!-~¡-ÿ]+)*")
"""The names that a PNG allows for a text (11.3.3.1)."""


class OutputFolder:
    """Writes the media of one workflow into a folder, never overwriting an existing file.

    Args:
        folder: the folder.
        workflow: the workflow to embed.
        files: the absolute paths of the local files that the workflow names, by the place of the name.
        carried: further JSON data for pictures and videos to carry, by the names of the tags. `workflow` is a client's
            own workflow in the UI format; without it, one is made.
        registry: the kinds of node of the workflow, for that.
        flat: the workflow's nodes with subgraphs inlined, whose values a prefix may name.
    """

    def __init__(
        self,
        folder: Path,
        workflow: Workflow,
        files: Mapping[Place, str] | None = None,
        carried: Mapping[str, Any] | None = None,
        registry: Registry | None = None,
        flat: Mapping[str, NodeEntry] | None = None,
    ) -> None:
        self.folder = folder
        self.workflow = workflow
        self.files = files or {}
        self.carried = carried or {}
        self.registry = registry or Registry([])
        self._tags = cache(self._tags_in)
        self._names = Names(self.workflow, self.registry, flat or {})
        self._swept = set[Path]()
        """Folders without what processes that were killed had left there."""

    def write(
        self,
        saved: Media | Files | Folder,
        progress: Callable[[int, int], object] = lambda done, total: None,
        *,
        claimed: Sequence[Path] = (),
        on_claim: Callable[[Sequence[Path]], object] = lambda names: None,
    ) -> tuple[Path, ...]:
        """Write `<prefix>_<number>.<extension>` for each, or the folder `<prefix>_<number>`.

        Patterns in the prefix are filled in (`engine.run.naming`).

        Args:
            saved: what to write.
            progress: called before each file of a folder. If it raises, the files written so far stay, hidden, and a
                folder of the same identity is resumed from there.
            claimed: the names that an earlier attempt, which was killed, had claimed for the same; they are used again,
                and files that are complete are left as they are.
            on_claim: called with all names so far, the last of which is about to be claimed.

        Raises:
            InputError: a prefix leads outside the folder.
        """
        if isinstance(saved, Folder):
            return (self._write_folder(saved, progress, claimed, lambda path: on_claim([path])),)
        written: list[Path] = []
        now = time.localtime()
        for index, media in enumerate(saved.items if isinstance(saved, Files) else (saved,)):
            taken = claimed[index : index + 1]
            written.append(self._write(media, now, index, taken, lambda path: on_claim([*written, path])))
        return tuple(written)

    def _write_folder(
        self,
        folder: Folder,
        progress: Callable[[int, int], object],
        claimed: Sequence[Path],
        on_claim: Callable[[Path], object],
    ) -> Path:
        if claimed and _is_complete(claimed[0]):
            return claimed[0]
        path = self._first(self._names.of_folder(folder.prefix), "")
        document = json.dumps(self._relative_to(path).document()).encode()
        name = path.name.rpartition("_")[0]
        with _errors_of(name), folder_in_work(path.parent, f"{name}-{folder.identity[:16]}") as part:
            (part / "workflow.json").unlink(missing_ok=True)  # of the run that was stopped, whose title may differ
            own: dict[str, Callable[[Path], object]] = {"workflow.json": partial(_write_plain, document)}
            files = own | dict(folder.files)
            for done, (file, write) in enumerate(files.items()):
                progress(done, len(files))
                _write_once(part, file, write)
            return part.replace(_reclaimed(claimed) or claim(path, folder=True, on_try=on_claim))

    def _first(self, prefix: str, suffix: str) -> Path:
        """The first path of a prefix; its folder is created if missing."""
        path = self.folder / f"{prefix}_00001{suffix}"
        if ".." in PurePath(prefix).parts or not path.is_relative_to(self.folder):
            raise InputError(f"'{prefix}' is outside the output folder", hint="give a relative path without '..'")
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(self.folder)):
            raise InputError(f"'{prefix}' is outside the output folder, through a link", hint="remove the link")
        with _errors_of(path.parent.name):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write(
        self,
        media: Media,
        now: time.struct_time,
        index: int,
        claimed: Sequence[Path],
        on_claim: Callable[[Path], object],
    ) -> Path:
        if claimed and _is_complete(claimed[0]):
            return claimed[0]
        path = self._first(self._names.of_file(media.prefix, now, index), f".{media.extension}")
        if path.parent not in self._swept:
            with _errors_of(path.name):
                sweep(path.parent)
            self._swept.add(path.parent)

        def write(part: Path) -> None:
            if embed := EMBED.get(media.extension):
                embed(media.data, part, self._tags(path.parent))
            else:
                _write_plain(media.data, part)

        return write_new(path, write, lambda: _reclaimed(claimed) or claim(path, on_try=on_claim))

    def _tags_in(self, folder: Path) -> Mapping[str, str]:
        workflow = self._relative_to(folder)
        data = {GRAPH: workflow.api(), DOCUMENT: workflow.document()}
        data |= {name: value for name, value in self.carried.items() if name not in data and TAG.fullmatch(name)}
        if DRAWN not in data and is_small(workflow):
            data[DRAWN] = to_ui(workflow, self.registry)
        return {name: json.dumps(value) for name, value in data.items()}

    def _relative_to(self, folder: Path) -> Workflow:
        """The workflow with its local files named relative to a folder."""
        workflow = self.workflow
        for (subgraph, node, name), file in self.files.items():
            workflow = workflow.with_input(node, name, os.path.relpath(file, folder), subgraph=subgraph)
        return workflow


def _write_once(part: Path, name: str, write: Callable[[Path], object]) -> None:
    """Write a file of a folder under another name and rename it, unless it is there already."""
    target = part / name
    if ".." in PurePath(name).parts or not target.is_relative_to(part):
        raise InputError(f"'{name}' is outside the folder that is saved")
    if target.exists():
        return
    with _errors_of(name), unfinished(target.parent, name=f".{target.name}") as hidden:
        hidden.unlink(missing_ok=True)  # of a process that was killed
        write(hidden)
        if hidden.exists():
            finish(hidden, target, durable=True)


def write_new(first: Path, write: Callable[[Path], object], claimed: Callable[[], Path] | None = None) -> Path:
    """Write a file under the next free number from `first` on, which is claimed once all of it is on disk.

    Args:
        first: the path with the first number.
        write: writes the file at the path that it is given.
        claimed: claims another name.

    Raises:
        NodeError: the file can't be written, as the disk is full.
    """
    with _errors_of(first.name), file_in_work(first.parent, first.suffix) as part:
        write(part)
        sync(part)
        path = part.replace(claimed() if claimed else claim(first))
        sync_folder(path.parent)
        return path


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Turn errors of the system, such as a full disk, into a NodeError about the file that is being written."""
    try:
        yield
    except OSError as error:
        raise NodeError(
            f"{name} can't be written: {os.strerror(error.errno) if error.errno else error}",
            hint=f"{'make room' if is_disk_full(error) else 'see to it'}, and run again: what is finished is kept",
        ) from error


def _is_complete(path: Path) -> bool:
    """Whether there is more than the empty file, or folder, that a claim creates."""
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0


def _reclaimed(claimed: Sequence[Path]) -> Path | None:
    """The name that was claimed before, if the claim had created the empty file or folder."""
    return claimed[0] if claimed and claimed[0].exists() else None


def claim(first: Path, *, folder: bool = False, on_try: Callable[[Path], object] = lambda path: None) -> Path:
    """Create an empty file, or folder, with the next free number from `first` on; no two processes get the same.

    `on_try` is called with each name before it is tried.
    """
    suffix = "" if folder else first.suffix
    stem = first.name.removesuffix(suffix).rpartition("_")[0]
    pattern = re.compile(rf"{re.escape(stem)}_(\d+){re.escape(suffix)}")
    taken = (int(match[1]) for other in first.parent.iterdir() if (match := pattern.fullmatch(other.name)))
    number = max(taken, default=0) + 1
    while True:
        path = first.with_name(f"{stem}_{number:05}{suffix}")
        on_try(path)
        try:
            path.mkdir() if folder else path.touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1


def _write_plain(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _write_png(data: bytes, path: Path, tags: Mapping[str, str]) -> None:
    """PNG specification, 11.3.3.2: a tEXt chunk is a Latin-1 keyword, a zero byte and Latin-1 text."""
    if not data.startswith(PNG_START):
        raise InputError("the data to be saved as PNG are not a PNG file")
    texts = b"".join(_png_chunk(b"tEXt", f"{name}\0{text}".encode("latin-1")) for name, text in tags.items())
    path.write_bytes(data[:PNG_HEADER] + texts + data[PNG_HEADER:])


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_mp4(data: bytes, path: Path, tags: Mapping[str, str]) -> None:
    """The same packets in a new container, with its index in front so that playing can start at once."""
    import av

    options = {"movflags": "use_metadata_tags+faststart"}
    with av.open(BytesIO(data), "r") as source, av.open(str(path), "w", format="mp4", options=options) as target:
        target.metadata.update(tags)
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:  # the last, empty one of a stream
                packet.stream = streams[packet.stream.index]
                target.mux(packet)


EMBED: Mapping[str, Callable[[bytes, Path, Mapping[str, str]], None]] = {"png": _write_png, "mp4": _write_mp4}
"""What writes files that carry texts, by the ending of their names."""
