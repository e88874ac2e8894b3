"""A folder of packages on the path, for this process and those that it starts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packs.site import EXAMPLE, Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("KINOGRAPH_HOME", str(tmp_path / "home"))
    site = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(site.folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site.folder), *filter(None, sys.path)]))
    yield site
    site.forget()


@pytest.fixture
def example(site: Site) -> Site:
    """With the example pack, version 1.2."""
    shutil.copytree(EXAMPLE / "example_pack", site.folder / "example_pack")
    site.register("example-pack", "1.2", ("example_pack.nodes",))
    return site
