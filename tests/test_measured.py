"""`make coverage` counts what a process had done that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parents[1]

SETTINGS = """
[run]
source = toy
patch = subprocess
plugins = tests.measured
"""

CHILD = """\
import time

def wait():
    print("here", flush=True)
    time.sleep(600)
    print("never")

wait()
"""

PARENT = """
import subprocess, sys, time
from pathlib import Path
with subprocess.Popen([sys.executable, "toy/child.py"], stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    end = time.monotonic() + 30
    while not any(Path().glob(".coverage.*")) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)  # what has begun to be written is written
    child.kill()
"""


def test_what_a_killed_process_ran_is_counted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    for name, text in {".coveragerc": SETTINGS, "toy/child.py": CHILD, "parent.py": PARENT}.items():
        (tmp_path / name).write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", "coverage"]
    for arguments in (["run", "parent.py"], ["combine", "--quiet"]):
        subprocess.run([*command, *arguments], cwd=tmp_path, env=env | {"PYTHONPATH": str(ROOT)}, check=True)

    measured = Coverage(data_file=str(tmp_path / ".coverage"), config_file=False)
    measured.load()

    ran, missed = 4, 6
    lines = measured.get_data().lines(str(tmp_path / "toy" / "child.py"))
    assert lines is not None
    assert ran in lines
    assert missed not in lines
