"""Files carry the workflow that made them, in the form the ecosystem's tools read."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engine.document.formats import from_ui, is_made_here, writing
from engine.document.workflow import Workflow
from engine.errors import InputError, NodeError
from engine.registry import Registry
from engine.run.saving import OutputFolder
from engine.values import Files, Folder, Media

WORKFLOW = Workflow.read(
    {"title": "Schnecke 🐌", "graph": {"1": {"class_type": "Text", "inputs": {"text": "é\n\0"}}}, "layout": [1]}
)


def png() -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(buffer, "png")
    return buffer.getvalue()


def mp4() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=7)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for shade in (0, 100, 200):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def carries(texts: Mapping[str, str]) -> None:
    """Check that a file carries the workflow in each form."""
    assert json.loads(texts["prompt"]) == WORKFLOW.api()
    assert Workflow.parse(texts["kinograph"]) == WORKFLOW
    drawn = json.loads(texts["workflow"])
    assert is_made_here(drawn)
    assert from_ui(drawn, Registry([])).graph == WORKFLOW.graph


def test_a_png_carries_graph_and_document_and_keeps_its_pixels(tmp_path: Path) -> None:
    (path,) = OutputFolder(tmp_path, WORKFLOW).write(Media(png(), "png", "snail"))
    with Image.open(path) as image, Image.open(BytesIO(png())) as original:
        carries(image.text)
        assert np.array_equal(np.asarray(image), np.asarray(original))


def test_an_mp4_carries_graph_and_document_and_keeps_its_packets(tmp_path: Path) -> None:
    (path,) = OutputFolder(tmp_path, WORKFLOW).write(Media(mp4(), "mp4", "snail"))

    def packets(container: av.container.InputContainer) -> list[tuple[int | None, bytes]]:
        return [(packet.pts, bytes(packet)) for packet in container.demux(video=0) if packet.dts is not None]

    with av.open(path) as container, av.open(BytesIO(mp4())) as original:
        carries(container.metadata)
        assert container.streams.video[0].average_rate == 7
        assert packets(container) == packets(original)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "a browser can start before it has all"


def test_what_a_client_sends_along_is_carried_as_it_is(tmp_path: Path) -> None:
    theirs = {"nodes": [], "extra": {"é": "\0"}}
    odd = {"": 1, " spaced": 1, "x" * 80: 1, "two\nlines": 1, "Ω": 1, "prompt": 5, "kinograph": 5}
    outputs = OutputFolder(tmp_path, WORKFLOW, carried={"workflow": theirs, "my tool": [1, None], "x" * 79: 2, **odd})
    pixels, film = outputs.write(Files((Media(png(), "png", "snail"), Media(mp4(), "mp4", "snail"))))
    with Image.open(pixels) as image, av.open(film) as container:
        for texts in (image.text, container.metadata):
            assert json.loads(texts["prompt"]) == WORKFLOW.api()
            assert Workflow.parse(texts["kinograph"]) == WORKFLOW
            assert json.loads(texts["workflow"]) == theirs
            assert (json.loads(texts["my tool"]), json.loads(texts["x" * 79])) == ([1, None], 2)
            assert not odd.keys() - {"prompt", "kinograph"} & texts.keys()


def test_a_workflow_too_large_to_be_drawn_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST_NODES", 0)
    (path,) = OutputFolder(tmp_path, WORKFLOW).write(Media(png(), "png", "snail"))
    with Image.open(path) as image:
        assert image.text.keys() == {"prompt", "kinograph"}


def test_a_folder_holds_the_document_itself(tmp_path: Path) -> None:
    folder = Folder("shots", {"a.txt": lambda path: path.write_bytes(b"a")}, "one")
    (path,) = OutputFolder(tmp_path, WORKFLOW, carried={"workflow": {"nodes": []}}).write(folder)
    assert Workflow.parse((path / "workflow.json").read_bytes()) == WORKFLOW


@pytest.mark.parametrize(
    ("prefix", "where"), [("set", "set"), ("new/set", "new")], ids=["the folder itself", "one around it"]
)
@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "make room"), (errno.EROFS, "see to it")], ids=["full", "read-only"]
)
def test_a_folder_that_cannot_be_made_is_named(
    number: int, hint: str, prefix: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path.mkdir

    def mkdir(path: Path, *args: Any, **options: Any) -> None:
        if path != tmp_path:
            raise OSError(number, os.strerror(number), str(path))
        made(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(NodeError, match=f"^{where} can't be written: {os.strerror(number)}") as caught:
        OutputFolder(tmp_path, WORKFLOW).write(Folder(prefix, {}, "x"))
    assert str(caught.value.hint).startswith(hint)


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    (path,) = OutputFolder(tmp_path, WORKFLOW).write(Media(b"a snail", "txt", "theme"))
    assert path.read_bytes() == b"a snail"


def test_numbering_continues_and_files_are_never_overwritten(tmp_path: Path) -> None:
    outputs = OutputFolder(tmp_path, WORKFLOW)
    (tmp_path / "a_00007.txt").write_text("old")
    (tmp_path / "a_x.txt").write_text("another's")
    written = outputs.write(Files((Media(b"1", "txt", "a"), Media(b"2", "txt", "a"), Media(b"3", "txt", "b"))))
    assert [path.name for path in written] == ["a_00008.txt", "a_00009.txt", "b_00001.txt"]
    assert [path.read_bytes() for path in written] == [b"1", b"2", b"3"]


def at(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the current time."""
    monkeypatch.setattr(time, "localtime", lambda: time.strptime(moment, "%Y-%m-%d %H:%M:%S"))


