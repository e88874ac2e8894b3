"""The memory tier and the disk tier."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.store.cache import OVERHEAD, Cache, Entry, MemoryTier
from engine.store.disk import Disk, _priority
from engine.store.encoding import save
from tests.conftest import largest_file


def key(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def entry(nbytes: int = 100, seconds: float = 1.0, restore: float | None = None) -> Entry:
    return Entry(("x",), nbytes, seconds, seconds if restore is None else restore)


def held(memory: MemoryTier, names: str) -> str:
    return "".join(name for name in names if name in memory)


class TestMemory:
    def test_the_entry_that_cost_least_for_its_size_is_evicted_first(self) -> None:
        memory = MemoryTier(3 * (100 + OVERHEAD))
        memory.put("a", entry(seconds=3))
        memory.put("b", entry(seconds=1))
        memory.put("c", entry(seconds=2))
        memory.put("d", entry(seconds=4))
        assert held(memory, "abcd") == "acd"

    def test_what_counts_is_the_cost_of_restoring_with_all_that_this_needs(self) -> None:
        memory = MemoryTier(2 * (100 + OVERHEAD))
        memory.put("cheap, after much that isn't held", entry(seconds=1, restore=9))
        memory.put("dear, but on disk", entry(seconds=5, restore=0.1))
        memory.put("next", entry(seconds=2))
        assert [*memory._entries] == ["cheap, after much that isn't held", "next"]

    def test_reading_raises_an_entrys_priority(self) -> None:
        memory = MemoryTier(3 * (100 + OVERHEAD))
        memory.put("evicted", entry(seconds=1))
        memory.put("read", entry(seconds=2))
        memory.put("unread", entry(seconds=2.5))
        memory.put("another", entry(seconds=4))
        memory.get("read")
        memory.put("next", entry(seconds=4))
        assert [*memory._entries] == ["read", "another", "next"]

    def test_a_large_entry_is_evicted_before_a_small_one_of_the_same_cost(self) -> None:
        memory = MemoryTier(3000 + 2 * OVERHEAD)
        memory.put("large", entry(nbytes=2000))
        memory.put("small", entry(nbytes=1000))
        memory.put("other", entry(nbytes=1000, seconds=2))
        assert "large" not in memory
        assert "small" in memory

    def test_unused_entries_age(self) -> None:
        memory = MemoryTier(2 * (100 + OVERHEAD))
        memory.put("old", entry(seconds=3))
        for name in "abcdefg":
            memory.put(name, entry(seconds=1))
            memory.get(name)
        assert held(memory, "g") == "g"
        assert "old" not in memory

    def test_used_entries_stay(self) -> None:
        memory = MemoryTier(2 * (100 + OVERHEAD))
        memory.put("used", entry(seconds=3))
        for name in "abcdefg":
            memory.put(name, entry(seconds=1))
            memory.get("used")
        assert "used" in memory

    def test_nothing_larger_than_the_budget_is_held(self) -> None:
        memory = MemoryTier(1000)
        memory.put("a", entry(nbytes=2000, seconds=100))
        assert len(memory) == memory.nbytes == 0

    def test_a_budget_of_nothing_holds_nothing(self) -> None:
        memory = MemoryTier(0)
        memory.put("a", entry())
        assert memory.get("a") is None

    def test_an_entry_put_twice_counts_once(self) -> None:
        memory = MemoryTier(10_000)
        memory.put("a", entry())
        memory.put("a", entry(nbytes=200))
        assert memory.nbytes == 200 + OVERHEAD

    def test_clearing(self) -> None:
        memory = MemoryTier(10_000)
        memory.put("a", entry())
        memory.clear()
        assert (len(memory), memory.nbytes, memory.get("a")) == (0, 0, None)


@pytest.fixture
def reopened(tmp_path: Path) -> Callable[[], Disk]:
    """The same folder, as another process sees it."""
    return lambda: Disk(tmp_path / "cache")


class TestDisk:
    def test_another_process_reads_what_was_written(self, disk: Disk, reopened: Callable[[], Disk]) -> None:
        disk.write(key("a"), ("text", 5), 1.5)
        disk.close()
        other = reopened()
        assert key("a") in other
        assert other.read(key("a")) == (("text", 5), 1.5)
        assert other.read(key("b")) is None

    def test_a_running_process_sees_it_after_a_refresh(self, disk: Disk, reopened: Callable[[], Disk]) -> None:
        other = reopened()
        disk.write(key("a"), (1,), 1)
        disk.close()
        assert key("a") not in other
        other.refresh()
        assert other.read(key("a")) == ((1,), 1)

    @pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:-1] + b"?", lambda data: b""])
    def test_a_damaged_file_is_a_miss_and_removed(
        self, disk: Disk, reopened: Callable[[], Disk], damage: Callable[[bytes], bytes]
    ) -> None:
        disk.write(key("a"), (b"".decode(), "text"), 1)
        disk.close()
        (path,) = disk.folder.iterdir()
        path.write_bytes(damage(path.read_bytes()))
        other = reopened()
        assert other.read(key("a")) is None
        assert key("a") not in other
        assert not list(disk.folder.iterdir())

    def test_a_file_that_another_process_removed_is_a_miss(self, disk: Disk, reopened: Callable[[], Disk]) -> None:
        disk.write(key("a"), (1,), 1)
        disk.close()
        other = reopened()
        for path in disk.folder.iterdir():
            path.unlink()
        assert other.read(key("a")) is None
        assert key("a") not in other

    def test_a_file_that_another_process_renamed_is_found(self, disk: Disk, reopened: Callable[[], Disk]) -> None:
        disk.write(key("a"), (1,), 1)
        disk.close()
        other = reopened()
        (path,) = disk.folder.iterdir()
        path.rename(path.with_name(f"{key('a')}.9.9e+9.safetensors"))
        assert other.read(key("a")) == ((1,), 1)

    def test_a_read_only_folder_is_still_read(
        self, disk: Disk, reopened: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk.write(key("a"), ("text",), 1)
        disk.close()

        def refuse(*args: object) -> None:
            raise PermissionError

        other = reopened()
        other._inflation = 1.0  # so that its use would raise its priority
        monkeypatch.setattr(Path, "rename", refuse)
        assert other.read(key("a")) == (("text",), 1)

    def test_an_unreadable_file_is_a_miss(
        self, disk: Disk, reopened: Callable[[], Disk], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk.write(key("a"), ("text",), 1)
        disk.close()

        def fail(path: Path) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("engine.store.disk.load", fail)
        assert reopened().read(key("a")) is None

    def test_it_may_take_a_quarter_of_what_is_free_or_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = Disk(tmp_path, budget=10**6)
        before.write(key("a"), ("x" * 5000,), 1.0)
        before.close()
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100_000))
        disk = Disk(tmp_path)
        assert disk.nbytes > 5000
        assert disk.budget == (100_000 + disk.nbytes) // 4

    def test_the_least_valuable_file_is_evicted_when_the_budget_is_reached(self, tmp_path: Path) -> None:
        text = "x" * 1000
        disk = Disk(tmp_path / "small", budget=3600)
        for name, seconds in (("a", 3), ("b", 1), ("c", 2), ("d", 4)):
            disk.write(key(name), (text,), seconds)
        disk.close()
        assert [name for name in "abcd" if key(name) in Disk(tmp_path / "small")] == ["a", "c", "d"]
        assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= 3600

    def test_used_files_outlive_unused_ones_across_processes(self, tmp_path: Path) -> None:
        text = "x" * 1000
        for turn in range(6):
            disk = Disk(tmp_path / "small", budget=3600)
            for name in ("used", "unused") if turn == 0 else ():
                disk.write(key(name), (text,), 3)
            disk.read(key("used"))
            disk.write(key(f"{turn}"), (text,), 2)
            disk.write(key(f"{turn}+"), (text,), 2)
            disk.close()
        survivors = Disk(tmp_path / "small")
        assert key("used") in survivors
        assert key("unused") not in survivors

    @pytest.mark.parametrize("each", [1, 20], ids=["many processes", "one process"])
    def test_what_was_stored_before_ages(self, each: int, tmp_path: Path) -> None:
        """Processes that store one file each know how far the others had come only by the files' names."""
        text = "x" * 1000
        for first in range(0, 20, each):
            disk = Disk(tmp_path / "small", budget=3 * 1300)
            disk.write(key("old and dear"), (text,), 5) if first == 0 else None
            for turn in range(first, first + each):
                disk.write(key(f"{turn}"), (text,), 1)
            disk.close()
        held = Disk(tmp_path / "small")
        assert key("old and dear") not in held
        assert key("19") in held

    def test_reading_raises_a_files_priority_for_other_processes_too(self, tmp_path: Path) -> None:
        folder, text = tmp_path / "small", "x" * 1000
        for name, seconds in (("evicted", 1), ("read", 2), ("unread", 2.5), ("another", 9)):
            disk = Disk(folder, budget=3 * 1300)
            disk.write(key(name), (text,), seconds)
            disk.close()
        Disk(folder).read(key("read"))
        disk = Disk(folder, budget=3 * 1300)
        disk.write(key("next"), (text,), 9)
        disk.close()
        assert [name for name in ("evicted", "read", "unread", "another", "next") if key(name) in disk] == [
            "read",
            "another",
            "next",
        ]

    def test_a_files_priority_goes_by_the_cost_of_restoring_with_its_sources(self, tmp_path: Path) -> None:
        text = "x" * 1000
        with Cache(disk=Disk(tmp_path / "small", budget=2 * 1300)) as cache:
            cache.put(key("after much"), (text,), 1, upstream=8)
            cache.put(key("after little"), (text,), 2, upstream=0)
            cache.put(key("next"), (text,), 5, upstream=0)
        held = Disk(tmp_path / "small", budget=2 * 1300)
        assert [name for name in ("after much", "after little", "next") if key(name) in held] == ["after much", "next"]
        before = held._names[key("after much")]
        held.read(key("after much"))
        assert _priority(held._names[key("after much")]) > 1.5 * _priority(before), "it is known from the file"

    def test_what_waits_to_be_written_is_held_and_read_once_it_is(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()

        def slowly(*args: Any) -> None:
            assert gate.wait(10)
            save(*args)

        monkeypatch.setattr("engine.store.disk.save", slowly)
        disk.write(key("a"), ("text",), 1)
        assert key("a") in disk
        threading.Timer(0.05, gate.set).start()
        assert disk.read(key("a")) == (("text",), 1)

    def test_on_a_slow_disk_writers_wait_instead_of_filling_memory(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("engine.store.disk.MAX_PENDING_BYTES", 250)
        gate, written = threading.Event(), list[str]()

        def slowly(*args: Any) -> None:
            assert gate.wait(10)
            save(*args)

        def write() -> None:
            for name in "abc":
                disk.write(key(name), (name * 100,), 1)
                written.append(name)

        monkeypatch.setattr("engine.store.disk.save", slowly)
        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.2)
        assert written == ["a"]
        gate.set()
        writer.join(10)
        disk.close()
        assert written == ["a", "b", "c"]
        assert len(disk) == 3

    def test_a_full_disk_loses_the_entry_but_does_not_end_the_run(
        self, disk: Disk, caplog: pytest.LogCaptureFixture
    ) -> None:
        disk.write(key("fits"), (1,), 1)
        with largest_file(50_000):
            disk.write(key("a"), ("x" * 100_000,), 1)
            assert disk.read(key("a")) is None
        disk.write(key("b"), ("x" * 100_000,), 1)
        disk.close()
        assert [key("fits") in disk, key("a") in disk, key("b") in disk] == [True, False, True]
        assert f"could not be stored in {disk.folder}" in caplog.text
        assert "the disk is full: make room" in caplog.text
        assert len([*disk.folder.iterdir()]) == 2, "nothing unfinished is left"

    def test_a_folder_that_is_emptied_meanwhile_is_begun_anew(self, disk: Disk) -> None:
        disk.write(key("a"), (1,), 1)
        assert disk.read(key("a"))
        shutil.rmtree(disk.folder)
        disk.refresh()
        assert key("a") not in disk
        disk.write(key("b"), (2,), 1)
        assert disk.read(key("b")) == ((2,), 1)


KILLED = """
import os, sys
from pathlib import Path
from engine.store import disk
from engine.store.disk import Disk

def save(path, *args):
    path.write_bytes(b"x" * 5000)
    path.with_name(".tmpAbC123").write_bytes(b"x" * 2000)
    print("writing", flush=True)
    sys.stdin.read()

disk.save = save
Disk(Path(sys.argv[1])).write("0" * 64, (1,), 1)
"""
"""A process that writes until it is killed; as safetensors does, it has a file of its own beside the one asked for."""


@pytest.fixture
def writing(disk: Disk) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is in the midst of writing."""
    code = [sys.executable, "-c", KILLED, str(disk.folder)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(code, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


class TestLeavings:
    """What killed processes have left goes; what isn't the cache's stays, and does no harm."""

    def test_what_a_killed_process_was_writing_is_removed(self, disk: Disk, writing: subprocess.Popen[bytes]) -> None:
        writing.kill()
        writing.wait()
        disk.write(key("a"), (1,), 1)
        disk.close()
        assert [path.name for path in disk.folder.iterdir()] == [disk._names[key("a")]]

    def test_clearing_removes_it_and_says_how_much_that_was(self, disk: Disk, writing: subprocess.Popen[bytes]) -> None:
        writing.kill()
        writing.wait()
        assert disk.trim(0) == (0, 7000)
        assert not [*disk.folder.iterdir()]

    def test_what_a_living_process_writes_stays_and_counts(
        self, disk: Disk, writing: subprocess.Popen[bytes], tmp_path: Path
    ) -> None:
        assert disk.nbytes == 7000
        assert disk.trim(0) == (0, 0)
        assert disk.nbytes == 7000
        tight = Disk(disk.folder, budget=7500)
        tight.write(key("a"), ("x" * 1000,), 1)
        tight.close()
        assert key("a") not in Disk(disk.folder), "there is no room for it until the other process is done"

    def test_what_version_0_1_0_left_goes_when_it_is_old_or_everything_goes(self, disk: Disk) -> None:
        files = [disk.folder / name for name in (".tmpAbC123", f"{1:032x}.part")]
        for file in files:
            file.write_bytes(b"x" * 1000)
        assert disk.nbytes == 2000, "it may be being written"
        os.utime(files[0], (0, 0))
        assert disk.nbytes == 1000
        assert [file.exists() for file in files] == [False, True]
        assert disk.trim(0) == (0, 1000)
        assert not files[1].exists()

    def test_a_write_that_fails_leaves_nothing(self, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(path: Path, *args: object) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("engine.store.disk.save", fail)
        disk.write(key("a"), (1,), 1)
        assert disk.read(key("a")) is None
        assert not [*disk.folder.rglob("*.part/????????*")]

    def test_what_the_cache_does_not_know_is_left_alone(self, disk: Disk) -> None:
        foreign = [f"{key('dir')}.1.0e+00.safetensors", f"{2:032x}.part", ".tmpFoldEr", "holiday"]
        for name in foreign:
            (disk.folder / name).mkdir()
            (disk.folder / name / "file").write_bytes(b"x" * 1000)
            os.utime(disk.folder / name, (0, 0))
        for name in ("notes.txt", "movie.mkv.part", *(f"{key(odd)}.{odd}.safetensors" for odd in ODD)):
            (disk.folder / name).write_bytes(b"x" * 1000)
            os.utime(disk.folder / name, (0, 0))
            foreign.append(name)
        (disk.folder / f"{key('link')}.1.0e+00.safetensors").symlink_to(disk.folder / "notes.txt")
        foreign.append(f"{key('link')}.1.0e+00.safetensors")
        for budget in (5000, 0):
            with Cache(disk=Disk(disk.folder, budget=5000)) as cache:
                for name in "abcdef":
                    cache.put(key(name), ("x" * 1000,), 1, upstream=0)
            assert cache.disk
            assert 1 <= len(Disk(disk.folder)) <= 4
            cache.disk.trim(budget)
        assert sorted(path.name for path in disk.folder.iterdir()) == sorted(foreign)
        assert disk.nbytes == 0


ODD = ("e+e+", "1e999", "nan", "-1", "1.2.3", "")
"""What a name may have in place of a priority."""


class TestBothTiers:
    def test_outputs_cheaper_to_compute_than_to_read_are_not_stored(self, cache: Cache, disk: Disk) -> None:
        cache.put(key("cheap"), (1,), 1e-6, upstream=0)
        cache.put(key("dear"), (1,), 1.0, upstream=0)
        disk.close()
        assert (key("cheap") in disk, key("dear") in disk) == (False, True)

    def test_cheap_steps_are_stored_once_they_add_up(self, cache: Cache, disk: Disk) -> None:
        restore = 0.0
        for index in range(100):
            restore = cache.put(key(f"{index}"), (index,), 1e-4, upstream=restore).restore
        disk.close()
        assert 5 <= len(disk) <= 34

    def test_targets_are_stored_however_cheap(self, cache: Cache, disk: Disk) -> None:
        cache.put(key("cheap"), (1,), 1e-6, upstream=0, keep=True)
        disk.close()
        assert key("cheap") in disk

    def test_outputs_read_from_disk_are_then_in_memory(self, cache: Cache, disk: Disk) -> None:
        cache.put(key("a"), ("text",), 1.0, upstream=0)
        disk.close()
        cache.memory.clear()
        found = cache.get(key("a"))
        assert found
        assert (found.outputs, found.seconds) == (("text",), 1.0)
        assert key("a") in cache.memory

    def test_without_a_disk_tier_there_is_only_memory(self) -> None:
        with Cache() as cache:
            cache.put(key("a"), (1,), 1.0, upstream=0)
            assert cache.held(key("a"))
            assert cache.get(key("b")) is None
