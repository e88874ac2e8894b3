"""Folders of models that other programs have: what is in them, what it is called, and what is wrong with them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import MissingError, UsageError
from engine.models import find, identity, listing
from engine.models.folders import ModelFolders
from engine.models.given import VARIABLE, from_environment, model_folders
from engine.models.scanning import CONVERT, LEADS_OUT, Listed, scan, size_of

COMFYUI = {
    "models/checkpoints/sd_xl_base_1.0.safetensors": 70,
    "models/checkpoints/old/v1-5.ckpt": 40,
    "models/checkpoints/put_checkpoints_here": 0,
    "models/configs/v1-inference.yaml": 5,
    "models/loras/neon.safetensors": 7,
    "models/loras/sdxl/snail.safetensors": 8,
    "models/loras/sdxl/snail.preview.png": 9,
    "models/unet/flux.gguf": 20,
    "models/diffusion_models/wan.safetensors": 21,
    "models/clip/t5.safetensors": 22,
    "models/vae/sdxl_vae.safetensors": 23,
    "models/upscale_models/4x.pth": 24,
    "models/LLM/small.gguf": 25,
    "models/ipadapter/face.safetensors": 26,
    "models/diffusers/turbo/model_index.json": 2,
    "models/diffusers/turbo/unet/diffusion_pytorch_model.safetensors": 30,
}
WEBUI = {
    "models/Stable-diffusion/dream.safetensors": 71,
    "models/Lora/neon.safetensors": 72,
    "models/Lora/paint/oil.safetensors": 73,
    "models/VAE/soft.safetensors": 74,
    "models/ControlNet/depth.safetensors": 75,
    "models/ESRGAN/sharp.pth": 76,
    "embeddings/bad hands.safetensors": 77,
}
Make = Callable[[str, dict[str, int]], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a folder with files of given sizes."""

    def make(name: str, files: dict[str, int]) -> Path:
        for file, nbytes in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(nbytes))
        return tmp_path / name

    return make


@pytest.fixture
def comfyui(make: Make) -> Path:
    return make("ComfyUI", COMFYUI)


@pytest.fixture
def webui(make: Make) -> Path:
    return make("stable-diffusion-webui", WEBUI)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def listed(folders: ModelFolders) -> dict[str, tuple[str, str, int]]:
    """Category, form and size of the models that can be used, by source."""
    return {one.source: (one.category, one.form, one.nbytes) for one in scan(folders) if not one.problem}


def categories(folders: ModelFolders) -> dict[str, str]:
    return {source: category for source, (category, _, _) in listed(folders).items()}


def problems(folders: ModelFolders) -> dict[str, str]:
    return {one.source: one.problem for one in scan(folders) if one.problem}


@pytest.mark.parametrize("below", ["", "models"])
def test_comfyuis_models_are_listed_by_category_under_the_names_that_it_shows(comfyui: Path, below: str) -> None:
    folders = model_folders([comfyui / below])
    assert listed(folders) == {
        "sd_xl_base_1.0.safetensors": ("checkpoints", "safetensors", 70),
        "turbo": ("diffusers", "folder", 32),
        "flux.gguf": ("diffusion_models", "gguf", 20),
        "wan.safetensors": ("diffusion_models", "safetensors", 21),
        "small.gguf": ("llm", "gguf", 25),
        "neon.safetensors": ("loras", "safetensors", 7),
        "sdxl/snail.safetensors": ("loras", "safetensors", 8),
        "t5.safetensors": ("text_encoders", "safetensors", 22),
        "4x.pth": ("upscale_models", "pth", 24),
        "sdxl_vae.safetensors": ("vae", "safetensors", 23),
        "ipadapter/face.safetensors": ("", "safetensors", 26),
    }
    assert problems(folders) == {"old/v1-5.ckpt": CONVERT}, "upscalers are read as data all the same"


def test_the_models_of_automatic1111_have_the_same_categories(webui: Path) -> None:
    assert categories(model_folders([webui])) == {
        "dream.safetensors": "checkpoints",
        "depth.safetensors": "controlnet",
        "bad hands.safetensors": "embeddings",
        "neon.safetensors": "loras",
        "paint/oil.safetensors": "loras",
        "sharp.pth": "upscale_models",
        "soft.safetensors": "vae",
    }


