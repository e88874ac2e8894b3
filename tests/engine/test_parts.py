"""Work on many files: changes are noticed, parts of the work are kept, and a folder is saved file by file."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.document.workflow import Workflow
from engine.errors import Cancelled, InputError, MissingError
from engine.events import NodeFailed, NodeSaved
from engine.graph.keys import part_key
from engine.run.folder_in_work import folder_in_work
from engine.run.holding import Holding
from engine.run.saving import OutputFolder
from engine.store.cache import Cache
from engine.store.disk import Disk
from engine.values import Folder
from tests.engine.toys import Run, Trains, checked, node

ROOT = Path(__file__).parents[2]
READ = {"read": node("ReadFolder", folder="in")}


def write(folder: Path, **texts: str) -> None:
    (folder / "in").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "in" / f"{name}.txt").write_text(text)


class TestFilesOfAFolder:
    def test_new_changed_and_removed_files_are_noticed(self, cache: Cache, tmp_path: Path) -> None:
        def read() -> str:
            return str(Run(READ, ["read"], cache=cache, base=tmp_path).results["read"])

        write(tmp_path, a="one", b="two")
        assert read() == "one two"
        write(tmp_path, c="three")
        assert read() == "one two three"
        (tmp_path / "in" / "b.txt").unlink()
        assert read() == "one three"
        assert not Run(READ, ["read"], cache=cache, base=tmp_path).ran

    def test_a_replaced_file_is_noticed_even_with_the_same_size_and_time(self, tmp_path: Path) -> None:
        write(tmp_path, a="one")
        before, path = checked(READ, ["read"], tmp_path), tmp_path / "in" / "a.txt"
        times = path.stat()
        path.write_text("two")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        after = checked(READ, ["read"], tmp_path)
        assert before.steps["read"].contents != after.steps["read"].contents

    def test_a_folder_without_any_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(MissingError, match=r"node read, input folder: no files match 'in'"):
            checked(READ, ["read"], tmp_path)


class TestParts:
    def test_kept_parts_are_not_computed_again_after_a_failure(self, tmp_path: Path) -> None:
        write(tmp_path, a="one", b="")
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            failed = Run(READ, ["read"], cache=cache, base=tmp_path)
            assert failed.of(NodeFailed)
            assert failed.ran == {"a.txt": 1, "b.txt": 1}
        write(tmp_path, b="two")
        with Cache(disk=Disk(tmp_path / "cache")) as cache:  # as another process would have it
            run = Run(READ, ["read"], cache=cache, base=tmp_path)
            assert (run.results, run.ran) == ({"read": "one two"}, {"b.txt": 1})

    def test_a_run_with_other_settings_uses_the_kept_parts(self, cache: Cache, tmp_path: Path) -> None:
        write(tmp_path, a="one", b="two")
        Run(READ, ["read"], cache=cache, base=tmp_path)
        other = {"read": node("ReadFolder", folder="in", joint="-")}
        run = Run(other, ["read"], cache=cache, base=tmp_path)
        assert (run.results, run.ran) == ({"read": "one-two"}, {})


class TestStates:
    """Parts that are kept one in place of the other, such as a training's states."""

    def held(self, folder: Path) -> list[int]:
        """Which states are on the disk."""
        disk = Disk(folder)
        return [count for count in range(10) if part_key(Trains, f"count {count}", "cpu") in disk]

    def train(self, folder: Path | None, to: int = 5) -> Run:
        with Cache(disk=folder and Disk(folder)) as cache:
            return Run({"train": node("Trains", to=to)}, ["train"], cache=cache)

    def test_the_last_alone_stays(self, tmp_path: Path) -> None:
        assert self.train(tmp_path).ran["step"] == 5
        assert self.held(tmp_path) == [5]
        assert self.train(tmp_path, to=7).ran["step"] == 2
        assert self.held(tmp_path) == [7]

    def test_in_memory_too(self) -> None:
        with Cache() as cache:
            Run({"train": node("Trains", to=5)}, ["train"], cache=cache)
            keys = [part_key(Trains, f"count {count}", "cpu") for count in range(1, 6)]
            assert [cache.held(key) for key in keys] == [False, False, False, False, True]

    @pytest.mark.parametrize("lasting", [True, False])
    def test_what_is_kept_in_its_own_place_stays(self, lasting: bool, tmp_path: Path) -> None:
        with Cache(disk=Disk(tmp_path)) as cache:
            holding = Holding(cache, "cpu", grows=True)
            for _ in range(2):
                holding.keep(Trains, lasting, "count 1", (1,), 1.0, instead_of=["count 1"])
                assert holding.recall(Trains, lasting, "count 1") == (1,)
        assert self.held(tmp_path) == ([1] if lasting else [])

    def test_an_entry_is_not_put_in_place_of_itself(self, tmp_path: Path) -> None:
        key = part_key(Trains, "count 1", "cpu")
        with Cache(disk=Disk(tmp_path)) as cache:
            cache.put(key, (1,), 1.0, upstream=0, keep=True, instead_of=[key])
            assert key in cache.memory
        assert self.held(tmp_path) == [1]

    def test_one_that_another_process_has_removed_does_not_replace_the_one_before(self, tmp_path: Path) -> None:
        first, second = (part_key(Trains, f"count {count}", "cpu") for count in (1, 2))
        with Cache(disk=Disk(tmp_path)) as cache:
            for key in (first, second):
                cache.put(key, (key,), 1.0, upstream=0, keep=True)
        with Cache(disk=Disk(tmp_path)) as cache:
            for file in tmp_path.glob(f"{second}.*"):
                file.unlink()
            cache.put(second, (second,), 1.0, upstream=0, keep=True, instead_of=[first])
        assert self.held(tmp_path) == [1]

    def test_a_process_that_is_killed_before_the_one_before_is_removed_leaves_both(self, tmp_path: Path) -> None:
        code = f"""
import os, signal
from pathlib import Path
from engine.store.disk import Disk
from tests.engine.test_parts import TestStates
Disk._remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
TestStates().train(Path({str(tmp_path)!r}))
"""
        killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        assert killed.returncode == -9
        left = self.held(tmp_path)
        assert left == [1, 2]
        assert self.train(tmp_path).ran["step"] == 3, "it goes on after the last"
        assert self.held(tmp_path) == [5], "what was left is removed as well"

    def test_one_that_cant_be_stored_does_not_replace_the_one_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        admit, admitted = Disk._admit, itertools.count()
        monkeypatch.setattr(Disk, "_admit", lambda *given: next(admitted) < 3 and admit(*given))
        self.train(tmp_path)
        assert self.held(tmp_path) == [3]

    def test_others_stay(self, tmp_path: Path) -> None:
        write(tmp_path, a="one")
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            Run(READ, ["read"], cache=cache, base=tmp_path)
        self.train(tmp_path / "cache")
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            other = {"read": node("ReadFolder", folder="in", joint="-")}
            assert not Run(other, ["read"], cache=cache, base=tmp_path).ran


