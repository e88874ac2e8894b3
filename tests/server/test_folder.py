"""A server runs no Python file that lies in the folder where it was started."""

from __future__ import annotations

from pathlib import Path

from tests.models_sources.conftest import Index, index
from tests.server.live import live, saving

__all__ = ["index"]


def test_workers_and_fetches_import_nothing_from_the_starting_folder(tmp_path: Path, index: Index) -> None:
    index.add("toy-models", "1.0", {"toy/model.safetensors": b"x"})
    for name in ("queue", "nodes", "models", "pip", "numpy", "socket"):
        (tmp_path / f"{name}.py").write_text("open(f'{__file__}.sprung', 'w')\nraise SystemExit(9)\n")
    with live(tmp_path) as server:
        assert server.ended(server.submit(saving("Wait", steps=1)))["state"] == "done"
        source = "pypi:toy-models==1.0/toy/model.safetensors"
        fetch = server.post("/api/kinograph/models/fetch", {"source": source})
        server.until(lambda: server.post("/api/kinograph/models/fetch", {"source": source})["state"] == "here")
        assert fetch["state"] == "fetching"
    assert list(tmp_path.glob("*.sprung")) == []
