"""Models of the hub, from a server on this machine that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import constants, snapshot_download

from engine.errors import MissingError
from engine.models import find, identity, resolve
from engine.models.listing import local_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIPELINE = {
    "model_index.json": b"{}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": bytes(100_000),
    "unet/diffusion_pytorch_model.fp16.safetensors": bytes(50_000),
    "unet/diffusion_pytorch_model.bin": bytes(100_000),
    "tokenizer/merges.txt": b"a b",
    "whole.safetensors": bytes(200_000),
    "preview.png": b"png",
}
HALF_ONLY = {
    "model_index.json": b"{}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors": bytes(1000),
    "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors": bytes(1000),
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json": b"{}",
    "vae/diffusion_pytorch_model.safetensors": bytes(1000),
    "vae/diffusion_pytorch_model.fp16.safetensors": bytes(1000),
}
TEXT_MODEL = {"config.json": b"{}", "model.safetensors": bytes(1000), "pytorch_model.bin": b"", "q4.gguf": b"GGUF"}


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.repositories = {"owner/pipeline": PIPELINE, "owner/text": TEXT_MODEL, "owner/half": HALF_ONLY}
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path).partition("?")[0].strip("/")
        self.server.requests.append(path)
        parts = path.removeprefix("api/models/").split("/")
        files = self.server.repositories.get("/".join(parts[:2]))
        if files is None:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif parts[2] == "revision":
            known = parts[3] in ("main", COMMIT)
            info = {"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            self.answer(
                *((200, json.dumps(info).encode()) if known else (404, b"")), {"X-Error-Code": "RevisionNotFound"}
            )
        elif parts[2] == "tree":
            rows = [{"type": "file", "path": n, "size": len(d), "oid": oid(d)} for n, d in files.items()]
            self.answer(200, json.dumps(rows).encode(), {})
        else:
            data = files["/".join(parts[4:])]
            self.answer(200, data, {"ETag": f'"{oid(data)}"', "X-Repo-Commit": COMMIT})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            if status != 200 or name != "X-Error-Code":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub(offline: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        use(server.url, monkeypatch)
        yield server
        server.shutdown()
        thread.join()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_pipelines_settings_and_the_weights_in_its_folders_are_fetched(hub: Hub) -> None:
    assert find("hf:owner/pipeline") is None

    folder = resolve("hf:owner/pipeline")

    assert names(folder) == {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }
    assert find("hf:owner/pipeline") == folder


def test_of_folders_that_have_only_weights_in_half_precision_these_are_fetched(hub: Hub) -> None:
    folder = resolve("hf:owner/half")
    assert names(folder) == HALF_ONLY.keys() - {"vae/diffusion_pytorch_model.fp16.safetensors"}
    assert find("hf:owner/half") == folder

    (folder / "unet" / "diffusion_pytorch_model.fp16-00002-of-00002.safetensors").unlink()
    assert find("hf:owner/half") is None


def test_another_models_weights_beside_its_settings_are_fetched(hub: Hub) -> None:
    assert names(resolve("hf:owner/text")) == {"config.json", "model.safetensors"}


def test_one_path_of_a_repository_is_a_source_too(hub: Hub) -> None:
    path = resolve("hf:owner/text/q4.gguf@main")
    assert path.read_bytes() == b"GGUF"
    assert not any("model.safetensors" in request for request in hub.requests)
    assert identity("hf:owner/text/q4.gguf@main") == f"hf:owner/text/q4.gguf@{COMMIT}"


def test_a_fetched_model_is_used_without_another_request(hub: Hub) -> None:
    resolve("hf:owner/pipeline")
    asked = len(hub.requests)
    resolve("hf:owner/pipeline")
    assert len(hub.requests) == asked


def test_the_identity_is_the_commit_that_a_revision_stands_for(hub: Hub) -> None:
    with pytest.raises(MissingError, match="is not on this machine yet"):
        identity("hf:owner/pipeline")
    resolve("hf:owner/pipeline")
    assert identity("hf:owner/pipeline") == identity("hf:owner/pipeline@main") == f"hf:owner/pipeline@{COMMIT}"


def test_the_identity_says_where_only_weights_in_half_precision_are_there(hub: Hub) -> None:
    folder = resolve("hf:owner/half")
    assert identity("hf:owner/half") == f"hf:owner/half@{COMMIT}+unet:fp16"
    assert identity("hf:owner/half/unet") == f"hf:owner/half/unet@{COMMIT}+.:fp16"

    (folder / "whole.fp16.safetensors").touch()  # isn't read
    (folder / "unet/diffusion_pytorch_model.safetensors").touch()  # is read instead, once it is there
    assert identity("hf:owner/half") == f"hf:owner/half@{COMMIT}"
    assert identity("hf:owner/half/unet") == f"hf:owner/half/unet@{COMMIT}"


def test_fetched_models_are_listed(hub: Hub) -> None:
    folder = resolve("hf:owner/text")
    assert local_models()["hf:owner/text@main"] == folder


def test_progress_counts_bytes(hub: Hub) -> None:
    reports: list[tuple[int, int]] = []
    resolve("hf:owner/pipeline", progress=lambda done, total: reports.append((done, total)))
    assert max(reports)[0] >= 100_000


def test_an_interrupted_download_is_completed(hub: Hub) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve("hf:owner/pipeline", progress=interrupt)
    assert find("hf:owner/pipeline") is None

    assert (resolve("hf:owner/pipeline") / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size == 100_000


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("hf:owner/nothing", "no public model 'owner/nothing'", "HF_TOKEN"),
        ("hf:owner/pipeline@v9", "has no revision 'v9'", ""),
        ("hf:owner/text/q8.gguf", "holds no 'q8.gguf'", ""),
    ],
)
def test_a_model_that_the_hub_lacks_is_named(hub: Hub, source: str, message: str, hint: str) -> None:
    with pytest.raises(MissingError, match=message) as error:
        resolve(source)
    assert hint in str(error.value.hint or "")


def test_offline_a_model_that_was_not_fetched_is_missing_and_the_setting_named(offline: None) -> None:
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE forbids fetching it") as error:
        resolve("hf:owner/pipeline")
    assert "local folder" in str(error.value.hint)


def test_offline_a_fetched_model_is_found(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve("hf:owner/pipeline")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve("hf:owner/pipeline") == folder


def test_an_unreachable_hub_is_one_plain_message(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(MissingError, match="can't be downloaded") as error:
        resolve("hf:owner/pipeline")
    assert "\n" not in error.value.message


def test_so_it_is_when_the_settings_are_there_already(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot_download("owner/pipeline", allow_patterns=["*.json", "*.txt"])
    use("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(MissingError, match="can't be downloaded") as error:
        resolve("hf:owner/pipeline")
    assert "\n" not in error.value.message
