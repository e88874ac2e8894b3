"""The steps of the GPU script in small sizes: most on a pretended GPU, the others on the CPU.

On the CPU run those whose work other processes do, and those that would take minutes on the pretended GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import engine, models, text
from benchmarks.gpu.bench import Bench, Step
from tests.fakecuda import fake_cuda

ELSEWHERE = {engine.two_processes, engine.device_assert, engine.marked_tests}
"""Those whose work other processes do, in which nothing is pretended."""
SLOW = {engine.fails_once, models.prompt_to_video, models.equal_to_cpu, models.zips}
"""Those that would take minutes on the pretended GPU; `tests/test_on_cuda.py` tries there what they are made of."""
LONG = {*ELSEWHERE, *SLOW, engine.adapters, engine.cancels, *models.STEPS, text.decodes}


@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated")  # diffusers' own call
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, id=step.__name__, marks=[pytest.mark.full] if step in LONG else [])
        for step in (*engine.STEPS, *models.STEPS, *text.STEPS)
    ],
)
def test_its_claim_holds(step: Step, tmp_path: Path) -> None:
    if step in ELSEWHERE | SLOW:
        step(Bench("cpu", small=True, folder=tmp_path))
        return
    with fake_cuda():
        step(Bench("cuda", small=True, folder=tmp_path))
