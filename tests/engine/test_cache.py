"""The memory tier and the disk tier."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from engine.store.cache import OVERHEAD, Cache, Entry, MemoryTier
from engine.store.disk import Disk
from engine.store.encoding import save


def key(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def entry(nbytes: int = 100, seconds: float = 1.0) -> Entry:
    return Entry(("x",), nbytes, seconds, seconds)


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
            disk.read(key("used"))
            disk.write(key("used"), (text,), 3)
            disk.write(key("unused"), (text,), 3) if turn == 0 else None
            disk.write(key(f"{turn}"), (text,), 2)
            disk.write(key(f"{turn}+"), (text,), 2)
            disk.close()
        survivors = Disk(tmp_path / "small")
        assert key("used") in survivors
        assert key("unused") not in survivors

    def test_an_unfinished_file_of_a_killed_process_is_removed_after_a_while(self, tmp_path: Path) -> None:
        folder = tmp_path / "cache"
        folder.mkdir()
        (folder / "old.part").write_bytes(b"torn")
        os.utime(folder / "old.part", (0, 0))
        (folder / "new.part").write_bytes(b"being written")
        (folder / "notes.txt").write_bytes(b"someone else's")
        disk = Disk(folder)
        disk.write(key("a"), (1,), 1)
        disk.close()
        assert {path.name for path in folder.iterdir()} == {"new.part", "notes.txt", disk._names[key("a")]}

    def test_on_a_slow_disk_writers_wait_instead_of_filling_memory(
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("engine.store.disk.MAX_PENDING_BYTES", 250)
        gate, written = threading.Event(), list[str]()

        def slowly(path: Path, outputs: tuple[str], seconds: float) -> None:
            assert gate.wait(10)
            save(path, outputs, seconds)

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
        self, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("engine.store.disk.save", full)
        disk.write(key("a"), (1,), 1)
        disk.close()
        assert key("a") not in disk
        assert "No space left" in caplog.text


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
