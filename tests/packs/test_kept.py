"""A pack is described once, and anew when it, or what it depends on, has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.packs import kept
from engine.packs.description import Description
from engine.packs.kept import description_of
from engine.packs.offers import offers
from engine.registry import Offer
from tests.packs.site import Site


class Asked:
    """Counts how often a description is asked for."""

    def __init__(self, problem: str | None = None) -> None:
        self.count = 0
        self.problem = problem

    def __call__(self, modules: Sequence[str]) -> Description:
        self.count += 1
        return Description(problem=self.problem)


def offer() -> Offer:
    (found,) = (each for each in offers() if each.pack.name == "toy")
    return found


def test_it_is_described_once(site: Site) -> None:
    site.toy("toy", "Kind")
    asked = Asked()
    assert description_of(offer(), asked) == description_of(offer(), asked)
    assert asked.count == 1


def test_another_version_is_described_anew(site: Site) -> None:
    asked = Asked()
    for version in ("1.0", "1.1", "1.1"):
        site.toy("toy", "Kind", version=version)
        description_of(offer(), asked)
    assert asked.count == 2


def test_another_version_of_kinograph_describes_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.toy("toy", "Kind")
    asked = Asked()
    description_of(offer(), asked)
    monkeypatch.setattr(kept, "made_with", lambda: "another")
    description_of(offer(), asked)
    assert asked.count == 2


@pytest.mark.parametrize(("is_editable", "count"), [(True, 2), (False, 1)])
def test_the_sources_of_an_editable_install_count(site: Site, is_editable: bool, count: int) -> None:
    asked = Asked()
    site.toy("toy", "Kind", is_editable=is_editable)
    description_of(offer(), asked)
    os.utime(site.folder / "toy.py", ns=(10**18, 10**18))
    description_of(offer(), asked)
    assert asked.count == count


def test_the_sources_of_a_package_are_found_without_importing_it(site: Site) -> None:
    code = {"deep/__init__.py": "raise ValueError", "deep/inner/__init__.py": "", "deep/inner/nodes.py": ""}
    site.add("toy", code, modules=("deep.inner.nodes",), is_editable=True)
    before = offer().pack.state
    (site.folder / "deep" / "inner" / "other.py").write_text("x = 1")
    assert offer().pack.state != before


def test_a_failure_is_believed_for_a_while(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.toy("toy", "Kind")
    asked, now = Asked("fails"), 1e9
    monkeypatch.setattr("time.time", lambda: now)
    assert description_of(offer(), asked).problem == description_of(offer(), asked).problem == "fails"
    assert asked.count == 1
    now += kept.FORGET_SECONDS + 1
    description_of(offer(), asked)
    assert asked.count == 2


def test_a_failure_is_looked_into_again_when_something_was_installed(site: Site) -> None:
    site.toy("toy", "Kind")
    asked = Asked("fails")
    description_of(offer(), asked)
    os.utime(site.folder, ns=(10**18, 10**18))
    description_of(offer(), asked)
    assert asked.count == 2


@pytest.mark.parametrize("text", ["", "junk", "[]", '{"of": 1}'])
def test_a_damaged_file_is_made_anew(site: Site, tmp_path: Path, text: str) -> None:
    site.toy("toy", "Kind")
    asked = Asked()
    description_of(offer(), asked)
    (file,) = (tmp_path / "home" / "packs").iterdir()
    file.write_text(text)
    description_of(offer(), asked)
    description_of(offer(), asked)
    assert asked.count == 2


def test_a_home_that_cannot_be_written_to_costs_time_only(site: Site, tmp_path: Path) -> None:
    site.toy("toy", "Kind")
    (tmp_path / "home").write_text("in the way")
    asked = Asked()
    assert description_of(offer(), asked) == description_of(offer(), asked)
    assert asked.count == 2
