"""Packs in the registry: found by entry points, kept out if they can't be used, imported if a workflow needs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import KinographError, UsageError, WorkflowError
from engine.graph.check import check
from engine.graph.keys import node_keys
from engine.node import Context, Node
from engine.packs import offers
from nodes import registry
from tests.packs.site import KIND, Site

NOT_HERE = """import os
if "KINOGRAPH_DESCRIBING" not in os.environ:
    raise ValueError("not here")
"""


def test_a_packs_kinds_are_there_and_know_their_pack(example: Site) -> None:
    kinds = registry()
    assert str(kinds["FindColours"].spec.pack) == "example-pack 1.2"
    assert kinds["NumberRange"].spec.pack is None
    (offer,) = kinds.packs
    assert (offer.kinds, offer.problem) == (("FindColours", "NameColours"), None)


def test_describing_and_checking_import_none_of_a_packs_code(example: Site) -> None:
    graph = {
        "empty": {"class_type": "EmptyImage"},
        "find": {"class_type": "FindColours", "inputs": {"images": ["empty", 0]}},
        "name": {"class_type": "NameColours", "inputs": {"palette": ["find", 0]}},
    }
    check(prepare(Workflow.read(graph), registry()), targets=["name"])
    assert not any(name.startswith("example_pack") for name in sys.modules)


def test_only_the_packs_of_a_workflow_are_imported(site: Site) -> None:
    site.toy("first", "First")
    site.toy("second", "Second", before=NOT_HERE)
    kinds = registry()
    found = kinds.imported(["First", "NumberRange", "Unknown"])
    assert found["First"](text="a").run(Context()) == "a"
    assert found["Second"] is kinds["Second"]
    assert found["First"].spec.pack == kinds["First"].spec.pack
    assert found.imported(["First"]) is found
    assert kinds.imported(["NumberRange"]) is kinds
    with pytest.raises(KinographError, match=r"the pack second 1\.0 can't be imported: ValueError: not here"):
        found.imported(["Second"])


def test_a_pack_that_was_replaced_meanwhile_is_not_imported(site: Site) -> None:
    """Its results would be cached under the version that was described."""
    site.toy("toy", "Kind")
    kinds = registry()
    site.toy("toy", "Kind", version="1.1")
    with pytest.raises(KinographError, match=r"the pack toy 1\.0 has been replaced by version 1\.1"):
        kinds.imported(["Kind"])


def test_what_a_pack_prints_when_it_is_imported_goes_to_standard_error(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.toy("loud", "Loud", before="print('hello')\n")
    registry().imported(["Loud"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_one_bad_pack_harms_no_other(site: Site) -> None:
    site.toy("bad", "Bad", before="import nothing_there\n")
    site.toy("empty")
    site.register("worse", "1.0", ("not a module",))
    site.toy("good", "Good")
    kinds = registry()
    assert "Good" in kinds
    assert "NumberRange" in kinds
    problems = {offer.pack.name: offer.problem for offer in kinds.packs}
    assert problems["good"] is None
    assert "No module named 'nothing_there'" in (problems["bad"] or "")
    assert problems["empty"] == "defines no kinds of node in its modules"
    assert "has 'not a module' under kinograph.nodes" in (problems["worse"] or "")


def test_metadata_that_makes_no_sense_is_told(site: Site) -> None:
    site.toy("odd", "Odd")
    (site.folder / "odd-1.0.dist-info" / "entry_points.txt").write_text("[kinograph.nodes]\nwithout an equals sign\n")
    (offer,) = registry().packs
    assert "unreadable metadata" in (offer.problem or "")


def test_a_name_that_two_packs_have_refuses_the_second(site: Site) -> None:
    site.toy("a-pack", "Blur")
    site.toy("b-pack", "Blur", "Sharpen")
    kinds = registry()
    assert kinds["Blur"].spec.pack
    assert kinds["Blur"].spec.pack.name == "a-pack"
    assert "Sharpen" not in kinds
    assert kinds.packs[1].problem == "defines Blur, which the pack a-pack 1.0 defines already"


def test_a_name_that_kinograph_has_refuses_the_pack(site: Site) -> None:
    site.toy("a-pack", "Switch")
    kinds = registry()
    assert kinds["Switch"].__module__ == "nodes.flow.nodes"
    assert kinds.packs[0].problem == "defines Switch, which Kinograph defines already"


@pytest.mark.parametrize(("kind", "other"), [("Blur", r"the pack a-pack 1\.0"), ("Switch", "Kinograph")])
def test_a_file_with_a_name_that_is_taken_is_an_error_that_names_both(
    site: Site, tmp_path: Path, kind: str, other: str
) -> None:
    site.toy("a-pack", "Blur")
    file = tmp_path / "mine.py"
    file.write_text(KIND.format(kind=kind))
    with pytest.raises(UsageError, match=rf"two kinds of node are called {kind}: of {other} and of '.*mine\.py'"):
        registry([file])


def test_an_unknown_kind_is_told_which_pack_should_have_it(site: Site) -> None:
    site.toy("a-pack", "Blur")
    site.toy("b-pack", "Blur", "Sharpen")
    site.toy("bad", "Bad", before="import nothing_there\n")
    kinds = registry()

    def hint(kind: str) -> str:
        with pytest.raises(WorkflowError) as caught:
            check(prepare(Workflow.read({"1": {"class_type": kind}}), kinds), targets=["1"])
        return str(caught.value.hint)

    assert hint("Sharpen").endswith(
        "the pack b-pack 1.0 has it, but defines Blur, which the pack a-pack 1.0 defines already"
    )
    assert "the pack bad 1.0 can't be imported: ModuleNotFoundError" in hint("Bad")


def test_a_packs_name_and_version_enter_the_keys(site: Site) -> None:
    def key(version: str, name: str = "toy", **how: bool) -> str:
        site.toy(name, "Kind", version=version, **how)
        graph = {"1": {"class_type": "Kind"}}
        return node_keys(check(prepare(Workflow.read(graph), registry()), targets=["1"]), "cpu")["1"]

    assert key("1.0") == key("1.0") != key("1.1")
    before = key("1.1", is_editable=True)
    (site.folder / "toy.py").write_text(KIND.format(kind="Kind").replace("self.text", "self.text * 2"))
    site.register("toy", "1.1", ("toy",), is_editable=True)
    graph = {"1": {"class_type": "Kind"}}
    assert node_keys(check(prepare(Workflow.read(graph), registry()), targets=["1"]), "cpu")["1"] != before


def test_the_first_of_a_name_on_the_path_counts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.toy("toy", "Older")
    front = Site(tmp_path / "front")
    front.toy("toy", "Newer", version="2.0")
    monkeypatch.syspath_prepend(front.folder)
    kinds = registry()
    front.forget()
    assert [offer.pack.version for offer in kinds.packs] == ["2.0"]
    assert "Newer" in kinds
    assert "Older" not in kinds


def test_without_an_installation_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.packs.gathering.offers", list)
    with pytest.raises(KinographError, match="installation") as caught:
        registry()
    assert "pip install" in (caught.value.hint or "")


def test_every_module_of_nodes_is_named_in_the_metadata() -> None:
    (own,) = (offer for offer in offers.offers() if offer.pack.name == "kinograph")
    there = Path(__file__).parents[2].glob("nodes/*/nodes.py")
    assert set(own.modules) == {f"nodes.{path.parent.name}.nodes" for path in there}


def test_a_class_that_is_only_imported_is_no_kind_of_the_pack(site: Site) -> None:
    site.toy("base", "Blur")
    site.add("above", {"above.py": f"from base import Blur\n{KIND.format(kind='Sharpen')}"})
    kinds = registry()
    assert [offer.kinds for offer in kinds.packs] == [("Sharpen",), ("Blur",)]
    assert issubclass(kinds["Sharpen"], Node)
