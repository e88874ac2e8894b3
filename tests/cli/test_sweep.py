"""`kinograph sweep`: every combination of values for some inputs, with what they share computed once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from engine.document.prepared import prepare
from engine.document.reading import Document
from engine.document.workflow import Workflow
from engine.errors import NodeError
from engine.run.sweep import Axis, Outcome, combinations, save
from nodes import registry
from tests.cli.conftest import Command, write
from tests.conftest import largest_file

FILES = ("here.png", "there.png")


def rows(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def sweep(kinograph: Command, file: str, *axes: str, options: tuple[str, ...] = ()) -> tuple[int, str, list[str]]:
    result = kinograph("sweep", file, *(part for axis in axes for part in ("--axis", axis)), *options)
    return result.exit_code, result.stderr, result.stdout.splitlines()


def test_every_combination_is_saved_and_listed_the_last_axis_fastest(kinograph: Command, snail: str) -> None:
    code, _, (_, table) = sweep(kinograph, snail, "theme=snail,boat", "say.marks=1,2,3")
    assert code == 0
    listed = rows(table)
    assert [(row["theme"], row["say.marks"]) for row in listed] == [
        (theme, marks) for theme in ("snail", "boat") for marks in "123"
    ]
    assert {row["status"] for row in listed} == {"done"}
    assert [Path("output", row["files"]).read_text() for row in listed] == [
        f"{theme}{'!' * marks}" for theme in ("SNAIL", "BOAT") for marks in (1, 2, 3)
    ]


def test_on_a_full_disk_neither_the_sheet_nor_the_table_is_left_empty(tmp_path: Path) -> None:
    axes = [Axis("say.text", ("snail", "boat"))]
    ends = [Outcome((value,), frozenset()) for value in axes[0].values]
    with largest_file(10), pytest.raises(NodeError, match=r"sweep_00001\.csv can't be written: .*too large") as caught:
        save(axes, ends, tmp_path)
    assert "and run again" in str(caught.value)
    with largest_file(100), pytest.raises(NodeError, match=r"sweep_00001\.png can't be written"):
        save(axes, ends, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep_00001.csv"], "which is whole"
    assert len(rows(str(tmp_path / "sweep_00001.csv"))) == 2


def test_what_combinations_share_is_computed_once(kinograph: Command) -> None:
    graph = {
        "say": ("Shout", {"text": "snail"}),
        "again": ("Shout", {"text": ["say", 0], "marks": 1}),
        "keep": ("Keep", {"text": ["again", 0]}),
    }
    _, shown, _ = sweep(kinograph, write("again.json", graph), "again.marks=1,2,3,4")
    assert "9 nodes ran" in shown  # one `say`, four of each other


def test_one_that_fails_does_not_affect_the_others(kinograph: Command) -> None:
    file = write("picky.json", {"take": ("Picky", {"text": "x"}), "keep": ("Keep", {"text": ["take", 0]})})
    code, shown, (_, table) = sweep(kinograph, file, "take.text=good,bad,fine")
    assert code == 5
    assert "it was given text='bad'" in shown
    assert [(row["take.text"], row["status"]) for row in rows(table)] == [
        ("good", "done"),
        ("bad", "failed"),
        ("fine", "done"),
    ]


def test_a_combination_may_save_a_list_and_fails_if_one_of_its_items_does(kinograph: Command) -> None:
    graph = {
        "lines": ("TextLines", {"text": "x"}),
        "take": ("Picky", {"text": ["lines", 0]}),
        "keep": ("Keep", {"text": ["take", 0]}),
    }
    code, shown, (_, table) = sweep(
        kinograph, write("lines.json", graph), r'lines.text=["good\nfine", "fine\nbad\ngood"]'
    )
    assert code == 5
    assert "Picky (take), text fine bad good #2: started" in shown
    listed = rows(table)
    assert [row["status"] for row in listed] == ["done", "failed"]
    saved = [[Path("output", name).read_text() for name in row["files"].split()] for row in listed]
    assert saved == [["good", "fine"], ["fine", "good"]]


def test_each_file_carries_the_workflow_of_its_own_combination(kinograph: Command) -> None:
    file = write("pictures.json", {"draw": ("Draw", {"grey": 1}), "save": ("SaveImage", {"images": ["draw", 0]})})
    _, _, (sheet, table) = sweep(kinograph, file, "draw.grey=10,200")
    for row in rows(table):
        with Image.open(Path("output", row["files"])) as picture:
            assert Workflow.parse(picture.info["kinograph"]).graph["draw"].inputs["grey"] == int(row["draw.grey"])
    with Image.open(sheet) as page:
        assert {(10, 10, 10), (200, 200, 200)} <= {colour for _, colour in page.getcolors(1 << 16)}  # type: ignore[union-attr]


def test_with_json_the_paths_of_sheet_and_table_are_an_event(kinograph: Command, snail: str) -> None:
    _, _, lines = sweep(kinograph, snail, "theme=a,b", options=("--json", "--out", "films"))
    assert json.loads(lines[-1]) == {
        "event": "sweep",
        "sheet": "films/sweep_00001.png",
        "table": "films/sweep_00001.csv",
    }


def test_values_may_be_quoted_or_json(kinograph: Command, snail: str) -> None:
    _, _, (_, table) = sweep(kinograph, snail, 'theme="a, b",c')
    assert [row["theme"] for row in rows(table)] == ["a, b", "c"]
    _, _, (_, table) = sweep(kinograph, snail, 'theme=["a, b", "d"]')
    assert [row["theme"] for row in rows(table)] == ["a, b", "d"]


@pytest.mark.parametrize("axis", [Axis("1.image", FILES), Axis.of("1.image", FILES)], ids=["texts", "constants"])
@pytest.mark.parametrize("from_cwd", [True, False])
def test_files_are_relative_to_the_working_folder_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_cwd: bool, axis: Axis
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("here.png")
    workflow = Workflow.read({"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}})
    made = combinations(Document(prepare(workflow, registry()), "", None), [axis], from_cwd=from_cwd)
    named = [document.workflow.graph["1"].inputs["image"] for document in made.values()]
    assert named == [str(tmp_path / "here.png") if from_cwd else "here.png", "there.png"]


def test_an_axis_is_stored_as_json_and_that_of_an_earlier_version_still_read() -> None:
    axis = Axis.of("1.number", [1, "1.0", None, [2, 3]])
    assert Axis.read(json.loads(json.dumps(axis.data()))) == axis
    assert Axis.read({"name": "1.number", "values": ["1", "two"]}) == Axis("1.number", ("1", "two"))


@pytest.mark.parametrize(
    ("axes", "code", "message"),
    [
        (("theme",), 2, "--axis theme: there are no values (write --axis node.input=a,b,c)"),
        (("theme=",), 2, "--axis theme=: there are no values (write --axis node.input=a,b,c)"),
        (("theme=a,b,a",), 2, "--axis theme=a,b,a: a is given twice"),
        (("theme=a", "theme=b"), 2, "--axis theme is given twice (give all of its values at once)"),
        (("themes=a,b",), 2, "--axis themes: the workflow has no such input (did you mean 'theme'?)"),
        (("say.marks=1,99",), 3, "node say, input marks: should be less than or equal to 9, not 99"),
    ],
)
def test_invalid_axes_are_refused(
    kinograph: Command, snail: str, axes: tuple[str, ...], code: int, message: str
) -> None:
    assert sweep(kinograph, snail, *axes)[:2] == (code, f"error: {message}\n")


def test_too_many_combinations_are_refused(kinograph: Command, snail: str) -> None:
    many = ",".join(map(str, range(1100)))
    code, shown, _ = sweep(kinograph, snail, f"theme={many}")
    assert (code, shown) == (2, "error: these are 1,100 combinations, and at most 1,000 can be run at once\n")
