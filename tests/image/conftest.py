from __future__ import annotations

from pathlib import Path

import pytest

from engine.node import Context
from engine.values import ImageModel
from nodes.image.nodes import ImageModelLoad
from tests.tiny import tiny_sdxl


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny image pipeline on disk."""
    path = tmp_path_factory.mktemp("sdxl")
    tiny_sdxl().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def model(folder: Path) -> ImageModel:
    return ImageModelLoad(source=str(folder)).run(Context())


@pytest.fixture(scope="session")
def ctx() -> Context:
    """One context for the session, so that the model is loaded once."""
    return Context()
