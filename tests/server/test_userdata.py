"""The data of the stock front end is kept intact, and within its folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from engine import atomic
from tests.server.conftest import Server, png


def test_the_stock_front_end_can_start(server: Server) -> None:
    asked = ("/users", "/settings", "/extensions", "/i18n", "/workflow_templates", "/v2/userdata", "/embeddings")
    answers = [server.get(f"/api{path}").json for path in asked]
    assert answers == [{"storage": "server", "migrated": True}, {}, [], {}, {}, [], []]
    features = server.get("/features").json
    assert (features["supports_preview_metadata"], features["max_upload_size"]) == (True, server.settings.upload_limit)
    assert server.post("/users", {"username": "another"}).status == 400


def test_settings_are_changed_one_by_one_and_stay(server: Server) -> None:
    assert server.post("/settings", {"a.b": 1, "theme": "dark"}).status == 200
    assert server.post("/settings/theme", "light").status == 200
    assert server.post("/settings/deep", {"x": [None, True, 1.5]}).status == 200
    assert server.get("/settings").json == {"a.b": 1, "theme": "light", "deep": {"x": [None, True, 1.5]}}
    assert server.get("/settings/theme").json == "light"
    assert server.get("/settings/nothing").json is None
    assert json.loads((server.folders.data / "settings.json").read_text())["theme"] == "light"


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b"{", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": -1' + b"0" * 400 + b".0}", b"[" * 10_000]
)
def test_settings_are_a_json_object(server: Server, body: bytes) -> None:
    assert server.post("/settings", body).status == 400
    assert server.get("/settings").json == {}


def test_settings_have_a_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.server.comfyui.userdata.SETTINGS_LIMIT", 1000)
    assert server.post("/settings/a", "x" * 900).status == 200
    assert server.post("/settings/b", "x" * 900).status == 413
    assert server.post("/settings/a", "x" * (server.settings.body_limit + 1)).status == 413
    assert server.get("/settings").json.keys() == {"a"}


def test_settings_that_were_broken_by_hand_are_reported(server: Server) -> None:
    (server.folders.data / "settings.json").write_text("{")
    assert "settings.json is not JSON" in server.get("/settings").message
    assert server.post("/settings/a", 1).status == 400
    assert (server.folders.data / "settings.json").read_text() == "{"


def test_a_file_is_written_read_moved_and_deleted(server: Server) -> None:
    assert server.post("/userdata/workflows%2Fa b.json", b'{"nodes": []}').json == "workflows/a b.json"
    answer = server.get("/userdata/workflows%2Fa%20b.json")
    assert answer.body == b'{"nodes": []}'
    assert answer.headers["Content-Disposition"].startswith("attachment")
    info = server.post("/userdata/workflows%2Fc.json?full_info=true", b"123").json
    assert (info["path"], info["size"]) == ("workflows/c.json", 3)
    assert info["modified"] > 1_600_000_000_000
    moved = server.post("/userdata/workflows%2Fc.json/move/workflows%2Fsub%2Fd.json").json
    assert moved == "workflows/sub/d.json"
    assert server.get("/userdata/workflows%2Fc.json").status == 404
    assert server.delete("/userdata/workflows%2Fsub%2Fd.json").status == 204
    assert server.delete("/userdata/workflows%2Fsub%2Fd.json").status == 404


def test_a_file_is_replaced_only_if_allowed(server: Server) -> None:
    server.post("/userdata/a.json", b"1")
    server.post("/userdata/b.json", b"2")
    assert server.post("/userdata/a.json?overwrite=false", b"3").status == 409
    assert server.post("/userdata/b.json/move/a.json?overwrite=false").status == 409
    assert server.get("/userdata/a.json").body == b"1"
    assert server.post("/userdata/a.json", b"4").status == 200
    assert server.post("/userdata/b.json/move/a.json").status == 200
    assert server.get("/userdata/a.json").body == b"2"
    assert server.post("/userdata/a.json%2Fb.json", b"5").status == 400
    server.post("/userdata/folder%2Fa.json", b"6")
    assert server.post("/userdata/folder", b"7").status == 400


def test_files_are_listed_in_each_format_of_the_protocol(server: Server) -> None:
    for name in ("workflows%2Fa.json", "workflows%2Fsub%2Fb.json", "workflows%2F.index.json"):
        server.post(f"/userdata/{name}", b"12")

    def ask(**query: str) -> object:
        return server.get("/userdata", dir="workflows", **query).json

    assert ask() == ["a.json"]
    assert ask(recurse="true") == ["a.json", "sub/b.json"]
    assert ask(recurse="true", split="true") == [["a.json", "a.json"], ["sub/b.json", "sub", "b.json"]]
    (first,) = ask(full_info="true")  # type: ignore[misc]
    assert first.keys() == {"path", "size", "modified", "created"}
    assert server.get("/userdata").status == 400
    assert server.get("/userdata", dir="nothing").status == 404
    entries = server.get("/v2/userdata", path="workflows").json
    assert [(entry["path"], entry["type"]) for entry in entries] == [
        ("workflows/sub", "directory"),
        ("workflows/a.json", "file"),
        ("workflows/sub/b.json", "file"),
    ]
    assert server.get("/v2/userdata", path="workflows/a.json").status == 400
    assert server.get("/userdata/workflows%2F.index.json").body == b"12"  # the front end's own, hidden


@pytest.mark.parametrize(
    "name",
    [
        "..%2Fsettings.json",
        "%2e%2e%2fsettings.json",
        "%252e%252e%252fsettings.json",
        "a%2F..%2F..%2Fsettings.json",
        "%2Fetc%2Fpasswd",
        "..%5Csettings.json",
        "C%3A%5Ca.json",
        "a%00.json",
        "%2e",
        "link%2Fsecret.txt",
        "x" * 300,
    ],
)
def test_no_name_leads_out_of_the_users_folder(server: Server, tmp_path: Path, name: str) -> None:
    server.post("/settings/theme", "dark")
    server.post("/userdata/a.json", b"1")
    (tmp_path / "secret.txt").write_text("secret")
    (server.folders.data / "user" / "link").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for answer in (
        server.get(f"/userdata/{name}"),
        server.post(f"/userdata/{name}", b"mine"),
        server.delete(f"/userdata/{name}"),
        server.post(f"/userdata/a.json/move/{name}"),
        server.post(f"/userdata/{name}/move/b.json"),
        server.ask("GET", f"/userdata?dir={name}"),
        server.ask("GET", f"/v2/userdata?path={name}"),
    ):
        assert answer.status in (400, 404, 405)
        assert b"dark" not in answer.body
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "secret.txt").read_text() == "secret"


def test_a_file_has_a_limit(server: Server) -> None:
    assert server.post("/userdata/a.json", bytes(server.settings.body_limit + 1)).status == 413
    assert server.get("/userdata/a.json").status == 404


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.js", "user.css", "a.json", "a.png"])
def test_user_files_are_only_served_as_downloads(server: Server, name: str) -> None:
    server.post(f"/userdata/{name}", b"<script>alert(1)</script>")
    headers = server.get(f"/userdata/{name}").headers
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Type"] in ("application/octet-stream", "application/json", "image/png")


def test_models_are_listed_by_folder(server: Server) -> None:
    for name in ("loras/a.safetensors", "loras/sub/b.gguf", "loras/c.ckpt", "embeddings/neon.safetensors", "mine/a"):
        (server.folders.models / name).parent.mkdir(parents=True, exist_ok=True)
        (server.folders.models / name).touch()
    listed = server.get("/models").json
    assert {"embeddings", "loras", "mine", "checkpoints", "vae"} <= {*listed}
    assert listed == sorted(listed)
    assert server.get("/models/loras").json == ["a.safetensors", "sub/b.gguf"]
    assert server.get("/models/checkpoints").json == []
    assert server.get("/embeddings").json == ["neon"]
    for name in ("nothing", "..%2fdata", "..%5cdata", "%252e%252e", "loras%2fsub"):
        assert server.get(f"/models/{name}").json == []
    assert server.get("/internal/folder_paths").json["mine"] == ["mine"]
    about = {folder["name"]: folder for folder in server.get("/api/experiment/models").json}
    assert about["loras"] == {"name": "loras", "folders": ["loras"], "extensions": [".safetensors", ".gguf"]}
    first, _ = server.get("/experiment/models/loras").json
    assert (first["name"], first["pathIndex"], first["size"]) == ("a.safetensors", 0, 0)
    assert server.get("/experiment/models/..%2fdata").json == []


def test_the_newest_files_of_a_folder_are_listed_for_the_front_end(server: Server) -> None:
    for seconds, name in enumerate(("a.png", "b.png", "sub/c.png", ".hidden.png")):
        path = server.folders.input / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png())
        os.utime(path, (seconds, seconds))
    assert server.get("/internal/files/input").json == ["b.png", "a.png"]
    assert server.get("/internal/files/temp").json == []
    for name in ("models", "data", "..%2fdata"):
        assert server.get(f"/internal/files/{name}").status == 400


def test_the_front_end_gets_what_it_loads_at_first(server: Server) -> None:
    assert server.get("/api/global_subgraphs").json == {}
    assert (server.get("/templates/index.json").json, server.get("/templates/index_logo.json").json) == ([], {})
    css = server.get("/user.css")
    assert (css.status, css.headers["Content-Type"], css.body) == (200, "text/css; charset=utf-8", b"")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    atomic.write(path, b"first", durable=True)

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        atomic.write(path, b"second", durable=True)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_another_client_removes_meanwhile_is_missing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.post("/userdata/a.txt", b"x")
    unlink = Path.unlink

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        unlink(path)  # the other one
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinking)
    answer = server.delete("/userdata/a.txt")
    assert (answer.status, answer.message.startswith("there is no file a.txt any more")) == (404, True)
