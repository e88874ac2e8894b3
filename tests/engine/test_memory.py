"""The memory that a process may use is that of its container, if this has a limit."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from engine import memory as module
from engine.memory import Memory, memory
from engine.models import Models
from engine.run import devices
from engine.store.cache import Cache

MB = 1_000_000
MACHINE = 100_000 * MB


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 100 GB, of which 60 are free."""
    about = psutil.virtual_memory()._replace(total=MACHINE, available=60_000 * MB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: about)
    module.total.cache_clear()


class System:
    """The files by which Linux describes a process's groups.

    Args:
        folder: where they are.
        cgroup: the lines of the process's file `cgroup`.
        mounts: of each mount its kind, options, root within the hierarchy, and place below `folder`.
    """

    def __init__(self, folder: Path, cgroup: str, *mounts: tuple[str, str, str, str]) -> None:
        self.folder = folder
        lines = ["21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"]
        for kind, options, root, where in mounts:
            place = str(folder / where).replace(" ", "\\040")
            lines.append(f"30 21 0:26 {root} {place} ro,nosuid - {kind} {kind} {options}")
        (folder / "mountinfo").write_text("\n".join(lines) + "\n")
        (folder / "cgroup").write_text(cgroup)

    def group(self, where: str, **files: str | int) -> None:
        """A group's files, with dots for underscores after `memory`."""
        (self.folder / where).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.folder / where / name.replace("memory_", "memory.", 1)).write_text(f"{text}\n")


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    system = System(tmp_path, "0::/app\n", ("cgroup2", "rw", "/", "fs"))
    system.group("fs/app", memory_max="max", memory_current=5 * MB)
    assert memory(tmp_path) == Memory(MACHINE, 60_000 * MB)
    assert memory(tmp_path / "nowhere") == Memory(MACHINE, 60_000 * MB)


def test_a_limit_of_version_2(tmp_path: Path) -> None:
    system = System(tmp_path, "0::/\n", ("cgroup2", "rw,nsdelegate", "/", "fs"))
    system.group("fs", memory_max=4000 * MB, memory_current=1500 * MB)
    (tmp_path / "fs" / "memory.stat").write_text(f"anon 5\nactive_file 7\ninactive_file {500 * MB}\n")
    assert memory(tmp_path) == Memory(4000 * MB, 3000 * MB)


def test_a_limit_of_version_1_beside_a_mount_of_version_2(tmp_path: Path) -> None:
    lines = "9:name=systemd:/\n4:cpu,memory:/docker/a b/job\n0::/\n"
    version_1 = ("cgroup", "rw,cpu,memory", "/docker/a\\040b", "memory fs")
    system = System(tmp_path, lines, ("cgroup", "rw,cpuset", "/", "cpuset"), version_1, ("cgroup2", "rw", "/", "v2"))
    system.group("memory fs/job", memory_limit_in_bytes=2000 * MB, memory_usage_in_bytes=700 * MB)
    system.group("cpuset/docker/a b/job", memory_limit_in_bytes=1)  # of no meaning there
    (tmp_path / "memory fs" / "job" / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {200 * MB}\n")
    assert memory(tmp_path) == Memory(2000 * MB, 1500 * MB)


def test_version_1_without_a_limit_names_a_huge_one(tmp_path: Path) -> None:
    system = System(tmp_path, "4:memory:/\n", ("cgroup", "rw,memory", "/", "fs"))
    system.group("fs", memory_limit_in_bytes=9223372036854771712, memory_usage_in_bytes=1)
    assert memory(tmp_path).total == MACHINE


def test_the_limits_of_all_outer_groups_hold(tmp_path: Path) -> None:
    system = System(tmp_path, "0::/user/session/app\n", ("cgroup2", "rw", "/", "fs"))
    system.group("fs/user/session/app", memory_max=9000 * MB, memory_current=1000 * MB)
    system.group("fs/user/session", memory_max="max", memory_current=2000 * MB)
    system.group("fs/user", memory_max=6000 * MB, memory_current=5000 * MB)
    assert memory(tmp_path) == Memory(6000 * MB, 1000 * MB)


@pytest.mark.parametrize("path", ["/../elsewhere", "/kept/from/view"])
def test_a_group_that_cannot_be_seen_counts_as_that_of_the_mount(path: str, tmp_path: Path) -> None:
    system = System(tmp_path, f"0::{path}\n", ("cgroup2", "rw", "/container", "fs"))
    system.group("fs", memory_max=3000 * MB, memory_current=4000 * MB)
    assert memory(tmp_path) == Memory(3000 * MB, 0)


def test_defaults_follow_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(tmp_path, "0::/\n", ("cgroup2", "rw", "/", "fs"))
    system.group("fs", memory_max=4000 * MB, memory_current=1000 * MB)
    monkeypatch.setattr(module.memory, "__defaults__", (tmp_path,))
    assert Cache().memory.budget == 1000 * MB
    assert Models().budget == 2000 * MB
    assert Models().device_budget("cpu") == 0.85 * 4000 * MB
    monkeypatch.setattr(devices, "best", lambda: "cpu")
    (cpu,) = devices.every()
    assert (cpu.vram_total, cpu.vram_free) == (4000 * MB, 3000 * MB)
