"""`--models`: the folders of other programs, in `run`, `validate` and `models`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.graph import contents
from engine.graph.check import examine
from engine.models.folders import ModelFolders
from engine.models.given import VARIABLE, model_folders
from engine.models.sources import SHIPPED
from nodes import registry
from tests.cli.conftest import Command, write

LORAS = SHIPPED / "sprite" / "loras"


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """ComfyUI's folder, with two LoRAs and a checkpoint of one's name."""
    models = tmp_path / "ComfyUI" / "models"
    for folder in ("checkpoints", "loras/sprite"):
        (models / folder).mkdir(parents=True)
    shutil.copy(LORAS / "neon.safetensors", models / "loras")
    shutil.copy(LORAS / "snail.safetensors", models / "loras" / "sprite")
    (models / "checkpoints" / "neon.safetensors").write_bytes(b"not a LoRA")
    (models / "checkpoints" / "old.ckpt").write_bytes(b"a pickle")
    return models.parent


@pytest.fixture
def neon() -> str:
    """A workflow in a folder of its own that loads a LoRA by its bare name, and saves it."""
    Path("mine").mkdir()
    return write(
        "mine/neon.json",
        {
            "load": ("LoRALoad", {"file": "neon.safetensors"}),
            "save": ("LoRASave", {"lora": ["load", 0], "filename_prefix": "out"}),
        },
        inputs={"lora": "load.file"},
    )


def test_a_workflow_runs_that_names_a_lora_as_comfyui_does(
    kinograph: Command, comfyui: Path, neon: str, tmp_path: Path
) -> None:
    without = kinograph("run", neon)
    assert (without.exit_code, "there is no 'neon.safetensors'" in without.stderr) == (4, True)

    result = kinograph("run", neon, "--models", str(comfyui), "--out", "out")
    assert result.exit_code == 0
    (saved,) = result.stdout.splitlines()
    by_path = kinograph("run", neon, "--set", f"lora={LORAS / 'neon.safetensors'}", "--out", "by path")
    assert Path(saved).read_bytes() == Path(by_path.stdout.strip()).read_bytes()
    assert Path(saved).stat().st_size > 10_000


def test_folders_may_come_from_the_environment(
    kinograph: Command, comfyui: Path, neon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{comfyui}:{comfyui / 'models'}")
    assert kinograph("validate", neon).exit_code == 0


@pytest.mark.parametrize("listed", [":{}", "{}:", ":", "{}::{}/models"])
def test_an_empty_part_of_what_the_environment_lists_is_not_the_working_folder(
    listed: str, kinograph: Command, comfyui: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("loras").mkdir()
    Path("loras/stray.safetensors").touch()
    monkeypatch.setenv(VARIABLE, listed.format(comfyui, comfyui))
    sources = [line.partition("\t")[0] for line in kinograph("models").stdout.splitlines()]
    assert "stray.safetensors" not in sources
    assert ("loras/neon.safetensors" in sources) == ("{}" in listed)


def test_validate_tells_a_lora_from_a_checkpoint_and_refuses_a_pickle(
    kinograph: Command, comfyui: Path, neon: str
) -> None:
    given = ("--models", str(comfyui))
    assert kinograph("validate", neon, *given).exit_code == 0
    pickle = kinograph("validate", neon, *given, "--set", "lora=old.ckpt")
    assert pickle.exit_code == 3
    assert "'old.ckpt' can run code when it is read (convert it to safetensors)" in pickle.stderr
    weigh = write("weigh.json", {"1": ("Weigh", {"model": "neon.safetensors"}), "2": ("Keep", {"text": "a"})})
    unclear = kinograph("validate", weigh, *given)
    assert unclear.exit_code == 4
    assert "write 'checkpoints/neon.safetensors' or 'loras/neon.safetensors'" in unclear.stderr


def test_a_missing_model_is_named_with_a_close_name(kinograph: Command, comfyui: Path, neon: str) -> None:
    def hint(source: str) -> str:
        given = ("--models", str(comfyui), "--set", f"lora={source}", "--json")
        (problem,) = json.loads(kinograph("validate", neon, *given).stdout)["problems"]
        return str(problem["hint"])

    assert hint("snial.safetensors") == "did you mean 'loras/sprite/snail.safetensors'?"
    assert hint("owner/name") == "write 'hf:owner/name' to take it from the Hugging Face hub"


def test_only_the_first_missing_models_get_hints(comfyui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = list[ModelFolders]()
    monkeypatch.setattr(contents, "scan", lambda folders, may_read: scans.append(folders) or [])
    every = {str(n): {"class_type": "LoRALoad", "inputs": {"file": f"{n}.safetensors"}} for n in range(100)}
    given = model_folders([comfyui])
    found = examine(prepare(Workflow.read({"graph": every}), registry()), targets=["1"], folders=given)
    assert (len(found.missing), len(scans)) == (100, 1)


def test_models_lists_folders_by_category_with_sizes(kinograph: Command, comfyui: Path) -> None:
    lines = kinograph("models", "--models", str(comfyui)).stdout.splitlines()
    models = comfyui / "models"
    assert lines[:2] == [
        f"checkpoints/neon.safetensors\tcheckpoints\t10 B\t{models}/checkpoints/neon.safetensors",
        f"old.ckpt\tcheckpoints\t8 B\t{models}/checkpoints/old.ckpt\t"
        "can run code when it is read: convert it to safetensors",
    ]
    rows = [json.loads(line) for line in kinograph("models", "--models", str(comfyui), "--json").stdout.splitlines()]
    assert rows[2] == {
        "source": "loras/neon.safetensors",
        "category": "loras",
        "bytes": (LORAS / "neon.safetensors").stat().st_size,
        "path": str(models / "loras" / "neon.safetensors"),
        "problem": None,
    }
    assert {row["source"] for row in rows} >= {"loras/sprite/snail.safetensors", "sprite/sdxl"}


def test_models_finds_what_a_workflow_needs(kinograph: Command, comfyui: Path, neon: str) -> None:
    assert kinograph("models", neon).exit_code == 4
    found = kinograph("models", neon, "--models", str(comfyui))
    assert found.stdout == f"neon.safetensors\t{comfyui}/models/loras/neon.safetensors\n"


@pytest.mark.parametrize("command", ["run", "validate", "models"])
def test_what_is_wrong_with_a_folder_is_one_line(kinograph: Command, comfyui: Path, neon: str, command: str) -> None:
    result = kinograph(command, neon, "--models", "nowhere")
    assert result.exit_code == 2
    assert "--models nowhere isn't there" in result.stderr
    (comfyui / "extra_model_paths.yaml").write_text("a:\n  loras: gone\n")
    passed_over = kinograph(command, neon, "--models", str(comfyui), *(["--out", "out"] if command == "run" else []))
    assert passed_over.exit_code == 0
    assert (
        f"warning: {comfyui}/extra_model_paths.yaml: a.loras: there is no folder {comfyui}/gone" in passed_over.stderr
    )


def test_saved_files_name_the_model_as_the_workflow_did(kinograph: Command, comfyui: Path, tmp_path: Path) -> None:
    Path("mine").mkdir()
    graph = {
        "weigh": ("Weigh", {"model": "sprite/snail.safetensors"}),
        "draw": ("Draw", {"grey": 5}),
        "save": ("SaveImage", {"images": ["draw", 0]}),
        "keep": ("KeepNumber", {"number": ["weigh", 0]}),
    }
    graph["weigh"] = ("Weigh", {"model": "loras/sprite/snail.safetensors"})
    Path("mine/beside.safetensors").write_bytes(b"beside")
    graph["other"] = ("Weigh", {"model": "beside.safetensors"})
    graph["keep other"] = ("KeepNumber", {"number": ["other", 0]})
    result = kinograph("run", write("mine/draw.json", graph), "--models", str(comfyui), "--out", "out")
    assert result.exit_code == 0
    (picture,) = (line for line in result.stdout.splitlines() if line.endswith(".png"))
    again = json.loads(kinograph("export", picture).stdout)["graph"]
    assert again["weigh"]["inputs"]["model"] == "loras/sprite/snail.safetensors"
    assert again["other"]["inputs"]["model"] == "../mine/beside.safetensors"
    assert kinograph("validate", picture, "--models", str(comfyui)).exit_code == 0
