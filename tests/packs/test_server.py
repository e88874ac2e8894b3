"""Packs at the server: listed and checked without being imported, run by the worker."""

from __future__ import annotations

import os
from pathlib import Path

from engine.server.comfyui import object_info
from engine.server.http.settings import ServerSettings
from engine.server.own import packs
from nodes import registry
from tests.packs.site import Site
from tests.packs.test_commands import COLOURS, NOT_HERE
from tests.server.conftest import Server, folders, settings
from tests.server.live import live

__all__ = ["folders", "settings"]


def test_the_server_lists_packs_and_marks_their_kinds(example: Site, settings: ServerSettings) -> None:
    example.toy("bad", "Bad", before="import nothing_there\n")
    server = Server(settings, [object_info.routes, packs.routes])
    try:
        nodes, info = server.get("/api/kinograph/nodes").json, server.get("/object_info").json
        told = {pack["name"]: pack for pack in server.get("/api/kinograph/packs").json["packs"]}
    finally:
        server.close()
    assert nodes["FindColours"]["pack"] == "example-pack"
    assert nodes["Switch"]["pack"] is None
    assert info["FindColours"]["output"] == ["PALETTE"]
    assert info["FindColours"]["python_module"] == "example_pack.nodes"
    kinds = ["FindColours", "NameColours"]
    assert told["example-pack"] == {"name": "example-pack", "version": "1.2", "kinds": kinds, "problem": None}
    assert told["bad"]["kinds"] == []
    assert "No module named 'nothing_there'" in told["bad"]["problem"]


def test_a_job_runs_a_packs_nodes_and_one_whose_pack_fails_harms_no_other(example: Site, tmp_path: Path) -> None:
    example.toy("toy", "Toy", before=NOT_HERE)
    example.toy("crashing", "Crash", before="import os\nos.kill(os.getpid(), 11)\n")
    registry()
    failing = {"1": {"class_type": "Toy"}, "2": {"class_type": "SaveText", "inputs": {"text": ["1", 0]}}}
    with live(tmp_path / "server", env={"PYTHONPATH": os.environ["PYTHONPATH"]}) as server:
        failed, done = server.ended(server.submit(failing)), server.ended(server.submit(COLOURS))
        assert failed["state"] == "failed"
        assert "the pack toy 1.0 can't be imported: ModuleNotFoundError" in failed["problem"]["message"]
        assert done["state"] == "done"
        assert "warning: the pack crashing 1.0 crashes on import (SIGSEGV)" in server.log
