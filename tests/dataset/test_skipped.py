"""What lies in a folder beside its videos is listed, each with the reason why it was skipped."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.node import Context
from engine.store.cache import Cache
from nodes.dataset import curate, sources
from nodes.dataset.describe.describer import Describer, DescribeSettings
from nodes.dataset.provenance import skipped_of
from nodes.dataset.scan.scanner import ScanSettings
from nodes.dataset.table import rows, to_arrow
from tests.dataset.films import song, sprites, write
from tests.dataset.test_curate import run

SKIPPED = {
    "cover.jpg": "is a JPEG picture",
    "data.bin": "is of no type that is known to hold a video",
    "empty": "is empty",
    "gone.mp4": "is a link to a file that isn't there",
    "linked": "is a link to a folder",
    "more/paper.pdf": "is a PDF document",
    "notes.txt": "is a text",
    "pipe.mp4": "is not a regular file",
    "song.mp3": "has sound and a cover picture, no video",
    "speech.m4a": "has sound, no video",
    "still.webp": "is a WebP picture",
    ".hidden.mp4": "is hidden",
    ".trash": "is hidden",
}


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder with a video, a broken one, and all sorts of other things."""
    raw = tmp_path / "raw"
    for folder in ("more", ".trash"):
        (raw / folder).mkdir(parents=True)
    film = write(raw / "shot.mp4", sprites(1)).read_bytes()
    (raw / "broken.mp4").write_bytes(bytes(1000))
    for name in (".hidden.mp4", ".trash/old.mp4"):
        (raw / name).write_bytes(film)
    Image.new("RGB", (8, 8)).save(raw / "cover.jpg")
    Image.new("RGB", (8, 8)).save(raw / "still.webp")
    song(raw / "song.mp3", "mp3", "libmp3lame", cover=True)
    song(raw / "speech.m4a", "mp4", "aac", cover=False)
    (raw / "empty").touch()
    (raw / "data.bin").write_bytes(bytes(100))
    (raw / "notes.txt").write_text("no video")
    (raw / "more" / "paper.pdf").write_bytes(b"%PDF-1.7")
    (raw / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (raw / "linked").symlink_to(tmp_path)
    os.mkfifo(raw / "pipe.mp4")
    return raw


def facts_of(saved: Path) -> Any:
    return json.loads((saved / "statistics.json").read_text())


def test_a_data_set_lists_what_lay_beside_its_videos(messy: Path, tmp_path: Path) -> None:
    execution, saved = run(messy, Cache(), tmp_path / "out", layout="none")
    assert [row["video"] for row in rows(execution.results["curate"][1])] == ["broken.mp4", "shot.mp4"]
    facts = facts_of(saved)
    assert {each["file"]: each["reason"] for each in facts["skipped_files"]} == SKIPPED
    assert (facts["skipped"], facts["videos"], facts["videos_with_problems"]) == (13, 2, 1)
    metadata = pq.read_schema(saved / "videos.parquet").metadata
    assert json.loads(metadata[b"kinograph"]) == {"skipped": 13, "files": facts["skipped_files"]}
    card, page = (saved / "README.md").read_text(), (saved / "report.html").read_text()
    assert "13 files or folders beside the videos were skipped" in card
    assert "| is hidden | 2 |" in card
    assert "<td>has sound and a cover picture, no video</td>" in page
    assert "13 other files skipped" in page
    assert str(messy) not in card + page, "nobody need know where the videos lie"


def test_a_folder_of_videos_alone_skips_nothing(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw" / "shot.mp4", sprites(1))
    _, saved = run(tmp_path / "raw", Cache(), tmp_path / "out", layout="none")
    assert (facts_of(saved)["skipped"], facts_of(saved)["skipped_files"]) == (0, [])
    assert "kipped" not in (saved / "README.md").read_text() + (saved / "report.html").read_text()


def test_a_run_says_what_it_skips_and_counts_the_rest(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate, "MOST_LISTED", 4)
    said: list[str] = []
    describe = Describer(Context(), DescribeSettings("", "", "", "", "", ""), None)
    settings = curate.CurationSettings(ScanSettings(text=False), describe)
    found = curate.curate(Context(on_text=said.append), messy, settings)
    count, listed = skipped_of(to_arrow(found.videos))
    assert (count, [each.file for each in listed]) == (13, [*SKIPPED][:4])
    assert "".join(said).splitlines() == [
        "broken.mp4: can't be opened as a video: Invalid data found when processing input",
        "shot.mp4: 1 clip",
        "skipped cover.jpg, which is a JPEG picture",
        "skipped data.bin, which is of no type that is known to hold a video",
        "skipped empty, which is empty",
        "skipped gone.mp4, which is a link to a file that isn't there",
        "skipped 9 more: see the report",
    ]


def test_another_file_in_the_folder_is_listed_by_the_next_run(messy: Path, tmp_path: Path) -> None:
    cache = Cache()
    run(messy, cache, tmp_path / "out", layout="none")
    (messy / "new.txt").write_text("new")
    _, saved = run(messy, cache, tmp_path / "out", layout="none")
    assert facts_of(saved)["skipped"] == 14
    (messy / ".swap").write_text("other programs come and go")
    _, again = run(messy, cache, tmp_path / "out", layout="none")
    assert facts_of(again)["skipped"] == 14, "hidden files alone make no work"


def test_a_folder_that_may_not_be_read_is_listed(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "more":  # permissions don't keep out a superuser, as whom tests may run
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert sources.Skipped(messy / "more", "may not be read") in sources.survey(messy).skipped


def test_a_pattern_skips_of_what_it_matches(messy: Path) -> None:
    found = sources.survey(messy / "s*")
    assert [path.name for path in found.videos] == ["shot.mp4"]
    assert [path.name for path, _ in found.skipped] == ["song.mp3", "speech.m4a", "still.webp"]


def test_links_out_of_the_folders_that_may_be_read_are_listed(messy: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.mp4").write_bytes((messy / "shot.mp4").read_bytes())
    (messy / "theirs.mp4").symlink_to(tmp_path / "theirs.mp4")
    found = sources.survey(messy, lambda path: path.resolve().is_relative_to(messy))
    reason = "is a link that leads out of the folders that may be read"
    assert sources.Skipped(messy / "theirs.mp4", reason) in found.skipped
    assert [path.name for path in found.videos] == ["broken.mp4", "shot.mp4"]