def test_the_settings_of_a_program_do_not_make_its_folder_a_model(webui: Path) -> None:
    before = scan(model_folders([webui]))
    (webui / "config.json").write_text('{"sd_model_checkpoint": "dream.safetensors"}')
    assert scan(model_folders([webui])) == before
    (webui / "models/config.json").touch()
    assert scan(model_folders([webui / "models"])) == [one for one in before if one.category != "embeddings"]


def test_a_folder_that_is_called_like_a_category_is_no_model_whatever_it_holds(comfyui: Path) -> None:
    before = model_folders([comfyui])
    models, shelves = scan(before), [*before.shelves()]
    (comfyui / "models/vae/config.json").touch()
    assert [*model_folders([comfyui]).shelves()] == shelves
    assert scan(model_folders([comfyui])) == models


def test_every_listed_name_leads_to_its_model(comfyui: Path, webui: Path, make: Make) -> None:
    more = make(
        "more",
        {
            "neon.safetensors": 1,
            "checkpoints/loras/neon.safetensors": 2,
            "checkpoints/sdxl/snail.safetensors": 3,
            "loras/sprite/a.safetensors": 4,
            "vae/sdxl/snail.safetensors": 5,
        },
    )
    folders = model_folders([comfyui, webui, more])
    found = scan(folders)
    assert {one.source: folders.choose(one.source) for one in found} == {one.source: one.path for one in found}
    assert {one.source: one.path for one in found}.keys() >= {
        "neon.safetensors",  # that of no category, as it is written
        "loras/neon.safetensors",
        "checkpoints/loras/neon.safetensors",
        "checkpoints/sdxl/snail.safetensors",
        "loras/sdxl/snail.safetensors",
        "loras/sprite/a.safetensors",
    }


TREES = [
    # Folders that only sort models are called like models.
    {"checkpoints/sdxl/a.safetensors": 1, "loras/sdxl.safetensors": 2, "diffusers/sdxl/model_index.json": 3},
    {"loras/sdxl/a.safetensors": 1, "unet/sdxl/config.json": 2, "vae/sdxl/config.json": 3, "sdxl/model_index.json": 4},
    {"checkpoints/loras/a.safetensors": 1, "loras/a.safetensors": 2, "loras/x/config.json": 3, "vae/a/config.json": 4},
    # Categories are called like models, and hold what makes a folder one.
    {"vae/config.json": 1, "vae/a.safetensors": 2, "diffusers/vae/model_index.json": 3},
    {"other/sdxl/config.json": 1, "checkpoints/other/sdxl/config.json": 2, "other/vae/a.safetensors": 3},
    # Models are in folders of models.
    {"sdxl/config.json": 1, "sdxl/fine.safetensors": 2, "loras/sdxl/fine.safetensors": 3, "vae/sdxl/x/config.json": 4},
]


@pytest.mark.parametrize(("first", "second"), [*itertools.product(range(len(TREES)), repeat=2)])
def test_every_listed_name_leads_to_its_model_in_odd_folders_too(first: int, second: int, make: Make) -> None:
    folders = model_folders([make("first", TREES[first]), make("second", TREES[second])])
    found = scan(folders)
    assert {one.source: folders.choose(one.source) for one in found} == {one.source: one.path for one in found}


