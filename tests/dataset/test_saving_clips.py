"""Data sets whose clips can't all be saved: if a disk is to blame, saving ends; if a video is, the set says so."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.document.workflow import Workflow
from engine.errors import InputError, NodeError
from engine.models.digest import digest
from engine.run.saving import OutputFolder
from engine.values import Folder
from nodes.dataset.save import cutting, excerpts
from nodes.dataset.save.folder import folder
from nodes.dataset.save.statistics import about, lasting
from nodes.dataset.table import CLIPS, to_table
from nodes.files.footage import Footage
from tests.dataset.films import three_shots, write

resource = pytest.importorskip("resource")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_shots(tmp_path_factory.mktemp("raw") / "film.mp4")


def data_set(*films: Path, layout: Literal["files", "webdataset", "none"] = "files", exact: bool = True) -> Folder:
    """A data set of the three shots of films."""
    shots = [(0, 48), (48, 120), (120, 168)]
    clips = [
        {"video": film.name, "clip": number, "source": str(film), "dropped": [], "caption": "a snail"}
        | {"source_digest": digest(film) if film.exists() else None}
        | {"first_frame": first, "end_frame": end, "start": first / 24, "seconds": (end - first) / 24}
        for film in films
        for number, (first, end) in enumerate(shots)
    ]
    return folder("set", to_table(clips, CLIPS), None, layout=layout, exact=exact)


def save(out: Path, value: Folder) -> Path:
    (path,) = OutputFolder(out, Workflow.read({"graph": {}})).write(value)
    return path


def bytes_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Have the system refuse to write more than so many bytes to a file, as a full disk would, in the middle of it."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("layout", ["files", "webdataset"])
def test_a_disk_that_refuses_to_write_ends_the_node_and_the_next_run_goes_on(
    layout: Literal["files", "webdataset"], exact: bool, film: Path, tmp_path: Path
) -> None:
    whole = bytes_of(save(tmp_path / "whole", data_set(film, layout=layout, exact=exact)))
    largest = max(len(data) for name, data in whole.items() if name.endswith((".mp4", ".tar")))
    for size in (4000, largest - 1):
        with (
            files_no_larger_than(size),
            pytest.raises(NodeError, match=r"^(clips|shards)/\S+ can't be written: File too large") as caught,
        ):
            save(tmp_path / "out", data_set(film, layout=layout, exact=exact))
        assert caught.value.exit_code == 5
        assert not list((tmp_path / "out").glob("set*")), "no short data set is taken for a whole one"
    assert bytes_of(save(tmp_path / "out", data_set(film, layout=layout, exact=exact))) == whole
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set_00001"]


def test_a_full_disk_is_said_to_be_full_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = {"a.txt": lambda path: path.write_text("a"), "b/c.txt": full}
    with pytest.raises(NodeError, match=r"b/c.txt can't be written: No space left") as caught:
        save(tmp_path, Folder("set", files, "x"))
    assert "make room, and run again" in str(caught.value.hint)
    kept = {name: data for part in tmp_path.glob(".*.part") for name, data in bytes_of(part).items()}
    assert kept.keys() == {"a.txt", "workflow.json"}


def test_a_file_system_that_is_really_full(film: Path, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "none", disk], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        with pytest.raises(NodeError, match=r"clips/00000\d.mp4 can't be written: No space left"):
            save(disk, data_set(film))
        assert not list(disk.glob("set*"))
        subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
        assert len(pq.read_table(save(disk, data_set(film)) / "manifest.parquet")) == 3
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_times_are_told_in_the_unit_that_suits_them(film: Path, tmp_path: Path) -> None:
    told = [lasting(hours) for hours in (0, 8 / 3600, 1 / 60, 0.2, 1, 12.345)]
    assert told == ["0.0 seconds", "8.0 seconds", "1.0 minutes", "12.0 minutes", "1.00 hours", "12.35 hours"]
    saved = save(tmp_path, data_set(film))
    assert "3 of 3 clips from 0 videos, 7.0 seconds" in (saved / "README.md").read_text()
    assert "<b>7.0 seconds</b>" in (saved / "report.html").read_text()


def test_a_data_set_says_that_its_clips_are_silent(film: Path, tmp_path: Path) -> None:
    saved = save(tmp_path, data_set(film))
    with av.open(str(saved / "clips" / "000000.mp4")) as clip:
        assert not clip.streams.audio
    said = json.loads(pq.read_schema(saved / "manifest.parquet").metadata[b"kinograph"])["sound"]
    assert said.startswith("Clips are silent: the sound of the videos is left out.")
    assert json.loads((saved / "statistics.json").read_text())["sound"] == said
    for name in ("README.md", "report.html"):
        assert said in (saved / name).read_text()
    scores = save(tmp_path, data_set(film, layout="none"))
    assert "silent" not in (scores / "README.md").read_text(), "there are none"


@pytest.mark.parametrize("cut", [0, 1, 1000, -1])
def test_a_clip_that_the_disk_lost_part_of_is_noticed(
    cut: int, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(path: Path, source: Footage, clip: excerpts.Clip) -> excerpts.Written:
        written = excerpts.write_exact(path, source, clip)
        path.write_bytes(path.read_bytes()[:cut])
        return written

    monkeypatch.setattr(cutting, "write_exact", torn)
    with pytest.raises(NodeError, match=r"a clip was not written as it should be: \d+ of 48 frames"):
        save(tmp_path, data_set(film))
    assert not list(tmp_path.glob("set*"))


@pytest.mark.parametrize("exact", [True, False])
def test_a_clip_whose_video_is_gone_ends_the_node_too(exact: bool, film: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mp4 isn't there"):
        save(tmp_path, data_set(film, tmp_path / "gone.mp4", exact=exact))
    assert not list(tmp_path.glob("set*"))


@pytest.mark.parametrize("layout", ["files", "webdataset"])
def test_a_clip_that_its_video_no_longer_has_is_listed_as_dropped(
    layout: Literal["files", "webdataset"], film: Path, tmp_path: Path
) -> None:
    short = write(tmp_path / "short.mp4", np.zeros((60, 64, 64, 3), np.uint8))
    saved = save(tmp_path, data_set(film, short, layout=layout))
    manifest = pq.read_table(saved / "manifest.parquet").to_pylist()
    assert [(row["video"], row["clip"]) for row in manifest] == [*(("film.mp4", n) for n in range(3)), ("short.mp4", 0)]
    if layout == "webdataset":
        with tarfile.open(saved / "shards" / "00000.tar") as shard:
            assert sorted(shard.getnames()) == [f"00000{n}.{e}" for n in range(4) for e in ("json", "mp4", "txt")]
    reasons = [row["dropped"] for row in pq.read_table(saved / "scores.parquet").to_pylist()]
    assert reasons[:4] == [[]] * 4
    assert "can't be cut out of its video: short.mp4 doesn't have the frames of a clip any more" in reasons[4]
    assert {about(reason) for reason in (*reasons[4], *reasons[5])} == {"cutting"}
    facts = json.loads((saved / "statistics.json").read_text())
    assert (facts["clips"], facts["clips_kept"]) == (6, 4)
    assert "4 of 6 clips" in (saved / "README.md").read_text()
    assert "doesn&#39;t have the frames" in (saved / "report.html").read_text()


@pytest.mark.parametrize("layout", ["files", "webdataset"])
@pytest.mark.parametrize("again", [False, True], ids=["for good", "while it is read"])
def test_nothing_is_cut_from_another_video_that_took_the_place_of_the_curated_one(
    layout: Literal["files", "webdataset"], again: bool, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = tmp_path / "mine.mp4", np.zeros((168, 64, 64, 3), np.uint8)
    mine.write_bytes(film.read_bytes())
    value = data_set(film, mine, layout=layout)
    cut = excerpts.write_exact

    def swapped(path: Path, source: Footage, clip: excerpts.Clip) -> excerpts.Written:
        if source.path != mine:
            return cut(path, source, clip)
        write(mine, other)
        try:
            return cut(path, source, clip)
        finally:
            mine.write_bytes(film.read_bytes())

    if again:
        monkeypatch.setattr(cutting, "write_exact", swapped)
        value = data_set(film, mine, layout=layout)
    else:
        write(mine, other)
    saved = save(tmp_path, value)
    manifest = pq.read_table(saved / "manifest.parquet").to_pylist()
    assert [row["video"] for row in manifest] == ["film.mp4"] * 3
    reasons = [row["dropped"] for row in pq.read_table(saved / "scores.parquet").to_pylist()]
    assert reasons[3:] == [["can't be cut out of its video: mine.mp4 was changed since it was curated"]] * 3


def test_nothing_is_decoded_of_a_video_that_was_changed_since_it_was_curated(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, gone = tmp_path / "changed.mp4", tmp_path / "gone.mp4"
    for mine in (changed, gone):
        mine.write_bytes(film.read_bytes())
    value, other = data_set(film, changed), data_set(film, gone)
    write(changed, np.zeros((168, 64, 64, 3), np.uint8))
    gone.unlink()
    opened: list[str] = []
    monkeypatch.setattr(cutting, "Footage", lambda path: (opened.append(path.name), Footage(path))[1])
    saved = save(tmp_path, value)
    assert len(pq.read_table(saved / "manifest.parquet")) == 3
    assert opened == ["film.mp4"], "and one that wasn't is opened once for all its clips"
    with pytest.raises(InputError, match=r"gone\.mp4 isn't there"):
        save(tmp_path, other)


def test_footage_that_was_opened_while_another_video_took_its_place_is_not_used_again(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save(tmp_path / "whole", data_set(film))
    mine = tmp_path / "film.mp4"
    mine.write_bytes(film.read_bytes())
    opened: list[Footage] = []

    def swapped(path: Path) -> Footage:
        if opened:
            opened.append(Footage(path))
        else:
            write(mine, np.zeros((168, 64, 64, 3), np.uint8), fps=12)
            opened.append(Footage(path))
            mine.write_bytes(film.read_bytes())
        return opened[-1]

    monkeypatch.setattr(cutting, "Footage", swapped)
    saved = save(tmp_path / "out", data_set(mine))
    assert [footage.fps for footage in opened] == [12, 24]
    assert [row["clip"] for row in pq.read_table(saved / "manifest.parquet").to_pylist()] == [1, 2]
    for name in ("000001.mp4", "000002.mp4"):
        assert (saved / "clips" / name).read_bytes() == (whole / "clips" / name).read_bytes()


def test_reasons_are_known_where_another_run_left_the_clips_out(film: Path, tmp_path: Path) -> None:
    short = write(tmp_path / "short.mp4", np.zeros((60, 64, 64, 3), np.uint8))
    whole = bytes_of(save(tmp_path / "whole", data_set(film, short, layout="webdataset")))
    shards = data_set(film, short, layout="webdataset").files

    def stopped(path: Path) -> None:
        raise InputError("stopped")

    cut = {"shards/00000.tar": shards["shards/00000.tar"], "scores.parquet": stopped}
    with pytest.raises(InputError, match="stopped"):
        save(tmp_path / "out", Folder("set", cut, data_set(film, short, layout="webdataset").identity))
    assert bytes_of(save(tmp_path / "out", data_set(film, short, layout="webdataset"))) == whole


def test_a_set_of_which_no_clip_can_be_cut_is_an_error(tmp_path: Path) -> None:
    short = write(tmp_path / "short.mp4", np.zeros((5, 64, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"none of the 3 clips can be saved; the first can't be cut out of its video"):
        save(tmp_path, data_set(short))
    assert not list(tmp_path.glob("set*"))


def test_lengths_that_differ_by_rounding_alone_are_counted_as_one(film: Path, tmp_path: Path) -> None:
    starts = [0.0, 0.1, 0.7, 1.3, 3.1]
    clips = [
        {"video": film.name, "clip": number, "source": str(film), "dropped": ["motion 1 < 2"] if number else []}
        | {"source_digest": digest(film), "first_frame": 0, "end_frame": 36, "start": start}
        | {"seconds": (start + 1.5) - start}
        for number, start in enumerate(starts)
    ]
    assert len({clip["seconds"] for clip in clips}) > 1
    saved = save(tmp_path, folder("set", to_table(clips, CLIPS), None, layout="none", exact=True))
    lengths = json.loads((saved / "statistics.json").read_text())["scores"]["seconds"]
    assert (max(lengths["all"]), sum(lengths["all"]), max(lengths["kept"])) == (5, 5, 1)
    assert (lengths["edges"][0], lengths["edges"][-1]) == pytest.approx((1.0, 2.0))
