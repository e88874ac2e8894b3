"""What is asked of Ray, and made of what it gives; no cluster is started here."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from engine.values import Table
from nodes.dataset import on_ray
from nodes.dataset.scan.scanner import Part


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a cluster is asked for; in its place, None for its end."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    asked = list[Any]()
    ray = SimpleNamespace(init=lambda **options: asked.append(options), shutdown=lambda: asked.append(None))
    monkeypatch.setitem(sys.modules, "ray", ray)
    return asked


def test_a_cluster_of_its_own_has_a_core_more_than_scans_need_and_ends_with_the_run(asked: list[Any]) -> None:
    on_ray._set_environment()
    with pytest.raises(ZeroDivisionError), on_ray._cluster(3):
        raise ZeroDivisionError
    first, end = asked
    assert (first["num_cpus"], first["include_dashboard"]) == (4, False)
    assert end is None
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_cluster_that_is_there_is_used_as_it_is(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    on_ray._set_environment()
    with on_ray._cluster(3):
        pass
    assert not {"num_cpus", "include_dashboard"} & asked[0].keys()
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & os.environ.keys(), "it has a token of its own, or none"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_videos_whose_rows_are_missing_were_lost_with_their_workers() -> None:
    scanned, described = ([Part(0, {"video": name}, Table(b"", 0), True)] for name in ("seen", "told"))

    def row(number: int, problem: str = "") -> dict[str, Any]:
        parts = {"scanned": on_ray._bytes(scanned), "described": on_ray._bytes(described)}
        return {"number": number, "problem": problem, **parts}

    def names(found: list[Part] | str) -> list[str] | str:
        return found if isinstance(found, str) else [part.video["video"] for part in found]

    def told(rows: list[dict[str, Any]], count: int) -> list[tuple[Any, Any]]:
        return [(names(scanned), names(described)) for scanned, described in on_ray._outcomes(rows, count)]

    lost, done, failed = ([], "its worker ended each of 3 times"), (["seen"], ["told"]), (["seen"], "can't be read")
    rows = [row(1), row(2, "can't be read"), row(5)]
    assert told(rows, 7) == [lost, done, failed, lost, lost, done, lost]
    assert told([], 2) == [lost, lost]
