"""`kinograph cache`, and the budgets of a run."""

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
    shown = json.loads(kinograph("cache", "--json").stdout)
    assert shown["results"] == len(stored()) > 0
    assert shown["bytes"] == sum(path.stat().st_size for path in stored())
    assert shown["folder"] == str(Path("home/cache").absolute())
    assert shown["budget"] > shown["bytes"]


def test_after_clearing_it_is_empty_and_everything_is_computed_again(kinograph: Command, snail: str) -> None:
    kinograph("run", snail)
    count = len(stored())
    assert kinograph("cache", "--clear").stdout.startswith(f"removed {count} results")
    assert not stored()
    assert "2 nodes ran" in kinograph("run", snail).stderr


def test_trimming_keeps_what_fits(kinograph: Command, snail: str) -> None:
    for text in ("snail", "boat", "house"):
        kinograph("run", snail, "--set", f"theme={text}")
    count, size = len(stored()), stored()[0].stat().st_size
    shown = json.loads(kinograph("cache", "--trim", f"{2 * size + 10}B", "--json").stdout)
    assert shown["bytes"] <= 2 * size + 10
    assert shown["removed"] == count - len(stored()) > 0
    assert json.loads(kinograph("cache", "--trim", "1TB", "--json").stdout)["removed"] == 0


def test_a_run_keeps_no_more_than_its_budgets_allow(kinograph: Command, snail: str) -> None:
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
def test_invalid_options_are_refused(kinograph: Command, args: tuple[str, ...], message: str) -> None:
    result = kinograph("cache", *args)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


def test_a_run_refuses_invalid_sizes(kinograph: Command, snail: str) -> None:
    result = kinograph("run", snail, "--cache-host", "lots")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --cache-host lots: not a size (write it like 20GB, 500MB or 2GiB)\n",
    )
