from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from tests.upscaling.files import esrgan, saved


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where converted weights are kept."""
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def state() -> dict[str, Tensor]:
    """ESRGAN's tensors, for four times as large pictures."""
    return esrgan()


@pytest.fixture(scope="session")
def file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(state, tmp_path_factory.mktemp("esrgan") / "x4.safetensors")
