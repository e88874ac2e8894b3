"""A name leads into one of the server's folders or nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import KinographError, MissingError, UsageError
from engine.graph.confinement import annotated
from engine.server.files.paths import Root, find_file, locate, resolve_within, walk
from engine.server.http.settings import Folders
from tests.server.conftest import Server

ROOTS = get_args(Root)
OUTSIDE = [
    "..",
    "../secret.txt",
    "a/../../secret.txt",
    "a/../b.png",
    "./../secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "\\etc\\passwd",
    "..\\secret.txt",
    "a\\..\\..\\secret.txt",
    "\\\\host\\share\\a.png",
    "C:/secret.txt",
    "C:secret.txt",
    "c:\\secret.txt",
    "file:///etc/passwd",
    "a.png\0.txt",
    "\0",
    "a\n.png",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "..%2fsecret.txt",
    "..%5csecret.txt",
    "%252e%252e%252fsecret.txt",
    "%25252e%25252e/secret.txt",
    ".hidden.png",
    "a/.git/config",
    "a/./b.png",
    "...",
    ".. /secret.txt",
    "a.png.",
    "a.png ",
    "a.png::$DATA",
    "con",
    "NUL.png",
    "a/Com1.txt",
    "lpt¹.png",
    "aux .png",
    "a" * 256,
    "é" * 128,
    "\ud800.png",
    "/".join("a" * 40),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_spelling_leads_out(folders: Folders, name: str) -> None:
    (folders.output.parent / "secret.txt").write_text("secret")
    with pytest.raises(UsageError):
        locate(folders, name)
    with pytest.raises(UsageError):
        locate(folders, "a.png", name)


@pytest.mark.parametrize("name", [name for name in OUTSIDE if "\ud800" not in name])
@pytest.mark.parametrize(
    "path",
    ["/view", "/api/view", "/api/kinograph/thumbnail", "/api/kinograph/outputs/workflow", "/view_metadata/loras"],
)
def test_no_request_reaches_a_file_outside(server: Server, path: str, name: str) -> None:
    (server.folders.output.parent / "secret.txt").write_text("secret")
    for spelled in (quote(name), name.replace("/", "%2f").replace("\\", "%5c")):
        if spelled.isascii() and spelled.isprintable() and " " not in spelled:
            answer = server.ask("GET", f"{path}?filename={spelled}")
            assert answer.status in (400, 404), name
            assert b"secret" not in answer.body.replace(b"secret.txt", b"")


@given(st.text(max_size=40), st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_accepted_name_stays_in_the_folders(folders: Folders, name: str, subfolder: str) -> None:
    try:
        path = locate(folders, name, subfolder)
    except KinographError:
        return
    roots = (folders.output, folders.input, folders.temp)  # the name may contain the folder
    assert any(path.is_relative_to(root) and path != root for root in roots)


def test_ordinary_names_are_find_file(folders: Folders) -> None:
    names = ["a.png", "snail (1).png", "Grüße 世界.png", "50%.png", "a%20b.png", "console.png", "a..b.png", "what?.png"]
    for name in names:
        (folders.output / "some folder").mkdir(exist_ok=True)
        path = folders.output / "some folder" / name
        path.touch()
        assert find_file(folders, name, "some folder") == path
        assert find_file(folders, f"some folder/{name}") == find_file(folders, name, "some folder//") == path


def test_a_name_may_contain_its_folder(folders: Folders) -> None:
    assert annotated("a.png [output]", ROOTS) == ("a.png", "output")
    assert annotated("a.png[temp]", ROOTS) == ("a.png", "temp")
    assert annotated("a.png [models]", ROOTS) == ("a.png [models]", None)
    assert annotated("[a] b.png", ROOTS) == ("[a] b.png", None)
    (folders.input / "a.png").touch()
    assert find_file(folders, "a.png [input]", type="output") == folders.input / "a.png"
    with pytest.raises(UsageError):
        locate(folders, "../a.png [input]")
    with pytest.raises(UsageError, match="no file is named"):
        locate(folders, " [input]".strip())


def test_only_the_folders_of_the_protocol_can_be_named(folders: Folders) -> None:
    for name in ("models", "data", "", "..", "INPUT"):
        with pytest.raises(UsageError, match="there is no folder"):
            locate(folders, "a.png", type=name)


def test_links_must_stay_within_the_folder(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_text("secret")
    (folders.output / "real.png").touch()
    (folders.output / "good.png").symlink_to(folders.output / "real.png")
    (folders.output / "bad.png").symlink_to(tmp_path / "secret.png")
    (folders.output / "beside.png").symlink_to(folders.output.parent / "output-of-another")
    (folders.output / "away").symlink_to(tmp_path)
    (folders.output / "round").symlink_to(folders.output / "round")
    (folders.output / "gone.png").symlink_to(folders.output / "nothing.png")
    assert find_file(folders, "good.png") == folders.output / "real.png"
    for name in ("bad.png", "away/secret.png", "beside.png"):
        with pytest.raises(UsageError, match="leads out"):
            locate(folders, name)
    for name in ("round", "round/a.png", "gone.png"):
        with pytest.raises(KinographError):
            find_file(folders, name)
    assert {file.filename for file in walk(folders.output)} == {"real.png", "good.png"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "real" / "sub" / "a.png").touch()
    (tmp_path / "output").symlink_to(tmp_path / "real")
    assert resolve_within(tmp_path / "output", "sub/a.png") == tmp_path / "real" / "sub" / "a.png"
    assert [file.subfolder for file in walk(tmp_path / "output")] == ["sub"]


def test_only_regular_files_are_find_file(folders: Folders) -> None:
    (folders.output / "folder").mkdir()
    os.mkfifo(folders.output / "pipe.png")
    for name in ("folder", "pipe.png", "nothing.png"):
        with pytest.raises(MissingError, match="there is no file"):
            find_file(folders, name)
    assert list(walk(folders.output)) == []


def test_hidden_files_are_neither_named_nor_listed(folders: Folders) -> None:
    (folders.output / ".part").mkdir()
    (folders.output / ".part" / "a.png").touch()
    (folders.output / ".a.png").touch()
    assert list(walk(folders.output)) == []
    assert resolve_within(folders.output, ".a.png", hidden=True) == folders.output / ".a.png"
    for name in (".", "..", "a/..", ".a/../../b"):
        with pytest.raises(UsageError):
            resolve_within(folders.output, name, hidden=True)
