"""Folders of pictures with captions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow

from engine.errors import InputError
from engine.node import Context
from nodes.files.captioned import MAX_CAPTION, watched
from nodes.files.nodes import LoadPictures


def picture(path: Path, size: tuple[int, int] = (4, 3), colour: tuple[int, ...] = (255, 0, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB" if len(colour) == 3 else "RGBA", size, colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.JPG", (6, 5), (0, 0, 255))
    picture(tmp_path / "more" / "c.webp")
    (tmp_path / "b.txt").write_text("a red\n thing\n")
    (tmp_path / "more" / "c.caption").write_text("\ufeffanother")
    (tmp_path / "notes.md").write_text("passed over")
    picture(tmp_path / ".hidden.png")
    picture(tmp_path / ".thumbs" / "b.png")
    return tmp_path


def test_pictures_come_in_order_with_their_captions(folder: Path) -> None:
    images, captions = LoadPictures(folder=str(folder)).run(Context())
    assert captions == ("", "a red thing", "another")
    assert [tuple(image.pixels.shape) for image in images] == [(1, 3, 5, 6), (1, 3, 3, 4), (1, 3, 3, 4)]
    assert torch.equal(images[1].pixels, torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 3, 4))


@pytest.mark.parametrize("end", [".TXT", ".Caption"])
def test_endings_of_captions_may_be_in_capitals(tmp_path: Path, end: str) -> None:
    picture(tmp_path / "a.PNG")
    (tmp_path / f"a{end}").write_text("a red thing")
    assert LoadPictures(folder=str(tmp_path)).run(Context()).captions == ("a red thing",)


def test_transparency_is_white(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", colour=(255, 0, 0, 0))
    images, _ = LoadPictures(folder=str(tmp_path)).run(Context())
    assert torch.equal(images[0].pixels, torch.ones(1, 3, 3, 4))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Pillow.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    images, _ = LoadPictures(folder=str(tmp_path)).run(Context())
    assert images[0].pixels.shape == (1, 3, 4, 4)


def test_what_decides_is_watched(folder: Path) -> None:
    names = [path.name for path in watched(folder)]
    assert names == ["a.JPG", "b.png", "c.webp", "b.txt", "c.caption"]
    assert [path.name for path in watched(folder, lambda path: path.name != "b.png")] == [
        name for name in names if name != "b.png"
    ]


def test_a_caption_without_a_picture_is_told(folder: Path) -> None:
    (folder / "d.txt").write_text("of nothing")
    with pytest.raises(InputError, match=r"d\.txt is a caption without a picture"):
        LoadPictures(folder=str(folder)).run(Context())


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="holds no picture"):
        LoadPictures(folder=str(tmp_path)).run(Context())


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\xff\xfe\x00a", "is not UTF-8 text"), (b"a" * (MAX_CAPTION + 1), "is longer than 10,000 bytes")],
)
def test_a_caption_that_is_none_is_told(folder: Path, data: bytes, message: str) -> None:
    (folder / "b.txt").write_bytes(data)
    with pytest.raises(InputError, match=message):
        LoadPictures(folder=str(folder)).run(Context())


def test_a_file_that_is_only_named_as_a_picture_is_told(folder: Path) -> None:
    (folder / "z.png").write_text("no picture")
    with pytest.raises(InputError, match=r"z\.png is not a picture"):
        LoadPictures(folder=str(folder)).run(Context())
