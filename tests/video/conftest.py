from __future__ import annotations

from pathlib import Path

import pytest

from engine.node import Context
from engine.values import VideoModel
from nodes.video.nodes import VideoModelLoad
from tests.tiny import tiny_svd


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny video pipeline on disk."""
    path = tmp_path_factory.mktemp("svd")
    tiny_svd().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def model(folder: Path) -> VideoModel:
    return VideoModelLoad(source=str(folder)).run(Context())


@pytest.fixture(scope="session")
def ctx() -> Context:
    """One context for the session, so that the model is loaded once."""
    return Context()
