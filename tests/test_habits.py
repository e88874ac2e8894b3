"""What the project says of itself holds: its packages, its change log, and what a newcomer reads first."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest

from engine.registry import load_file
from nodes.text import nodes as text_nodes
from tests.cli.conftest import start

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHANGES = (ROOT / "CHANGELOG.md").read_text()


def installed() -> list[Path]:
    """The top folders with Python modules that setuptools finds."""
    patterns = SETUPTOOLS["packages"]["find"]["include"]
    found = [path for path in ROOT.iterdir() if "." not in path.name and any(path.rglob("*.py"))]
    return sorted(path for path in found if any(fnmatch(path.name, pattern) for pattern in patterns))


def table(text: str, title: str) -> list[str]:
    """The cells of the table that follows a line, without its head."""
    rows = text.partition(f"{title}\n")[2].split("|---|---|\n")[1].partition("\n\n")[0]
    return re.findall(r"[^|\n]+", rows)


def paths(cells: list[str]) -> list[str]:
    """The files and folders that cells name in backticks."""
    return [name for cell in cells for name in re.findall(r"`([\w/]+(?:/|\.\w+))`", cell)]


MOVED = re.findall(r"`((?:engine|nodes)\.[\w.]+)`", "".join(re.findall(r"\|([^|]*)\|$", CHANGES, re.MULTILINE)))
"""The modules that the change log says others have become."""
MAP = paths(table(CONTRIBUTING, "## The map"))


@pytest.mark.parametrize("package", installed(), ids=lambda path: path.name)
def test_a_package_is_marked_as_typed_for_all_that_is_in_it(package: Path) -> None:
    assert (package / "py.typed").is_file()
    assert "py.typed" in SETUPTOOLS["package-data"][package.name]


def test_the_newest_version_of_the_change_log_is_the_package_s() -> None:
    titles = re.findall(r"^## (.*)$", CHANGES, re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    assert titles[1].split(" - ")[0] == f"[{PROJECT['project']['version']}]"


def test_the_change_log_goes_back_in_time_under_the_titles_that_its_form_has() -> None:
    days = [date.fromisoformat(day) for day in re.findall(r"^## \[[\d.]+\] - (.*)$", CHANGES, re.MULTILINE)]
    assert days
    assert days == sorted(days, reverse=True)
    kinds = set(re.findall(r"^### (.*)$", CHANGES, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("path", MAP)
def test_what_the_map_names_is_there(path: str) -> None:
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


@pytest.mark.parametrize("package", installed(), ids=lambda path: path.name)
def test_the_map_shows_every_package(package: Path) -> None:
    assert f"{package.name}/" in MAP


def test_the_map_shows_every_stage_of_the_engine_and_every_field_of_the_nodes() -> None:
    inner = [
        path.parent.relative_to(ROOT) for top in ("engine", "nodes") for path in (ROOT / top).glob("*/__init__.py")
    ]
    assert {f"{path.as_posix()}/" for path in inner} <= set(MAP)


@pytest.mark.parametrize("path", paths(table(README, "| folder | what is in it |")[::2]))
def test_the_folders_of_the_readme_are_there(path: str) -> None:
    assert (ROOT / path).is_dir()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("path", paths(table(CONTRIBUTING, "| `benchmarks/` | what it measures |")))
def test_every_benchmark_that_newcomers_are_told_of_can_be_called(path: str) -> None:
    assert '__name__ == "__main__"' in (ROOT / path).read_text()


@pytest.fixture
def example(tmp_path: Path) -> tuple[Path, str]:
    """The node that newcomers are shown, as a file, and the code of its test."""
    node, test = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
    (tmp_path / "example.py").write_text(node)
    return tmp_path / "example.py", test


def test_the_node_that_newcomers_are_shown_runs_in_a_workflow(
    example: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    graph = {
        "new": {"class_type": "ReplaceText", "inputs": {"text": "a red cat", "part": "red", "by": "blue"}},
        "save": {"class_type": "SaveText", "inputs": {"text": ["new", 0]}},
    }
    Path("cat.json").write_text(json.dumps({"kinograph": 1, "graph": graph}))
    run = start("run", "cat.json", "--nodes", str(example[0]))
    saved, told = run.communicate()
    assert run.returncode == 0, told
    assert Path(saved.strip()).read_text() == "a blue cat\n"


def test_its_test_passes_where_they_are_told_to_put_both(
    example: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_nodes, "ReplaceText", load_file(example[0]).ReplaceText, raising=False)
    tests = ModuleType("example")
    exec(example[1], vars(tests))
    stories = [story for name, story in vars(tests).items() if name.startswith("test_")]
    assert len(stories) == 2
    for story in stories:
        story()


@pytest.mark.parametrize("module", MOVED)
def test_the_modules_that_the_change_log_sends_people_to_exist(module: str) -> None:
    resolve_name(module)
