"""No process that is started imports Python files from the folder where Kinograph was started."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import python
from tests.dataset.films import sprites, write

ROOT = Path(__file__).parents[2]
TRAPS = (
    *("queue", "nodes", "engine", "kinograph", "models", "numpy", "threading", "signal", "struct", "tempfile"),
    *("selectors", "socket", "logging", "json", "pip", "torch"),
)
"""Modules of Kinograph, Python and others that a file of the same name could shadow."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, where each module of `TRAPS` leaves a file that says by whom it was imported."""
    trap = "import os, sys\nopen(f'{__file__}.sprung', 'w').write(str(sys.argv))\nraise SystemExit(9)\n"
    folder = tmp_path / "project"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(trap)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep + str(ROOT))  # the empty entry stands for the working folder
    return folder


def sprung(folder: Path) -> list[str]:
    return [f"{path.name}: {path.read_text()}" for path in folder.glob("*.sprung")]


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python.command(*arguments), env=python.environment(), capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("module", ["engine.cli", "engine.work.worker", "engine.packs.describe"])
def test_a_module_that_is_run_is_kinographs_own(folder: Path, module: str) -> None:
    done = started("-m", module, "--version")
    assert "No module named" not in done.stderr
    assert sprung(folder) == []


def test_a_source_tree_that_is_not_installed_is_found(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    assert str(ROOT) in python.environment()["PYTHONPATH"].split(os.pathsep)
    done = started("-c", "import engine; print(engine.__file__)")
    assert Path(done.stdout.strip()).parents[1] == ROOT


def test_other_folders_on_the_path_stay_there(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text("print('mine')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'own'}{os.pathsep}")
    assert started("-m", "mine").stdout == "mine\n"


def test_the_token_of_the_server_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "kept")
    assert "secret" not in python.environment().values()
    assert python.environment()["OTHER"] == "kept"


def test_the_command_as_a_module_ignores_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "engine.py").unlink()  # which Python itself would run
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    listed = subprocess.run([sys.executable, "-m", "engine.cli", "nodes"], capture_output=True, text=True, timeout=120)
    assert "SaveImage" in listed.stdout, listed.stderr
    assert sprung(folder) == []


def test_the_command_as_a_module_works_in_its_source_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = [sys.executable, "-S", "-c", "import engine.python as p; print(p.ROOT)"]
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip() == str(ROOT)
    done = subprocess.run([sys.executable, "-m", "engine.cli", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("kinograph "), done.stderr


SCANNING = """
import sys
from pathlib import Path

from nodes.dataset.scan.processes import Scanners
from nodes.dataset.scan.scanner import ScanSettings

if __name__ == "__main__":
    with Scanners(ScanSettings(text=False), 2, lambda *message: None) as scanners:
        found = scanners.start(Path(sys.argv[1]))()
    print(found if isinstance(found, str) else len(found))
"""


@pytest.mark.full
def test_processes_that_scan_videos_import_nothing_from_the_folder(folder: Path, tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", sprites(1))
    script = tmp_path / "scripts" / "scanning.py"
    script.parent.mkdir()
    script.write_text(SCANNING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(video)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "1\n", done.stderr
    assert sprung(folder) == []


def test_the_variable_for_it_is_set_only_while_processes_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(python.SAFE_PATH, raising=False)
    with python.safe_path():
        with python.safe_path():
            assert os.environ[python.SAFE_PATH] == "1"
        assert os.environ[python.SAFE_PATH] == "1"
    assert python.SAFE_PATH not in os.environ


def calls(path: Path, found: Callable[[ast.AST], bool]) -> bool:
    return any(map(found, ast.walk(ast.parse(path.read_text()))))


def is_executable(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable"


def is_spawning(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_context")


MODULES = [path for top in ("engine", "nodes", "kinograph") for path in sorted((ROOT / top).rglob("*.py"))]


def test_python_is_never_started_in_another_way() -> None:
    """Modules that name the interpreter, beside the one that starts it: pip's is named in a hint alone."""
    naming = [path.relative_to(ROOT).as_posix() for path in MODULES if calls(path, is_executable)]
    assert naming == ["engine/models/pypi.py", "engine/python.py"]
    spawning = [path for path in MODULES if calls(path, is_spawning)]
    assert spawning
    assert [path for path in spawning if "safe_path()" not in path.read_text()] == []
