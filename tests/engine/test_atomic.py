"""Files and folders are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.atomic import rename_noreplace, replacing, unfinished, write
from tests.conftest import largest_file


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "new" / "file", b"data", durable=True)
    assert (tmp_path / "new" / "file").read_bytes() == b"data"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_a_write_that_fails_halfway_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "file", b"before")
    with largest_file(5000), pytest.raises(OSError, match="too large"):
        write(tmp_path / "file", b"x" * 10_000)
    assert (tmp_path / "file").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_file_is_named_in_the_error(tmp_path: Path) -> None:
    with largest_file(5000), pytest.raises(OSError, match="too large") as caught:
        write(tmp_path / "file", b"x" * 10_000)
    assert str(caught.value) == f"[Errno 27] File too large: '{tmp_path / 'file'}'"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as renaming:
        write(tmp_path / "folder", b"data")
    assert str(renaming.value) == f"[Errno 21] Is a directory: '{tmp_path / 'folder'}'"


def test_a_folder_gets_its_name_once_all_of_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def note(number: int) -> None:
        synced.append((os.fstat(number).st_ino, (tmp_path / "kept").exists()))

    monkeypatch.setattr(os, "fsync", note)
    with replacing(tmp_path / "kept", durable=True) as part:
        (part / "inner").mkdir(parents=True)
        (part / "inner" / "file").write_bytes(b"data")
    kept = tmp_path / "kept"
    before = [path.stat().st_ino for path in (kept / "inner" / "file", kept / "inner", kept)]
    assert synced == [*((number, False) for number in before), (tmp_path.stat().st_ino, True)]
    assert [*tmp_path.iterdir()] == [kept]


def test_an_error_about_another_file_keeps_that_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "file"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")
    with pytest.raises(FileNotFoundError) as unwritten, replacing(tmp_path / "file"):
        pass
    assert unwritten.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("begin", [Path.touch, Path.mkdir])
def test_what_is_left_of_a_temporary_name_goes_with_the_error(tmp_path: Path, begin: Callable[[Path], object]) -> None:
    def fail() -> None:
        with unfinished(tmp_path) as part:
            begin(part)
            assert part.exists()
            if part.is_dir():
                (part / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not [*tmp_path.iterdir()]


def test_a_taken_name_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    (tmp_path / "part").write_bytes(b"after")
    with pytest.raises(FileExistsError):
        rename_noreplace(tmp_path / "part", tmp_path / "file")
    rename_noreplace(tmp_path / "part", tmp_path / "other")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"before", "other": b"after"}
