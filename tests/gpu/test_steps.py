"""The steps of the GPU script: small, and on a pretended GPU where they stay within this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import engine, models
from benchmarks.gpu.bench import Bench, Step
from tests.fakecuda import fake_cuda

ELSEWHERE = (engine.two_processes, engine.device_assert, engine.marked_tests)
"""Those whose work other processes do, in which nothing is pretended."""
LONG = {*ELSEWHERE, engine.fails_once, engine.adapters, engine.cancels, *models.STEPS}


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated")  # diffusers' own call
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, id=step.__name__, marks=[pytest.mark.full] if step in LONG else [])
        for step in (*engine.STEPS, *models.STEPS)
    ],
)
def test_its_claim_holds(step: Step, tmp_path: Path) -> None:
    if step in ELSEWHERE:
        step(Bench("cpu", small=True, folder=tmp_path))
        return
    with fake_cuda():
        step(Bench("cuda", small=True, folder=tmp_path))
