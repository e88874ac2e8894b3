"""Packs by the command: listed, checked and run, begun by `new-pack`."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.cli.main import app
from tests.packs.site import Site

NOT_HERE = "import os\nif 'KINOGRAPH_DESCRIBING' not in os.environ:\n    import nothing_there\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def kinograph(*args: str) -> Result:
    return CliRunner().invoke(app, args, catch_exceptions=False)


def write(name: str, graph: dict[str, Any]) -> str:
    Path(name).write_text(json.dumps(graph))
    return name


COLOURS = {
    "empty": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": 0xFF8000}},
    "find": {"class_type": "FindColours", "inputs": {"images": ["empty", 0]}},
    "name": {"class_type": "NameColours", "inputs": {"palette": ["find", 0], "form": "hex"}},
    "save": {"class_type": "SaveText", "inputs": {"text": ["name", 0]}},
}


def test_listings_mark_a_packs_kinds(example: Site) -> None:
    lines = kinograph("nodes").stdout.splitlines()
    (line,) = (line for line in lines if "FindColours" in line)
    assert line.endswith("Find the mean colour of each of a batch of pictures.  [example-pack 1.2]")
    assert not any("[" in line for line in lines if "NumberRange" in line)
    page = kinograph("nodes", "FindColours").stdout
    assert page.startswith("FindColours (colour, version 1, of the pack example-pack 1.2)")
    assert "most: int, ≥ 1, ≤ 256, default 8" in page


def test_listings_for_programs_name_the_pack(example: Site) -> None:
    told = json.loads(kinograph("nodes", "--json").stdout)
    assert told["FindColours"]["pack"] == "example-pack"
    assert told["NumberRange"]["pack"] is None


def test_packs_that_fail_are_listed_on_standard_error(site: Site) -> None:
    site.toy("bad", "Bad", before="import os\nos._exit(3)\n")
    for options in ((), ("--json",)):
        result = kinograph("nodes", *options)
        assert result.exit_code == 0
        assert result.stderr == "warning: the pack bad 1.0 ends the process on import (status 3)\n"
        assert "NumberRange" in result.stdout


def test_checking_finds_mistakes_and_imports_nothing(example: Site) -> None:
    assert kinograph("validate", write("colours.json", COLOURS)).exit_code == 0
    wrong = {**COLOURS, "find": {"class_type": "FindColours", "inputs": {"images": ["name", 0], "most": 0}}}
    result = kinograph("validate", write("wrong.json", wrong))
    assert result.exit_code == 3
    assert "node find, input images: takes Image, but 'out' of node name is str" in result.stderr
    assert "node find, input most: should be greater than or equal to 1, not 0" in result.stderr
    assert not any(name.startswith("example_pack") for name in sys.modules)


def test_a_run_imports_the_packs_that_it_uses(example: Site) -> None:
    result = kinograph("run", write("colours.json", COLOURS), "--no-cache")
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.strip()).read_text() == "#ff8000\n"


def test_a_sweep_imports_them_too(example: Site) -> None:
    result = kinograph("sweep", write("colours.json", COLOURS), "--axis", "name.form=hex,percent", "--no-cache")
    assert result.exit_code == 0, result.stderr
    assert {path.read_text().strip() for path in Path("output").glob("*.txt")} == {"#ff8000", "100% 50% 0%"}


def test_a_pack_that_cannot_be_imported_here_fails_the_run_in_one_line(site: Site) -> None:
    site.toy("toy", "Toy", before=NOT_HERE)
    graph = {"1": {"class_type": "Toy"}, "2": {"class_type": "SaveText", "inputs": {"text": ["1", 0]}}}
    result = kinograph("run", write("toy.json", graph), "--no-cache")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "error: the pack toy 1.0 can't be imported: ModuleNotFoundError: No module named 'nothing_there' "
        f"({site.folder / 'toy.py'}, line 3)"
    ]


def test_neither_listing_nor_checking_imports_what_a_pack_imports(site: Site) -> None:
    """Told by a process of its own, since this one has imported all kinds of things."""
    site.toy("weighty", "Weighty", before="import torch\nimport weighty_library\n")
    (site.folder / "weighty_library.py").touch()
    graph = {"1": {"class_type": "Weighty"}, "2": {"class_type": "SaveText", "inputs": {"text": ["1", 0]}}}
    code = f"""
