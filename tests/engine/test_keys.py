"""What determines a key, and what doesn't."""

from __future__ import annotations

import itertools
import os
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from operator import ne
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.graph import keys
from engine.graph.check import check
from engine.graph.keys import node_keys, part_key
from engine.node import Context, InputFile, Node
from engine.registry import Registry
from nodes import registry
from tests.engine.graphs import graphs
from tests.engine.toys import checked, node


def key(entry: dict[str, Any], device: str = "cpu", **others: Any) -> str:
    return node_keys(checked({"it": entry} | others, targets=["it"]), device)["it"]


@given(graphs(), st.randoms())
def test_names_order_and_positions_never_enter(graph: dict[str, Any], chance: random.Random) -> None:
    names = list(graph)
    new = dict(zip(names, chance.sample([f"node {i}" for i in range(len(names))], len(names)), strict=True))
    renamed = {}
    for name in chance.sample(names, len(names)):
        inputs = {
            socket: [new[value[0]], value[1]] if isinstance(value, list) else value
            for socket, value in chance.sample(sorted(graph[name]["inputs"].items()), len(graph[name]["inputs"]))
        }
        renamed[new[name]] = node(graph[name]["class_type"], **inputs) | {"_meta": {"title": name, "position": [1, 2]}}
    before = node_keys(checked(graph, targets=names), "cpu")
    after = node_keys(checked(renamed, targets=list(renamed)), "cpu")
    assert {new[name]: key for name, key in before.items()} == after


def test_defaults_are_filled_in() -> None:
    assert key(node("Number")) == key(node("Number", value=0)) != key(node("Number", value=1))


def test_a_constant_enters_as_the_node_takes_it() -> None:
    assert key(node("Mix", a=1, scale=2)) == key(node("Mix", a=1, scale=2.0))
    assert key(node("Style", weights=[1])) == key(node("Style", weights={"__value__": [1.0]}))


def test_an_output_may_be_given_by_name_or_index() -> None:
    divide = node("Divide", a=5)
    assert key(node("Mix", a=["d", 1]), d=divide) == key(node("Mix", a=["d", "remainder"]), d=divide)
    assert key(node("Mix", a=["d", 1]), d=divide) != key(node("Mix", a=["d", 0]), d=divide)


def test_upstream_nodes_enter() -> None:
    link = node("Mix", a=["n", 0])
    assert key(link, n=node("Number", value=1)) != key(link, n=node("Number", value=2))
    assert key(node("Mix", a=["n", 0], b=2), n=node("Number")) != key(node("Mix", a=2, b=["n", 0]), n=node("Number"))


def test_the_version_enters() -> None:
    def keyed(version: int) -> str:
        class Kind(Node, version=version):
            def run(self, ctx: Context) -> int: ...

        return node_keys(check(prepare(Workflow.read({"1": node("Kind")}), Registry([Kind])), targets=["1"]), "cpu")[
            "1"
        ]

    assert keyed(1) == keyed(1) != keyed(2)


