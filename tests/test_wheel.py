"""What is installed is whole: the wheel runs a shipped workflow by its name, far from the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
EDITOR = "engine/server/editor"
LEFT_OUT = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "output")


@pytest.mark.full
def test_the_wheel_carries_workflows_models_and_the_editor(tmp_path: Path) -> None:
    sources = shutil.copytree(ROOT, tmp_path / "sources", ignore=LEFT_OUT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(sources)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {path.relative_to(sources).as_posix() for path in (sources / "workflows").glob("*.json")}
    shipped |= {path.relative_to(sources).as_posix() for path in (sources / "models").rglob("*.safetensors")}
    shipped |= {path.relative_to(sources).as_posix() for path in sources.glob("*/py.typed")}
    shipped |= {path.relative_to(sources).as_posix() for path in (sources / EDITOR).rglob("*") if path.is_file()}
    assert any(name.endswith(".js") for name in shipped)
    shipped |= {"kinograph/py.typed", "kinograph/kinds.pyi"}
    assert shipped <= set(ZipFile(wheel).namelist())

    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    call = "import sys; from engine.cli.main import main; sys.argv = ['kinograph', *sys.argv[1:]]; main()"
    result = subprocess.run(
        [sys.executable, "-P", "-c", call, "run", "keyframes", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "KINOGRAPH_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / result.stdout.splitlines()[0]).is_file()
