"""Curation uses the device only to describe clips, and decodes nothing again because it is another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.node import Context
from engine.spec import Outputs
from nodes.dataset.describe.describer import Describer
from nodes.dataset.nodes import LVDCurate
from nodes.dataset.scan import processes as scanning
from tests.dataset.films import sprites, write


class Watching:
    """A context that knows whether the node has lent the device."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lent, self.lends = False, 0
        self.kept: dict[tuple[str, bool], Outputs] = {}
        self.scans, self.descriptions = list[bool](), list[bool]()
        parts, describe = scanning.parts, Describer.__call__

        def scan(*args: Any, **how: Any) -> Any:
            self.scans.append(self.lent)
            return parts(*args, **how)

        def described(describer: Describer, clips: Any) -> Any:
            self.descriptions.append(self.lent)
            return describe(describer, clips)

        monkeypatch.setattr(scanning, "parts", scan)
        monkeypatch.setattr(Describer, "__call__", described)

    @contextmanager
    def lend(self) -> Iterator[None]:
        assert not self.lent, "what is lent can't be lent again"
        self.lent, self.lends = True, self.lends + 1
        yield
        self.lent = False

    def keep(self, name: str, outputs: Outputs, seconds: float, *, anywhere: bool = False) -> None:
        self.kept[name, anywhere] = outputs

    def recall(self, name: str, *, anywhere: bool = False) -> Outputs | None:
        return self.kept.get((name, anywhere))

    def curate(self, videos: Path, **inputs: Any) -> None:
        node = LVDCurate(videos=str(videos), find_text=False, **inputs)
        node.run(Context(keep=self.keep, recall=self.recall, lend_device=self.lend))

    def elsewhere(self) -> None:
        """From now on, the device and the libraries are others."""
        self.kept = {(name, anywhere): outputs for (name, anywhere), outputs in self.kept.items() if anywhere}


@pytest.mark.parametrize("models", [{}, {"clip": "sprite/clip"}], ids=["without models", "with models"])
def test_the_device_is_free_for_others_except_while_models_describe_clips(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (1, 2):
        write(tmp_path / f"{seed}.mp4", sprites(seed))
    watching = Watching(monkeypatch)
    watching.curate(tmp_path, **models)
    assert watching.scans == [True, True]
    assert watching.descriptions == [not models] * 2


def test_on_another_device_clips_are_described_again_but_no_video_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write(tmp_path / "a.mp4", sprites(1))
    watching = Watching(monkeypatch)
    watching.curate(video, clip="sprite/clip")
    watching.curate(video, clip="sprite/clip")
    assert (len(watching.scans), len(watching.descriptions)) == (1, 1)
    watching.elsewhere()
    watching.curate(video, clip="sprite/clip")
    assert (len(watching.scans), len(watching.descriptions)) == (1, 2)
    watching.curate(video)
    watching.elsewhere()
    watching.curate(video)
    assert (len(watching.scans), len(watching.descriptions)) == (1, 3), "without models, nothing depends on the device"


def test_where_no_scan_is_waited_for_the_device_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write(tmp_path / "a.mp4", sprites(1))
    watching = Watching(monkeypatch)
    watching.curate(video, clip="sprite/clip")
    assert watching.lends == 1
    watching.curate(video, clip="sprite/clip")
    watching.elsewhere()
    watching.curate(video, clip="sprite/clip")
    assert (watching.lends, len(watching.descriptions)) == (1, 2)