class TestFolders:
    def test_a_folder_has_its_files_and_the_workflow(self, tmp_path: Path) -> None:
        graph = {"save": node("SaveFolder", texts=["a", "b", "c"], prefix="sub/set")}
        for number in (1, 2):
            (saved,) = Run(graph, out=tmp_path).of(NodeSaved)
            assert saved.files == (tmp_path / "sub" / f"set_0000{number}",)
            texts = {str(path.relative_to(saved.files[0])): path.read_text() for path in saved.files[0].rglob("*.txt")}
            assert texts == {"0/text.txt": "a", "1/text.txt": "b", "2/text.txt": "c"}
            assert Workflow.parse((saved.files[0] / "workflow.json").read_text()).graph.keys() == {"save"}
        assert len(list((tmp_path / "sub").iterdir())) == 2

    def test_an_interrupted_folder_is_resumed(self, tmp_path: Path) -> None:
        wrote: list[str] = []

        def folder() -> Folder:
            def writer(name: str) -> object:
                return lambda path: (wrote.append(name), path.write_text(name))

            return Folder("set", {name: writer(name) for name in "abc"}, "same")  # type: ignore[misc]

        def stop(done: int, total: int) -> None:
            assert total == 4
            if done == 2:
                raise Cancelled

        outputs = OutputFolder(tmp_path, Workflow.read({"graph": {}}))
        with pytest.raises(Cancelled):
            outputs.write(folder(), stop)
        assert not list(tmp_path.glob("set*"))
        (path,) = outputs.write(folder())
        assert wrote == ["a", "b", "c"]
        assert {file.name for file in path.iterdir()} == {"a", "b", "c", "workflow.json"}

    def test_two_runs_that_save_equal_files_at_once_both_have_all_of_them(self, tmp_path: Path) -> None:
        outputs = OutputFolder(tmp_path, Workflow.read({"graph": {}}))
        others: list[Path] = []

        def slow(path: Path) -> None:
            path.write_text("half")
            others.extend(outputs.write(folder(lambda path: path.write_text("second"))))
            assert path.read_text() == "half", "the other run leaves this file alone"
            path.write_text("first")

        def folder(write: Callable[[Path], object]) -> Folder:
            return Folder("v1.2", {"a": write, "b": lambda path: path.write_text("b")}, "same")

        written = [*outputs.write(folder(slow)), *others]
        assert [path.name for path in written] == ["v1.2_00002", "v1.2_00001"]
        assert [(path / "a").read_text() for path in written] == ["first", "second"]
        assert {path.name for path in tmp_path.iterdir()} == {"v1.2_00001", "v1.2_00002"}, "nothing else is left"

    def test_a_folder_goes_on_where_a_killed_process_left_it_but_not_while_that_one_lives(self, tmp_path: Path) -> None:
        code = f"""
from pathlib import Path
from engine.run.folder_in_work import folder_in_work
with folder_in_work(Path({str(tmp_path)!r}), "set") as part:
    print(part, flush=True)
    input()
"""
        with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, cwd=ROOT) as process:
            assert process.stdout
            theirs = Path(process.stdout.readline().strip())
            with folder_in_work(tmp_path, "set") as mine:
                assert mine != theirs
                (mine / "a").touch()
                mine.rename(tmp_path / "done")
            process.kill()
        with folder_in_work(tmp_path, "set") as mine:
            assert mine == theirs

    def test_its_files_stay_inside_it(self, tmp_path: Path) -> None:
        folder = Folder("set", {"../a": lambda path: path.write_text("a")}, "x")
        with pytest.raises(InputError, match="is outside the folder"):
            OutputFolder(tmp_path, Workflow.read({"graph": {}})).write(folder)