def test_a_folder_that_only_sorts_models_counts_where_there_is_no_model_of_its_name(make: Make) -> None:
    folders = model_folders([make("models", {"checkpoints/sdxl/a.safetensors": 1})])
    assert folders.choose("sdxl") == folders.roots[0] / "checkpoints/sdxl"
    folders = model_folders([make("models", {"diffusers/sdxl/model_index.json": 1})])
    assert folders.choose("sdxl") == folders.roots[0] / "diffusers/sdxl"


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("sd_xl_base_1.0.safetensors", "models/checkpoints/sd_xl_base_1.0.safetensors"),
        ("checkpoints/sd_xl_base_1.0.safetensors", "models/checkpoints/sd_xl_base_1.0.safetensors"),
        ("sdxl/snail.safetensors", "models/loras/sdxl/snail.safetensors"),
        ("sdxl\\snail.safetensors", "models/loras/sdxl/snail.safetensors"),
        ("loras/sdxl/snail.safetensors", "models/loras/sdxl/snail.safetensors"),
        ("Lora/sdxl/snail.safetensors", "models/loras/sdxl/snail.safetensors"),
        ("diffusion_models/flux.gguf", "models/unet/flux.gguf"),
        ("unet/flux.gguf", "models/unet/flux.gguf"),
        ("face.safetensors", "models/ipadapter/face.safetensors"),
        ("turbo", "models/diffusers/turbo"),
    ],
)
def test_a_model_is_found_by_the_name_that_programs_show(comfyui: Path, source: str, path: str) -> None:
    folders = model_folders([comfyui])
    assert find(source, folders=folders) == comfyui / path
    assert find(source) is None


@pytest.mark.parametrize(
    "source",
    ["vae", "../models/vae/sdxl_vae.safetensors", "~/x", "C:/x", "x/../../models/vae", "", ".", "v1-inference.yaml"],
)
def test_no_other_name_is_found_there(comfyui: Path, source: str) -> None:
    assert model_folders([comfyui]).choose(source) is None


def test_the_workflows_folder_and_the_working_folder_come_first(comfyui: Path, make: Make, tmp_path: Path) -> None:
    beside = make("workflows", {"neon.safetensors": 1})
    folders = model_folders([comfyui])
    assert find("neon.safetensors", base=beside, folders=folders) == beside / "neon.safetensors"
    Path("neon.safetensors").write_bytes(b"here")
    found = find("neon.safetensors", folders=folders)
    assert found == Path("neon.safetensors")


def test_the_folder_that_is_given_first_counts_of_two(comfyui: Path, webui: Path) -> None:
    for first, second in ((comfyui, webui), (webui, comfyui)):
        folders = model_folders([first, second])
        path = folders.choose("neon.safetensors")
        assert path in first.rglob("*")
        assert listed(folders)["neon.safetensors"][2] == (7 if first == comfyui else 72)


def test_of_several_categories_the_one_counts_that_the_input_wants(make: Make) -> None:
    folders = model_folders([make("models", {"checkpoints/a.safetensors": 1, "loras/a.safetensors": 2})])
    assert find("a.safetensors", folders=folders, wanted=("loras",)) == folders.roots[0] / "loras" / "a.safetensors"
    for wanted in ((), ("vae",), ("loras", "checkpoints")):
        with pytest.raises(MissingError, match=r"^'a\.safetensors' is in checkpoints and in loras") as caught:
            find("a.safetensors", folders=folders, wanted=wanted)
        assert caught.value.hint == "write 'checkpoints/a.safetensors' or 'loras/a.safetensors'"
    assert find("loras/a.safetensors", folders=folders)
    assert set(listed(folders)) == {"checkpoints/a.safetensors", "loras/a.safetensors"}


def test_links_to_one_file_are_one_model(make: Make) -> None:
    models = make("models", {"checkpoints/a.safetensors": 1, "loras/b.safetensors": 1})
    (models / "loras" / "a.safetensors").symlink_to(models / "checkpoints" / "a.safetensors")
    assert model_folders([models]).choose("a.safetensors") == models / "checkpoints" / "a.safetensors"


def test_an_error_says_that_a_model_was_looked_for_there_too(comfyui: Path) -> None:
    with pytest.raises(MissingError, match="and in the folders of models"):
        identity_in(model_folders([comfyui]), "nyon.safetensors")


def identity_in(folders: ModelFolders, source: str) -> str:
    from engine.models.sources import parse

    return parse(source, None, folders).identity()


def test_identity_is_that_of_the_file_wherever_it_lies(comfyui: Path) -> None:
    path = comfyui / "models" / "loras" / "neon.safetensors"
    assert identity_in(model_folders([comfyui]), "neon.safetensors") == identity(str(path))