import sys
from typer.testing import CliRunner
from engine.cli.main import app
for command in (["nodes"], ["validate", {write("w.json", graph)!r}]):
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
assert "Weighty" in CliRunner().invoke(app, ["nodes"]).stdout
print(sorted({{"torch", "weighty", "weighty_library"}} & sys.modules.keys()))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout == "[]\n", told.stderr


def test_a_new_pack_installs_passes_its_test_and_runs(site: Site, tmp_path: Path) -> None:
    result = kinograph("new-pack", "glow-pack")
    assert result.exit_code == 0, result.stderr
    made = {str(path.relative_to("glow-pack")) for path in Path("glow-pack").rglob("*") if path.is_file()}
    assert {str(Path(line).relative_to("glow-pack")) for line in result.stdout.split()} == made
    assert {"pyproject.toml", "README.md", ".gitignore", "glow_pack/nodes.py", "tests/test_nodes.py"} <= made

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(site.folder), "./glow-pack"]
    subprocess.run([*pip, *options], check=True)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "glow-pack"]
    assert "1 passed" in subprocess.run(tests, capture_output=True, text=True, env={**os.environ}).stdout

    importlib.invalidate_caches()
    assert "[glow-pack 0.1.0]" in kinograph("nodes").stdout
    graph = {
        "empty": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": 0x404040}},
        "glow": {"class_type": "GlowPack", "inputs": {"images": ["empty", 0], "gain": 2.0}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["glow", 0]}},
    }
    run = kinograph("run", write("glow.json", graph), "--no-cache")
    assert run.exit_code == 0, run.stderr


@pytest.mark.parametrize("name", ["", "Blur", "blur pack", "-blur", "blur-", "7up", "blur_pack", "../blur", "größer"])
def test_a_name_that_no_pack_can_have_is_refused(site: Site, name: str) -> None:
    result = kinograph("new-pack", "--dir", "made", "--", name)
    assert result.exit_code == 2
    assert "is not a valid pack name" in result.stderr
    assert not Path("made").exists()


@pytest.mark.parametrize("name", ["json", "nodes", "engine", "class"])
def test_a_name_that_is_taken_is_refused(site: Site, name: str) -> None:
    result = kinograph("new-pack", name)
    assert result.exit_code == 2
    assert f"try {name}-nodes" in result.stderr


@pytest.mark.parametrize("name", ["torch", "pydantic-core", "bright-lights"])
def test_the_name_of_an_installed_package_is_refused(site: Site, name: str) -> None:
    site.add("bright-lights", {"lamps.py": ""})  # a distribution whose module has another name
    result = kinograph("new-pack", name)
    assert result.exit_code == 2
    assert f"'{name}': it would hide the package of that name that is installed (try {name}-nodes)" in result.stderr
    assert not Path(name).exists()


def test_an_empty_folder_of_its_name_is_filled(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where Python takes it for a package, as it does with `python -m kinograph`."""
    monkeypatch.syspath_prepend(tmp_path)
    Path("glow").mkdir()
    assert kinograph("new-pack", "glow").exit_code == 0


def test_a_new_pack_imports_what_people_import(site: Site) -> None:
    assert kinograph("new-pack", "glow-pack").exit_code == 0
    for path in (Path("glow-pack/glow_pack/nodes.py"), Path("glow-pack/tests/test_nodes.py")):
        code = path.read_text()
        assert "from kinograph import Context, Image" in code
        assert "engine" not in code


def test_a_folder_that_has_something_in_it_is_left_alone(site: Site) -> None:
    Path("glow").mkdir()
    Path("glow/mine.txt").write_text("mine")
    result = kinograph("new-pack", "glow")
    assert result.exit_code == 2
    assert "not an empty folder" in result.stderr
    assert [path.name for path in Path("glow").iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_told(site: Site) -> None:
    Path("file").touch()
    result = kinograph("new-pack", "glow", "--dir", "file/below")
    assert result.exit_code == 2
    assert "can't write to 'file/below'" in result.stderr