def test_results_stored_by_earlier_versions_are_found() -> None:
    """These are digests from Kinograph 0.1.0: different ones would invalidate everything in people's caches."""
    graph = {
        "range": node("NumberRange", count=3),
        "less": node("CompareNumbers", a=["range", 0], b=2),
        "pick": node("Switch", on=["less", 0], if_on="a snail", if_off="a fish"),
        "empty": node("EmptyImage", width=64),
        "save": node("SaveImage", images=["empty", 0], filename_prefix="a/b"),
    }
    keys = node_keys(check(prepare(Workflow.read(graph), registry()), targets=list(graph)), "cpu")
    assert {name: key[:16] for name, key in keys.items()} == {
        "range": "d93ba1ca16d6b367",
        "less": "be22928f6ed73ba2",
        "pick": "30d64a782e4c84c5",
        "empty": "b671a7eb9e5fc3fd",
        "save": "a3072fe8ce8d0c64",
    }


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A function that gives libraries other versions, by name."""

    def forget() -> None:
        keys._versioned.cache_clear()
        keys._head.cache_clear()

    def pretend(**versions: str) -> None:
        monkeypatch.setattr(keys, "version", lambda library: versions.get(library) or version(library))
        forget()

    yield pretend
    monkeypatch.undo()
    forget()


def test_only_kinds_that_run_on_a_device_depend_on_it(
    monkeypatch: pytest.MonkeyPatch, installed: Callable[..., None]
) -> None:
    opened = node("Open")
    assert key(node("Number"), "cpu") == key(node("Number"), "cuda:0")
    on_cpu = key(node("Use", handle=["o", 0]), "cpu", o=opened)
    assert on_cpu != key(node("Use", handle=["o", 0]), "cuda:0", o=opened)
    assert key(node("Use", handle=["o", 0]), "cuda:1", o=opened) == key(node("Use", handle=["o", 0]), "cuda", o=opened)
    on_gpu = key(node("Use", handle=["o", 0]), "cuda", o=opened)
    with monkeypatch.context() as patched:
        patched.setattr(keys, "PRECISION", "tf32")
        keys._head.cache_clear()
        assert on_gpu != key(node("Use", handle=["o", 0]), "cuda", o=opened)
        assert on_cpu == key(node("Use", handle=["o", 0]), "cpu", o=opened)
    installed(torch="99")
    assert on_cpu != key(node("Use", handle=["o", 0]), "cpu", o=opened)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_kind_depends_on_the_libraries_that_it_names(device: str, installed: Callable[..., None]) -> None:
    class Plain(Node, version=1):
        def run(self, ctx: Context) -> int: ...

    class Reads(Node, version=1, libraries=("av", "pillow", "none-such")):
        def run(self, ctx: Context) -> int: ...

    class Writes(Node, version=1, uses="device", libraries=["tokenizers", "torch"]):
        def run(self, ctx: Context) -> int: ...

    def found(**others: str) -> dict[str, tuple[str, str]]:
        installed(**others)
        kinds = Registry([Plain, Reads, Writes])
        graph = check(prepare(Workflow.read({kind: node(kind) for kind in kinds}), kinds), targets=list(kinds))
        made = node_keys(graph, device)
        return {kind: (made[kind], part_key(kinds[kind], "part", None)) for kind in kinds}

    def changed(**others: str) -> dict[str, tuple[bool, bool]]:
        return {kind: tuple(map(ne, before[kind], after)) for kind, after in found(**others).items()}

    before = found()
    none, both = (False, False), (True, True)
    assert changed() == {"Plain": none, "Reads": none, "Writes": none}
    assert changed(pillow="99") == changed(**{"none-such": "1"}) == {"Plain": none, "Reads": both, "Writes": none}
    assert changed(tokenizers="99") == changed(torch="99") == {"Plain": none, "Reads": none, "Writes": both}
    assert changed(diffusers="99") == {"Plain": none, "Reads": none, "Writes": (True, False)}


def test_their_order_does_not_enter() -> None:
    def keyed(*libraries: str) -> str:
        class Kind(Node, version=1, libraries=libraries):
            def run(self, ctx: Context) -> int: ...

        return part_key(Kind, "part", "cpu")

    assert keyed("av", "pillow") == keyed("pillow", "av", "av") != keyed("av")


@pytest.mark.parametrize("libraries", ["av", ("av>=14",), ("",), ("a b",), (1,)])
def test_what_is_no_name_of_a_library_is_refused(libraries: Any) -> None:
    with pytest.raises(TypeError, match="Kind: libraries are a tuple of names that pip knows"):

        class Kind(Node, version=1, libraries=libraries):
            def run(self, ctx: Context) -> int: ...


def test_kinds_name_libraries_that_come_with_kinograph_or_its_extras() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    known = {re.split(r"[^\w.-]", line)[0] for line in needed} | {"tokenizers"}
    for kind in registry().values():
        assert {*kind.spec.libraries} <= known, kind.__name__


@pytest.mark.parametrize("kind", ["ImageUpscale", "VideoUpscale", "LoRAInspect", "LoadImage", "SaveDataset"])
def test_kinds_that_resize_or_draw_with_pillow_name_it(kind: str) -> None:
    assert "pillow" in registry()[kind].spec.libraries


def test_a_file_enters_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    (tmp_path / "b.txt").write_text("same")
    (tmp_path / "c.txt").write_text("different")
    a, b, c = (key(node("ReadFile", file=f"{name}.txt")) for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_replaced_file_is_noticed_with_the_same_name_size_and_time(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"a" * size)
    os.utime(path, ns=(10**18, 10**18))
    before = key(node("ReadFile", file=str(path)))
    assert key(node("ReadFile", file=str(path))) == before
    path.write_bytes(b"b" * size)
    os.utime(path, ns=(10**18, 10**18))
    assert key(node("ReadFile", file=str(path))) != before


def test_a_file_that_is_the_default_enters_too(tmp_path: Path) -> None:
    class Default(Node, version=1):
        file: InputFile = "default.txt"

        def run(self, ctx: Context) -> str: ...

    def keyed() -> str:
        graph = check(prepare(Workflow.read({"1": node("Default")}), Registry([Default])), targets=["1"])
        return node_keys(graph, "cpu")["1"]

    (tmp_path / "default.txt").write_text("one")
    before = keyed()
    (tmp_path / "default.txt").write_text("two")
    assert keyed() != before
