"""`kinograph cache`, and how much a run may keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def stored() -> list[Path]:
    return sorted(Path("home/cache").glob("*.safetensors"))


def test_it_shows_what_is_kept(kinograph: Command, snail: str) -> None:
    assert kinograph("cache").stdout.startswith("0 results, 0 B of at most ")
    kinograph("run", snail)
    told = json.loads(kinograph("cache", "--json").stdout)
    assert told["results"] == len(stored()) > 0
    assert told["bytes"] == sum(path.stat().st_size for path in stored())
    assert told["folder"] == str(Path("home/cache").absolute())
    assert told["budget"] > told["bytes"]


def test_cleared_it_holds_nothing_and_all_is_computed_anew(kinograph: Command, snail: str) -> None:
    kinograph("run", snail)
    count = len(stored())
    assert kinograph("cache", "--clear").stdout.startswith(f"removed {count} results")
    assert not stored()
    assert "2 nodes ran" in kinograph("run", snail).stderr


def test_trimmed_it_keeps_what_fits(kinograph: Command, snail: str) -> None:
    for text in ("snail", "boat", "house"):
        kinograph("run", snail, "--set", f"theme={text}")
    count, size = len(stored()), stored()[0].stat().st_size
    told = json.loads(kinograph("cache", "--trim", f"{2 * size + 10}B", "--json").stdout)
    assert told["bytes"] <= 2 * size + 10
    assert told["removed"] == count - len(stored()) > 0
    assert json.loads(kinograph("cache", "--trim", "1TB", "--json").stdout)["removed"] == 0


def test_a_run_keeps_no_more_than_it_may(kinograph: Command, snail: str) -> None:
    kinograph("run", snail, "--cache-disk", "10B")
    assert not stored()
    kinograph("run", snail, "--cache-disk", "1MB", "--cache-host", "1MB")
    assert stored()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--trim", "much"), "--trim much: not a size (write it like 20GB, 500MB or 2GiB)"),
        (("--trim", "-1"), "--trim -1: not a size (write it like 20GB, 500MB or 2GiB)"),
        (("--trim", "1GB", "--clear"), "--trim and --clear exclude each other"),
    ],
)
def test_what_makes_no_sense_is_refused(kinograph: Command, args: tuple[str, ...], message: str) -> None:
    result = kinograph("cache", *args)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


def test_a_run_refuses_sizes_that_are_none(kinograph: Command, snail: str) -> None:
    result = kinograph("run", snail, "--cache-host", "lots")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --cache-host lots: not a size (write it like 20GB, 500MB or 2GiB)\n",
    )
