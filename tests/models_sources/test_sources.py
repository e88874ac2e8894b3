"""Source strings, local and shipped ones, and the identity of their contents."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from engine.errors import MissingError
from engine.models import digest, find, home, identity, listing, resolve, sources


def test_a_local_path_is_found_in_the_workflows_folder_and_then_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "workflows", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
        (folder / "both.safetensors").touch()
    (here / "only-here.safetensors").touch()
    monkeypatch.chdir(here)

    assert resolve("both.safetensors", base=beside) == beside / "both.safetensors"
    assert resolve("only-here.safetensors", base=beside).resolve() == here / "only-here.safetensors"
    assert find("nowhere.safetensors", base=beside) is None


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("loras/snial.safetensors", "there is no 'loras/snial.safetensors'", "did you mean 'loras/snail.safetensors'"),
        ("lora/snail.safetensors", "looked for 'lora'", "did you mean 'loras/snail.safetensors'"),
        ("stabilityai/sd-turbo", "there is no", "write 'hf:stabilityai/sd-turbo'"),
        ("sprite/sdxk", "ships with Kinograph", "did you mean 'sprite/sdxl'"),
        ("sprite/../../engine", "is outside the models", ""),
        ("", "no model is named", "hf:owner/name"),
        ("hg:owner/name", "'hg:' is not a kind of model source", "did you mean 'hf:'"),
        ("pipy:x==1/y", "'pipy:' is not a kind of model source", "did you mean 'pypi:'"),
        ("https://example.org/model.safetensors", "is not a kind", "download the model"),
        ("hf:no-owner", "does not name a model of the hub", "hf:owner/name"),
        ("hf:owner/name/../../x", "does not name a model of the hub", "hf:owner/name"),
    ],
)
def test_a_missing_model_is_named_with_a_close_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str, hint: str
) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "snail.safetensors").touch()
    (tmp_path / "models" / "sprite" / "sdxl").mkdir(parents=True)
    monkeypatch.setattr(sources, "SHIPPED", tmp_path / "models")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(MissingError, match=message) as error:
        resolve(source)
    assert hint in str(error.value.hint or "")
    with pytest.raises(MissingError, match=message):
        identity(source)


def test_sprite_names_shipped_models_and_a_dot_local_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shipped" / "sprite" / "sdxl").mkdir(parents=True)
    (tmp_path / "sprite" / "sdxl").mkdir(parents=True)
    monkeypatch.setattr(sources, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)

    assert resolve("sprite/sdxl") == tmp_path / "shipped" / "sprite" / "sdxl"
    assert resolve("./sprite/sdxl").resolve() == tmp_path / "sprite" / "sdxl"


def test_shipped_pipelines_and_files_of_weights_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sdxl/model_index.json", "sdxl/unet/config.json", "loras/snail.safetensors", "train.py"):
        path = tmp_path / "sprite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(listing, "SHIPPED", tmp_path)
    shipped = {source: path for source, path in listing.local_models().items() if source.startswith("sprite/")}
    assert shipped == {
        "sprite/sdxl": tmp_path / "sprite" / "sdxl",
        "sprite/loras/snail.safetensors": tmp_path / "sprite" / "loras" / "snail.safetensors",
    }


def test_the_identity_of_a_folder_follows_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "config.json").write_text("{}")
        (folder / "model_index.json").write_text("{}")
    (second / ".cache").mkdir()
    (second / ".cache" / "note").write_text("hidden")
    assert identity(str(first)) == identity(str(second))

    (second / "unet" / "config.json").write_text("[]")
    assert identity(str(first)) != identity(str(second))
    (second / "unet" / "config.json").write_text("{}")
    (second / "unet" / "config.json").rename(second / "unet" / "other.json")
    assert identity(str(first)) != identity(str(second))


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "weights").write_bytes(b"one")
    model = tmp_path / "model"
    model.mkdir()
    (model / "unet").symlink_to(tmp_path / "blobs")
    (model / "loop").symlink_to(tmp_path / "model")
    (model / "broken").symlink_to(tmp_path / "nowhere")
    before = identity(str(model))

    (tmp_path / "blobs" / "weights").write_bytes(b"two")

    assert identity(str(model)) != before


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file large enough for its digest to be remembered, which counts as written long ago."""
    monkeypatch.setattr(digest, "SETTLED_NS", -1)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(bytes(digest.SMALL))
    return path


def test_a_large_file_is_read_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = identity(str(checkpoint))
    assert content == f"sha256:{hashlib.sha256(bytes(digest.SMALL)).hexdigest()}"

    monkeypatch.setattr(hashlib, "file_digest", lambda *args: pytest.fail("the file was read again"))

    assert identity(str(checkpoint)) == content


def test_a_file_replaced_under_its_old_name_size_and_time_is_noticed(checkpoint: Path) -> None:
    before, state = identity(str(checkpoint)), checkpoint.stat()

    checkpoint.write_bytes(b"\1" * digest.SMALL)
    os.utime(checkpoint, ns=(state.st_atime_ns, state.st_mtime_ns))

    assert identity(str(checkpoint)) != before


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "fresh.safetensors"
    path.write_bytes(bytes(digest.SMALL))
    identity(str(path))
    assert not (home() / "digests").exists()


@pytest.mark.parametrize("damage", ["", "nonsense", "1 2 3"])
def test_a_damaged_record_is_ignored(checkpoint: Path, damage: str) -> None:
    content = identity(str(checkpoint))
    (memo,) = (home() / "digests").iterdir()
    memo.write_text(damage)
    assert identity(str(checkpoint)) == content


def test_a_home_that_cannot_be_written_costs_only_time(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINOGRAPH_HOME", str(checkpoint / "not-a-folder"))
    assert identity(str(checkpoint)).startswith("sha256:")


def test_home_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINOGRAPH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "kinograph"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path.home() / ".cache" / "kinograph"


def test_the_settings_beside_a_checkpoint_are_part_of_it(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"weights")
    alone = identity(str(checkpoint))
    (tmp_path / "notes.json").write_text("{}")
    assert identity(str(checkpoint)) == alone, "files beside one that is in no pipeline's folder don't count"

    (tmp_path / "model_index.json").write_text("{}")
    with_settings = identity(str(checkpoint))
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    assert len({alone, with_settings, identity(str(checkpoint))}) == 3