def test_names_can_hold_the_time_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, snail = (
        OutputFolder(tmp_path, WORKFLOW),
        Media(b"1", "txt", "%year%/%month%-%day%/%hour%.%minute%.%second%_%%"),
    )
    for moment in ("2024-02-29 07:08:09", "2031-12-01 23:00:00"):
        at(moment, monkeypatch)
        outputs.write(Files((snail, snail)))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt")) == [
        "2024/02-29/07.08.09_%%_00001.txt",
        "2024/02-29/07.08.09_%%_00002.txt",
        "2031/12-01/23.00.00_%%_00001.txt",
        "2031/12-01/23.00.00_%%_00002.txt",
    ]


def test_a_claimed_name_is_kept_at_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at("2025-01-01 00:00:00", monkeypatch)
    (tmp_path / "2024").mkdir()
    taken = tmp_path / "2024" / "snail_00001.txt"
    taken.touch()
    assert OutputFolder(tmp_path, WORKFLOW).write(Media(b"1", "txt", "%year%/snail"), claimed=[taken]) == (taken,)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [taken]
    assert taken.read_bytes() == b"1"


def test_a_prefix_may_name_folders(tmp_path: Path) -> None:
    (path,) = OutputFolder(tmp_path, WORKFLOW).write(Media(b"1", "txt", "shots/one/a"))
    assert path == tmp_path / "shots" / "one" / "a_00001.txt"
    assert [other.name for other in path.parent.iterdir()] == ["a_00001.txt"], "nothing unfinished is left"


@pytest.mark.parametrize("prefix", ["../a", "/tmp/a", "a/../../b"])
def test_a_prefix_never_leads_outside_the_folder(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is outside the output folder"):
        OutputFolder(tmp_path / "out", WORKFLOW).write(Media(b"1", "txt", prefix))
    assert not (tmp_path / "out").exists()


def test_a_link_never_leads_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "within").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="through a link"):
        OutputFolder(tmp_path / "out", WORKFLOW).write(Media(b"1", "txt", "away/deeper/a"))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert OutputFolder(tmp_path / "out", WORKFLOW).write(Media(b"1", "txt", "within/a"))


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    assert OutputFolder(tmp_path / "out", WORKFLOW).write(Media(b"1", "txt", "shots/a"))


def test_data_that_are_not_a_png_are_not_saved_as_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are not a PNG file"):
        OutputFolder(tmp_path, WORKFLOW).write(Media(b"GIF89a", "png", "a"))
    assert not list(tmp_path.iterdir())
