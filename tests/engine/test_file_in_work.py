"""The hidden files that saved files are until they are whole, and those that killed processes leave."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.document.workflow import Workflow
from engine.run.file_in_work import file_in_work, sweep
from engine.run.saving import OutputFolder
from engine.values import Media

ROOT = Path(__file__).parents[2]
WRITE = """
import sys
from pathlib import Path
from engine.run.file_in_work import file_in_work

with file_in_work(Path(sys.argv[1]), ".txt") as part:
    part.write_text("half")
    print(part.name, flush=True)
    input()
"""


@contextmanager
def writing(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that writes a file there, and the hidden file."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WRITE, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield process, folder / process.stdout.readline().strip()
        process.kill()


def saved(folder: Path) -> None:
    """Save a text as a run does."""
    OutputFolder(folder, Workflow.read({})).write(Media(b"whole", "txt", "note"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_process_was_writing_goes_when_something_is_saved_there(tmp_path: Path) -> None:
    with writing(tmp_path) as (process, hidden):
        process.kill()
        process.wait()
        assert names(tmp_path) == {hidden.name}
        saved(tmp_path)
    assert names(tmp_path) == {"note_00001.txt"}


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    with writing(tmp_path) as (_, hidden):
        saved(tmp_path)
        assert hidden.read_text() == "half"


def test_a_saved_file_may_be_read_and_written_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    saved(tmp_path)
    assert (tmp_path / "note_00001.txt").stat().st_mode == (tmp_path / "other.txt").stat().st_mode


def test_other_hidden_files_stay(tmp_path: Path) -> None:
    others = {".hidden.txt", f".{'0' * 32}", f"{'0' * 32}.txt", f".{'g' * 32}.txt", f".{'3' * 32}.part"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".{'1' * 32}.d").mkdir()
    (tmp_path / f".{'2' * 32}.txt").symlink_to(tmp_path / ".hidden.txt")
    before = names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == before


def test_where_there_are_no_locks_only_old_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.run.file_in_work.take_lock", lambda path, flags: None)
    young, old = (tmp_path / f".{digit * 32}.txt" for digit in "45")
    young.touch()
    old.touch()
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert names(tmp_path) == {young.name}


def test_a_file_that_was_taken_for_left_over_before_it_was_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.run import file_in_work as module

    tried: list[Path] = []

    def taken_once(path: Path, flags: int = 0) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise FileNotFoundError(path)

    monkeypatch.setattr(module, "take_lock", taken_once)
    with file_in_work(tmp_path, ".txt") as part:
        assert part == tried[1] != tried[0]
