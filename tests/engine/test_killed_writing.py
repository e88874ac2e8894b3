"""A run is killed while it writes: the next attempt writes its files under the same names, complete and only once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.document.workflow import Workflow
from engine.run.saving import OutputFolder
from engine.values import Files, Folder, Media

THREE = Files(tuple(Media(f"file {number}".encode(), "txt", "note") for number in range(3)))


class Killed(BaseException):
    """Stands for the end of the process."""


def outputs(folder: Path) -> OutputFolder:
    return OutputFolder(folder, Workflow(graph={}))


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_moment(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed: Sequence[Path] = ()
    moments = iter(range(6))

    def moment() -> None:
        if next(moments) == step:
            raise Killed

    replace = Path.replace

    def replacing(path: Path, target: Path) -> Path:
        moment()
        return replace(path, target)

    def claiming(names: Sequence[Path]) -> None:
        nonlocal claimed
        claimed = names
        moment()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replacing)
        with pytest.raises(Killed):
            outputs(tmp_path).write(THREE, on_claim=claiming)
    written = outputs(tmp_path).write(THREE, claimed=claimed)
    assert [path.name for path in written] == [f"note_0000{number}.txt" for number in (1, 2, 3)]
    assert texts(tmp_path) == {f"note_0000{number + 1}.txt": f"file {number}" for number in range(3)}


def test_a_name_that_another_process_has_taken_since_is_not_reused(tmp_path: Path) -> None:
    written = outputs(tmp_path).write(THREE.items[0], claimed=[tmp_path / "note_00001.txt"])
    assert [path.name for path in written] == ["note_00001.txt"]


def test_a_folder(tmp_path: Path) -> None:
    def folder() -> Folder:
        return Folder("clips", {"a.txt": lambda path: path.write_text("a")}, "identity")

    claimed: Sequence[Path] = ()

    def killed(names: Sequence[Path]) -> None:
        nonlocal claimed
        claimed = names
        raise Killed

    with pytest.raises(Killed):
        outputs(tmp_path).write(folder(), on_claim=killed)
    for _ in range(2):
        assert outputs(tmp_path).write(folder(), claimed=claimed) == (tmp_path / "clips_00001",)
    assert (tmp_path / "clips_00001" / "a.txt").read_text() == "a"
