"""A confined workflow reads only from certain folders, however it spells the names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.document.prepared import Prepared, prepare
from engine.document.workflow import Workflow
from engine.errors import KinographError, MissingError, Problem, WorkflowError
from engine.graph.check import check
from engine.graph.confinement import Confinement
from engine.graph.graph import Graph
from engine.models.folders import ModelFolders
from engine.models.given import model_folders
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.run.sweep import joined
from engine.store.cache import Cache
from nodes.inputs import LoRAFile
from tests.cli.toy_nodes import Weigh
from tests.engine.toys import REGISTRY, node


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """Four folders with a file each, beside a secret one and one whose name begins like another's."""
    folders = {name: tmp_path / name for name in ("input", "output", "temp", "models")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "a.txt").write_text(f"of {name}")
    for name in ("secret", "input2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("secret")
    (tmp_path / "input" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "input" / "out.txt").symlink_to(tmp_path / "secret" / "a.txt")
    return folders


def prepared(graph: dict[str, Any]) -> Prepared:
    return prepare(Workflow.read(graph), REGISTRY)


def confined(roots: dict[str, Path], kind: str = "ReadFile", **inputs: Any) -> Graph:
    registry = Registry([*REGISTRY.values(), Weigh])
    return check(prepare(Workflow.read({"1": node(kind, **inputs)}), registry), targets=["1"], roots=roots)


def refused(roots: dict[str, Path], kind: str = "ReadFile", **inputs: Any) -> Problem:
    with pytest.raises(WorkflowError) as caught:
        confined(roots, kind, **inputs)
    (problem,) = caught.value.problems
    assert (problem.node, problem.input) == ("1", *inputs)
    return problem


def read(graph: Graph) -> Any:
    execution = Execution(graph, cache=Cache(), out=Path("out"))
    assert list(execution)
    return execution.results["1"][0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "of input"),
        ("./a.txt", "of input"),
        ("a.txt [input]", "of input"),
        ("a.txt [output]", "of output"),
        ("a.txt[output]", "of output"),
        ("a.txt [temp]", "of temp"),
        ("../output/a.txt", "of output"),
        ("nowhere/../a.txt", "of input"),
    ],
)
def test_names_are_relative_to_the_input_folder_or_the_one_they_end_in(
    name: str, text: str, roots: dict[str, Path]
) -> None:
    assert read(confined(roots, file=name)) == text


def test_an_absolute_path_may_lead_into_a_folder(roots: dict[str, Path]) -> None:
    assert read(confined(roots, file=str(roots["temp"] / "a.txt"))) == "of temp"


