"""What becomes of the steps of the GPU script, and its reports."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu.report import as_json, as_markdown
from benchmarks.gpu.running import Outcome, Terms, run_part


def ran(module: str, folder: Path, *, seconds: float = 60.0, limit: float = 30.0) -> dict[str, Outcome]:
    told: list[Outcome] = []
    terms = Terms("cpu", folder, small=True, until=time.monotonic() + seconds, limit=limit, tell=told.append)
    outcomes = asyncio.run(run_part(f"tests.gpu.{module}", terms))
    assert outcomes == told
    return {outcome.step: outcome for outcome in outcomes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, Outcome]:
    return ran("toy_steps", folder)


def ends(folder: Path) -> bool:
    """Whether the process that a step has left behind ends, long before it would by itself."""
    number = int((folder / "child").read_text())
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_what_fails_raises_or_dies_costs_only_itself(outcomes: dict[str, Outcome]) -> None:
    assert {step: outcome.problem for step, outcome in outcomes.items()} == {
        "holds": "",
        "fails": "two is more than one",
        "raises": outcomes["raises"].problem,
        "dies": "its process ended with 7",
        "after": "",
    }
    assert outcomes["raises"].problem.startswith("FileNotFoundError: ")
    assert "read_text" in outcomes["raises"].trace


def test_what_a_step_leaves_behind_ends_with_its_process(outcomes: dict[str, Outcome], folder: Path) -> None:
    assert outcomes["dies"].problem
    assert ends(folder)


def test_a_step_has_its_claim_and_figures(outcomes: dict[str, Outcome]) -> None:
    held = outcomes["holds"]
    assert (held.part, held.claim) == ("toy_steps", "One is less than two.")
    assert held.figures == {"one": 1, "device": "cpu", "small": "True"}


@pytest.mark.full
def test_a_step_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    found = ran("toy_hanging", tmp_path, limit=6.0)
    assert [outcome.problem for outcome in found.values()] == ["it took too long, and was stopped", ""]
    assert ends(tmp_path), "what it has started goes on"


def test_when_the_time_is_over_the_rest_is_reported_as_not_tried(tmp_path: Path) -> None:
    found = ran("toy_steps", tmp_path, seconds=0.0)
    assert {outcome.problem for outcome in found.values()} == {"not tried: the time was over"}


def test_the_reports_say_what_holds_and_what_was_measured(outcomes: dict[str, Outcome]) -> None:
    about = {"date": "2026-01-31", "gpu": "Big | GPU"}
    shown = as_markdown(about, list(outcomes.values()))
    assert shown.startswith("# Seen on a GPU\n")
    assert "2 of 5 claims hold." in shown
    assert "| One is less than two. | yes | one 1; device cpu; small True |" in shown
    assert "| Two is less than one. | **no**: two is more than one |  |" in shown
    data = json.loads(as_json(about, outcomes.values()))
    assert data["machine"] == about
    assert [step["step"] for step in data["steps"]] == list(outcomes)


def test_without_a_gpu_nothing_is_claimed_of_one() -> None:
    assert as_markdown({"date": "2026-01-31"}, []).startswith("# Tried without a GPU\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda:99"], "torch finds no cuda:99 on this machine"),
        (["engine", "nonsense"], "there is no part nonsense: choose from engine, models"),
    ],
)
def test_what_is_not_there_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments, "--out", str(tmp_path / "report")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == 2
    assert message in ended.stderr
    assert not list(tmp_path.iterdir())
