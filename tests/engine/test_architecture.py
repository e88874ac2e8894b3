"""Imports go one way, and heavy libraries are imported only by the code that runs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = {
    "engine": (
        *(
            "errors",
            "atomic",
            "filetypes",
            "python",
            "memory",
            "loaded",
            "values",
            "models",
            "changes",
            "spec",
            "figures",
            "node",
            "events",
            "registry",
        ),
        *("packs", "catalogue"),
        *("document", "graph", "store", "run", "work", "server", "client", "cli"),
    ),
    "engine/packs": ("offers", "annotations", "description", "describe", "asking", "kept", "standin", "gathering"),
    "engine/server": ("http", "files", "jobs", "comfyui", "own", "live", "app", "serving"),
    "kinograph": (
        *("handles", "display", "documents", "wanted", "interrupts", "results", "running", "progress", "session"),
        *("calls", "kinds", "graph", "stubs", "__main__"),
    ),
    "nodes": (
        *("inputs", "loading", "weights", "scaling", "diffusion", "upscaling"),
        *("flow", "image", "files", "text", "lora", "video", "dataset"),
    ),
    "nodes/dataset": (
        *("extra", "sources", "presets", "table", "provenance", "scan", "describe", "filter", "save"),
        *("on_ray", "curate", "nodes"),
    ),
}
"""The folders, and modules beside them, of each package: each imports only those before it."""

KNOW_NODES = {"cli", "work"}
"""The parts of the engine that may import `nodes`."""

FOR_NODES = {"node", "values", "errors", "models", "atomic", "filetypes", "python"}
"""What of the engine `nodes` may import; only the gathering of all nodes is done by `packs`."""

FOR_CLIENT = {"client", "errors", "atomic", "events", "figures", "document", "registry", "work"}
"""What of the engine its client may import: it knows a server by what this says, and runs where there is no torch."""

HEAVY = {"torch", "diffusers", "transformers", "av", "PIL", "cv2", "scenedetect", "rapidocr", "onnxruntime", "pyarrow"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """The dotted names that a module imports anywhere, as parts: ("engine", "node", "Node") for a `from` import."""
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path} imports relatively"
            assert statement.module
            yield from ((*statement.module.split("."), alias.name) for alias in statement.names)


def layer(path: Path, package: str) -> str:
    return path.relative_to(ROOT / package).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


INSIDE = [
    (package, path) for package in LAYERS for path in modules(package) if layer(path, package) not in ("__init__",)
]


@pytest.mark.parametrize(("package", "path"), INSIDE, ids=[f"{package}:{name(path)}" for package, path in INSIDE])
def test_a_package_imports_only_what_comes_before(package: str, path: Path) -> None:
    layers, own, inner = LAYERS[package], layer(path, package), tuple(package.split("/"))
    assert own in layers, f"a new folder or module of {package}/ has its place in LAYERS"
    for imported in imports(path):
        if imported[: len(inner)] == inner and (other := imported[len(inner)]) != own:
            assert layers.index(other) < layers.index(own), f"{name(path)} imports {'.'.join(imported)}"


@pytest.mark.parametrize("path", modules("engine"), ids=name)
def test_the_engine_runs_without_the_nodes(path: Path) -> None:
    known = {imported[0] for imported in imports(path)}
    assert "nodes" not in known or layer(path, "engine") in KNOW_NODES, f"{name(path)} imports nodes"


@pytest.mark.parametrize("path", [*modules("engine"), *modules("nodes")], ids=name)
def test_nothing_below_knows_the_package_that_people_import(path: Path) -> None:
    assert "kinograph" not in {imported[0] for imported in imports(path)}, f"{name(path)} imports kinograph"


@pytest.mark.parametrize("path", modules("nodes"), ids=name)
def test_nodes_know_little_of_the_engine(path: Path) -> None:
    allowed = FOR_NODES | ({"packs"} if path == ROOT / "nodes" / "__init__.py" else set())
    for top, *rest in imports(path):
        assert top != "engine" or rest[0] in allowed, f"{name(path)} imports engine.{rest[0]}"


@pytest.mark.parametrize("path", modules("engine/client"), ids=name)
def test_the_client_knows_little_of_the_engine(path: Path) -> None:
    for top, *rest in imports(path):
        assert top != "engine" or rest[0] in FOR_CLIENT, f"{name(path)} imports engine.{rest[0]}"


def test_importing_all_but_what_runs_imports_nothing_heavy() -> None:
    paths = [path for path in (*modules("engine"), *modules("kinograph")) if path.stem != "__main__"]
    engine = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    nodes = ["nodes", *(f"nodes.{path.parent.name}.nodes" for path in (ROOT / "nodes").glob("*/nodes.py"))]
    names = [name.removesuffix(".__init__") for name in engine + nodes]
    code = f"import importlib, json, sys; [*map(importlib.import_module, {names})]; print(json.dumps([*sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(json.loads(answer.stdout))