def test_broken_links_and_unreadable_folders_are_passed_over(
    comfyui: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loras = comfyui / "models" / "loras"
    (loras / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (loras / "circle.safetensors").symlink_to("circle.safetensors")
    (loras / "sdxl" / "up").symlink_to(loras)
    scandir = os.scandir

    def refusing(path: str | Path) -> object:
        if Path(path).name == "vae":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    folders = model_folders([comfyui])
    assert (
        problems(folders).items()
        >= {
            "gone.safetensors": "is a link that leads nowhere",
            "circle.safetensors": "is a link that leads nowhere",
            "vae": "can't be read: Permission denied",
        }.items()
    )
    assert [name for name in listed(folders) if "snail" in name] == ["sdxl/snail.safetensors"], "once, in spite of up"


def test_links_that_lead_out_are_told_where_they_may_not(comfyui: Path, make: Make) -> None:
    disk = make("disk", {"big.safetensors": 9, "more/b.safetensors": 9})
    (comfyui / "models" / "loras" / "big.safetensors").symlink_to(disk / "big.safetensors")
    (comfyui / "models" / "loras" / "more").symlink_to(disk / "more")
    (comfyui / "models" / "controlnet").symlink_to(disk)
    folders = model_folders([comfyui])
    inside = {one.source: one.problem for one in scan(folders, lambda path: path.resolve().is_relative_to(comfyui))}
    assert inside["big.safetensors"] == inside["more"] == inside["controlnet"] == LEADS_OUT
    assert not any("b.safetensors" in source for source in inside)
    assert listed(folders).keys() >= {"loras/big.safetensors", "controlnet/big.safetensors", "loras/more/b.safetensors"}


def test_a_folder_that_is_a_model_is_one_with_the_size_of_its_files(make: Make) -> None:
    files = {"config.json": 1, "model.safetensors": 2, "sub/more.safetensors": 4, ".git/pack": 8, "extra.gguf": 16}
    models = make("models", {f"llm/qwen/{name}": nbytes for name, nbytes in files.items()})
    (models / "llm" / "qwen" / "sub" / "loop").symlink_to(models / "llm")
    assert size_of(models / "llm" / "qwen") == 23
    assert listed(model_folders([models])) == {"qwen": ("llm", "folder", 23), "qwen/extra.gguf": ("llm", "gguf", 16)}


def test_models_that_ship_are_listed_with_their_sizes() -> None:
    shipped = {one.source: one for one in listing.available() if one.source.startswith("sprite/")}
    assert (shipped["sprite/sdxl"].form, shipped["sprite/loras/neon.safetensors"].category) == ("folder", "loras")
    assert all(one.nbytes > 10_000 for one in shipped.values())


def test_no_file_is_opened_to_list_five_thousand(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    models = make("models", {f"loras/{n % 50}/{n}.safetensors": 0 for n in range(5000)})
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail("a file was opened"))
    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: pytest.fail("a file was opened"))
    found = scan(model_folders([models]))
    assert len(found) == 5000
    assert Listed("7/57.safetensors", models / "loras" / "7" / "57.safetensors", "safetensors", "loras") in found


YAML = """
# as ComfyUI ships it
webui:
  base_path: $WEBUI/
  is_default: true
  checkpoints: models/Stable-diffusion
  loras: |
    models/Lora   # where they are
    # models/LyCORIS
  embeddings: [embeddings]
  hypernetworks: models/hypernetworks
comfyui:
  base_path: ComfyUI
  unet: models/unet/
  custom_nodes: nodes
nothing:
"""


def test_a_yaml_names_folders_elsewhere(
    comfyui: Path, webui: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBUI", str(webui))
    file = tmp_path / "extra_model_paths.yaml"
    file.write_text(YAML)
    folders = model_folders([file])
    assert set(listed(folders)) == {
        *("dream.safetensors", "neon.safetensors", "paint/oil.safetensors", "bad hands.safetensors", "flux.gguf")
    }
    assert folders.choose("diffusion_models/flux.gguf") == comfyui / "models" / "unet" / "flux.gguf"
    assert folders.notes == (f"{file}: webui.hypernetworks: there is no folder {webui}/models/hypernetworks",)


def test_a_yaml_counts_where_it_lies_and_its_default_first(comfyui: Path, webui: Path) -> None:
    file = comfyui / "extra_model_paths.yaml"
    text = f"webui:\n  base_path: {webui}\n  is_default: %s\n  loras: models/Lora\n"
    for is_default, expected in (("true", webui), ("false", comfyui)):
        file.write_text(text % is_default)
        found = model_folders([comfyui]).choose("neon.safetensors")
        assert found in expected.rglob("*")
    assert model_folders([comfyui]).choose("paint/oil.safetensors")


def test_without_a_base_path_folders_are_relative_to_the_file(make: Make, tmp_path: Path) -> None:
    make("given", {"mine/a.safetensors": 1})
    file = tmp_path / "given" / "paths.yml"
    file.write_text("own:\n  loras: |\n    mine\n    yours\n")
    folders = model_folders([file])
    assert set(listed(folders)) == {"a.safetensors"}
    assert folders.notes == (f"{file}: own.loras: there is no folder {tmp_path}/given/yours (own has no base_path)",)


def test_a_base_path_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    file = tmp_path / "paths.yaml"
    file.write_text("usb:\n  base_path: ~/nowhere/$UNSET\n  loras: a\n  vae: b\n")
    folders = model_folders([file])
    home = os.path.expanduser("~")  # noqa: PTH111
    assert folders.notes == (f"{file}: usb.base_path: there is no folder {home}/nowhere/$UNSET",)
    assert folders.places == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML: line 1: expected"),
        ("a:\n\tb: c", "is not YAML: line 2: found character"),
        ("x: 2001-99-99", "is not YAML: month must be in"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML: line 1: could not determine a constructor"),
        ("[" * 1500, "is not YAML"),
        ("\x00", "is not YAML"),
        ("- a\n- b", "has no sections"),
        ("just words", "has no sections"),
        ("comfyui: /models", "comfyui is not a section"),
        ("comfyui:\n  base_path: 5", "comfyui.base_path must be the path of a folder"),
        ("comfyui:\n  base_path: ''", "comfyui.base_path must be the path of a folder"),
        ("comfyui:\n  is_default: maybe", "comfyui.is_default must be true or false"),
        ("comfyui:\n  loras: 5", "comfyui.loras must be a path, or several in lines"),
        ("comfyui:\n  loras: {a: b}", "comfyui.loras must be a path, or several in lines"),
        ('comfyui:\n  loras: "a\\0b"', "comfyui.loras must be a path, or several in lines"),
    ],
)
def test_a_wrong_yaml_is_told_in_one_line_with_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "extra_model_paths.yaml"
    file.write_text(text)
    for given in (file, tmp_path):
        with pytest.raises(UsageError) as caught:
            model_folders([given])
        assert str(file) in caught.value.message
        assert message in caught.value.message
        assert "\n" not in str(caught.value)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "--models nowhere isn't there"),
        ("nowhere.yaml", "--models nowhere.yaml isn't there"),
        ("file.txt", "--models file.txt is a file, not a folder"),
        ("~nobody-of-that-name/models", "can't be the name of a folder"),
        ("a\0b", "--models a\0b"),
        ("sdxl", "is a model, not a folder of models"),
        ("model", "is a model, not a folder of models"),
    ],
)
def test_what_is_no_folder_of_models_is_refused(given: str, message: str) -> None:
    Path("file.txt").touch()
    Path("sdxl/vae").mkdir(parents=True)
    Path("sdxl/model_index.json").touch()
    Path("model").mkdir()
    Path("model/config.json").touch()
    with pytest.raises(UsageError) as caught:
        model_folders([Path(given)])
    assert message in caught.value.message


def test_the_environment_may_list_folders(comfyui: Path, webui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert from_environment() == ModelFolders()
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(comfyui), str(webui)]))
    assert from_environment() == model_folders([comfyui, webui])
    monkeypatch.setenv(VARIABLE, "nowhere")
    with pytest.raises(UsageError, match=f"{VARIABLE} nowhere isn't there"):
        from_environment()
