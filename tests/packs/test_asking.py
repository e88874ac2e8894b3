"""Whatever a pack does on import happens to a child process, and is reported in one line."""

from __future__ import annotations

import time

import psutil
import pytest

from engine.packs.asking import ask
from tests.packs.site import Site


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import nothing_there", "can't be imported: ModuleNotFoundError: No module named 'nothing_there'"),
        ("raise ValueError('one\\n  two')", "can't be imported: ValueError: one two"),
        ("def broken(:", "can't be imported: SyntaxError"),
        ("raise SystemExit('no')", "can't be imported: SystemExit: no"),
        ("raise KeyboardInterrupt", "can't be imported: KeyboardInterrupt"),
        ("import os\nos._exit(3)", "ends the process on import (status 3)"),
        ("import os\nos.kill(os.getpid(), 11)", "crashes on import (SIGSEGV)"),
        ("from engine.packs import registry\nregistry()", "can't ask for the kinds of node while it is imported"),
    ],
)
def test_a_pack_that_cannot_be_imported_is_told(site: Site, code: str, problem: str) -> None:
    site.toy("bad", "Kind", before=f"{code}\n")
    told = ask(["bad"])
    assert told.kinds == ()
    assert told.problem
    assert problem in told.problem
    assert "\n" not in told.problem


def test_it_is_told_where_it_fails(site: Site) -> None:
    site.toy("bad", "Kind", before="x = 1\nraise ValueError\n")
    assert f"({site.folder / 'bad.py'}, line 2)" in (ask(["bad"]).problem or "")


def test_what_it_prints_is_not_taken_for_its_description(site: Site) -> None:
    site.toy("loud", "Kind", before="import os\nprint('{' * 100_000, flush=True)\nos.write(1, b'{}')\n")
    told = ask(["loud"])
    assert told.problem is None
    assert [kind.kind for kind in told.kinds] == ["Kind"]


def test_it_cannot_read_what_is_typed(site: Site) -> None:
    site.toy("asking", "Kind", before="import sys\nassert sys.stdin.read() == ''\n")
    assert ask(["asking"]).problem is None


def test_a_pack_that_hangs_is_ended_with_all_that_it_has_started(site: Site) -> None:
    sleeping = "[sys.executable, '-c', 'import time; time.sleep(77)', __file__]"
    site.toy("slow", "Kind", before=f"import subprocess, sys, time\nsubprocess.Popen({sleeping})\ntime.sleep(77)\n")
    start = time.monotonic()
    assert ask(["slow"], seconds=1).problem == "takes longer than 1 seconds to import"
    assert time.monotonic() - start < 20

    def alive() -> list[psutil.Process]:
        started = [each for each in psutil.process_iter() if str(site.folder) in str(each.as_dict(["cmdline"]))]
        return [each for each in started if each.status() != psutil.STATUS_ZOMBIE]

    while alive():
        assert time.monotonic() - start < 20
        time.sleep(0.05)


def test_a_pack_that_leaves_a_thread_running_is_described_all_the_same(site: Site) -> None:
    code = "import threading, time\nthreading.Thread(target=lambda: time.sleep(77)).start()\n"
    site.toy("busy", "Kind", before=code)
    assert ask(["busy"], seconds=30).problem is None


def test_a_description_has_its_limit(site: Site) -> None:
    site.toy("large", "Kind", before="from engine.node import Node\n")
    assert ask(["large"], most=100).problem == "has a description of more than 100 bytes"


def test_a_default_that_json_has_no_words_for_is_told(site: Site) -> None:
    code = """
from pathlib import Path
from engine.node import Context, Node


class Odd(Node, version=1):
    where: Path = Path("here")

    def run(self, ctx: Context) -> str:
        return str(self.where)
"""
    site.add("odd", {"odd.py": code})
    assert "the default of Odd's input 'where' is not a JSON value" in (ask(["odd"]).problem or "")