def test_neither_the_workflows_folder_nor_the_working_folder_counts(roots: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("beside")
    with pytest.raises(MissingError, match=r"there is no file 'b\.txt'"):
        check(prepared({"1": node("ReadFile", file="b.txt")}), base=tmp_path, targets=["1"], roots=roots)


LEADING_OUT = [
    "../secret/{}",
    "../../{}",
    "../input2/{}",
    "{root}/input2/{}",
    "../models2/{}",
    "x/../../secret/{}",
    "{root}/secret/{}",
    "{root}/input/../secret/{}",
    "../secret/{} [output]",
    "{root}/secret/{} [temp]",
    "out/{}",
    "out/../out/{}",
    "/etc/passwd",
    "/proc/self/root{root}/input/a.txt",
    "~/{}",
    "~root/{}",
    "C:/{}",
    "C:{}",
    "..\\secret\\{}",
    "\\\\host\\share\\{}",
    "{}\0.png",
]


@pytest.mark.parametrize("spelling", LEADING_OUT)
@pytest.mark.parametrize("kind", ["ReadFile", "ReadFolder", "Weigh"])
def test_no_spelling_leads_outside_or_reveals_what_is_there(
    kind: str, spelling: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    socket = {"ReadFile": "file", "ReadFolder": "folder", "Weigh": "model"}[kind]
    there, gone = (spelling.replace("{root}", str(tmp_path)).format(name) for name in ("a.txt", "b.txt"))
    if kind == "Weigh" and spelling.startswith("out/"):
        (roots["models"] / "out").symlink_to(tmp_path / "secret")
    of_one, of_other = (refused(roots, kind, **{socket: name}) for name in (there, gone))
    for problem in (of_one, of_other):
        assert problem.message.endswith(" is outside the folders that may be read")
    assert of_one.hint == of_other.hint


def test_a_link_that_leads_outside_is_refused_and_one_that_stays_inside_is_not(roots: dict[str, Path]) -> None:
    refused(roots, file="out.txt")
    (roots["input"] / "result.txt").symlink_to(roots["output"] / "a.txt")
    assert read(confined(roots, file="result.txt")) == "of output"


def test_a_folder_may_itself_be_reached_through_a_link(roots: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(roots["input"])
    assert read(confined({"input": tmp_path / "link"}, file=str(tmp_path / "link" / "a.txt"))) == "of input"


@pytest.mark.parametrize("name", ["sn\ud800.txt", "x" * 5000, "loop/a.txt", "a.txt/b.txt", ".", "", " [output]"])
def test_strange_names_are_missing_files(name: str, roots: dict[str, Path]) -> None:
    (roots["input"] / "loop").symlink_to("loop")
    with pytest.raises(MissingError):
        confined(roots, file=name)


def test_hints_name_only_files_in_the_folders(roots: dict[str, Path], tmp_path: Path) -> None:
    (roots["input"] / ".b.txt").touch()
    with pytest.raises(MissingError) as near:
        confined(roots, file="b.txt")
    assert near.value.hint == "did you mean 'a.txt'?"
    with pytest.raises(MissingError) as whole:
        confined(roots, file=".")
    assert whole.value.hint is None, "not what lies beside the input folder"
    assert str(tmp_path) not in str(near.value) + str(whole.value)


def test_an_annotation_has_no_meaning_without_confinement(tmp_path: Path) -> None:
    (tmp_path / "a.txt [output]").write_text("so called")
    graph = check(prepared({"1": node("ReadFile", file="a.txt [output]")}), targets=["1"], base=tmp_path)
    assert read(graph) == "so called"


def test_links_from_a_folder_to_the_outside_are_skipped(roots: dict[str, Path]) -> None:
    assert read(confined(roots, kind="ReadFolder", folder=".")) == "of input"
    (roots["input"] / "a.txt").unlink()
    with pytest.raises(MissingError, match="no files match"):
        confined(roots, kind="ReadFolder", folder=".")


@pytest.mark.parametrize("parts", [False, True])
def test_a_link_made_after_the_check_is_skipped_in_the_run(parts: bool, roots: dict[str, Path]) -> None:
    graph = confined(roots, kind="ReadFolder", folder=".")
    graph = joined([graph]) if parts else graph
    (roots["input"] / "b.txt").symlink_to(roots["input"].parent / "secret" / "a.txt")
    execution = Execution(graph, cache=Cache(), out=Path("out"))
    assert list(execution)
    assert list(execution.results.values()) == [("of input",)]


def test_models_are_relative_to_their_folder(roots: dict[str, Path]) -> None:
    assert read(confined(roots, kind="Weigh", model="a.txt")) == len("of models")
    with pytest.raises(MissingError, match=r"there is no model 'b\.txt'") as caught:
        confined(roots, kind="Weigh", model="b.txt")
    assert caught.value.hint == "did you mean 'a.txt'?"


def test_models_that_ship_or_come_from_elsewhere_may_be_used(roots: dict[str, Path]) -> None:
    assert confined(roots, kind="Weigh", model="sprite/clip").steps["1"].constants["model"] == "sprite/clip"
    with pytest.raises(MissingError, match="not on this machine yet"):
        confined(roots, kind="Weigh", model="hf:owner/name")


@pytest.mark.parametrize(
    "source",
    [
        "sprite/../../../etc",
        "sprite/../../input/a.txt",
        "hf:owner/name//etc/passwd",
        "hf:owner/name/../../x",
        "hf:owner/name@../../../x",
        "hf:owner/name@/etc/passwd",
        "pypi:a==1//etc/passwd",
        "http://host/model",
        "file:///etc/passwd",
        "",
    ],
)
def test_no_kind_of_source_leads_elsewhere(source: str, roots: dict[str, Path]) -> None:
    with pytest.raises(KinographError) as caught:
        confined(roots, kind="Weigh", model=source)
    assert "not on this machine" not in str(caught.value)


def test_inputs_that_name_files_can_not_be_linked(roots: dict[str, Path]) -> None:
    graph = {"text": node("ReadFile", file="a.txt"), "1": node("ReadFile", file=["text", 0])}
    with pytest.raises(WorkflowError, match="can't be linked"):
        check(prepared(graph), targets=["1"], roots=roots)


def test_names_stay_as_they_are_in_saved_files(roots: dict[str, Path]) -> None:
    assert confined(roots, file="a.txt [output]").local_files == {}


def test_files_that_a_list_names_are_checked_one_by_one(roots: dict[str, Path], tmp_path: Path) -> None:
    confinement = Confinement(roots)
    assert confinement.allows(roots["input"] / "a.txt")
    assert confinement.allows(roots["input"] / "gone.txt")
    for outside in ("/etc/passwd", tmp_path / "secret" / "a.txt", roots["input"] / "out.txt", "a\0b", "../x"):
        assert not confinement.allows(Path(outside))
    detour = roots["input"] / "out" / ".." / "secret" / "a.txt"  # as written it seems to stay
    assert not confinement.allows(detour)


@pytest.fixture
def comfyui(tmp_path: Path) -> ModelFolders:
    """Another program's folder of models, beside the roots."""
    for name in ("checkpoints/a.safetensors", "loras/a.safetensors", "loras/sub/b.safetensors"):
        path = tmp_path / "ComfyUI" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "ComfyUI" / "models" / "loras" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "ComfyUI" / "a.txt").write_text("of the program, not a model")
    return model_folders([tmp_path / "ComfyUI"])


def weighed(roots: dict[str, Path], folders: ModelFolders, model: str, kind: str = "Weigh") -> Any:
    registry = Registry([*REGISTRY.values(), Weigh, WeighLoRA])
    workflow = prepare(Workflow.read({"1": node(kind, model=model)}), registry)
    return read(check(workflow, targets=["1"], roots=roots, folders=folders))


class WeighLoRA(Node, version=1):
    """The size of a LoRA."""

    model: LoRAFile
    """A LoRA."""

    def run(self, ctx: Context) -> int:
        return Path(self.model).stat().st_size


def test_models_in_further_folders_may_be_named_as_other_programs_do(
    roots: dict[str, Path], comfyui: ModelFolders
) -> None:
    assert weighed(roots, comfyui, "sub/b.safetensors") == len("loras/sub/b.safetensors")
    assert weighed(roots, comfyui, "checkpoints/a.safetensors") == len("checkpoints/a.safetensors")
    assert weighed(roots, comfyui, "a.txt") == len("of models"), "the server's own folder still counts"
    assert weighed(roots, comfyui, "a.safetensors", "WeighLoRA") == len("loras/a.safetensors")
    with pytest.raises(MissingError, match="is in checkpoints and in loras"):
        weighed(roots, comfyui, "a.safetensors")
    with pytest.raises(MissingError, match=r"there is no model 'c\.safetensors'"):
        weighed(roots, comfyui, "c.safetensors")


@pytest.mark.parametrize("spelling", [*LEADING_OUT, "{root}/ComfyUI/a.txt", "../../{}", "loras/../../a.txt"])
def test_further_folders_open_no_others(
    spelling: str, roots: dict[str, Path], comfyui: ModelFolders, tmp_path: Path
) -> None:
    (roots["models"] / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(WorkflowError, match="outside the folders that may be read"):
        weighed(roots, comfyui, spelling.replace("{root}", str(tmp_path)).format("a.txt"))


@pytest.mark.parametrize("name", ["loras/out/a.txt", "loras/out/b.txt", "out/a.txt", "out/b.txt"])
def test_a_link_out_of_a_further_folder_leads_nowhere(name: str, roots: dict[str, Path], comfyui: ModelFolders) -> None:
    with pytest.raises(MissingError, match=f"there is no model '{name}'"):
        weighed(roots, comfyui, name)


def test_a_file_that_can_run_code_is_refused_unread(
    roots: dict[str, Path], comfyui: ModelFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = comfyui.roots[0] / "loras" / "c.pt"
    path.write_bytes(b"pickle")
    monkeypatch.setattr("engine.models.sources.digest", lambda path: pytest.fail("it was read"))
    with pytest.raises(WorkflowError, match=r"'c\.pt' can run code when it is read") as caught:
        weighed(roots, comfyui, "c.pt", "WeighLoRA")
    assert caught.value.hint == "convert it to safetensors"
