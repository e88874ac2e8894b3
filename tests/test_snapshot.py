"""Code that changed under an unchanged version would bring back stale values from the cache."""

from __future__ import annotations

import pytest

from engine.node import Context, Node
from tests import snapshot


def test_a_kind_whose_code_changed_has_a_new_version() -> None:
    now = snapshot.current()
    assert snapshot.changed(now) == [], "raise the versions of these, or see tests/snapshot.py"
    assert snapshot.recorded() == now, "run: python -m tests.snapshot"


def test_only_what_matters_enters_the_digest() -> None:
    assert snapshot._plain(snapshot.ast.parse('x = f(1)  # a comment\n"a docstring"')) == snapshot._plain(
        snapshot.ast.parse("x = f(\n    1)")
    )
    assert snapshot._plain(snapshot.ast.parse("x = 1")) != snapshot._plain(snapshot.ast.parse("x = 1.0"))


def test_functions_beside_a_node_enter_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "nodes.toy.nodes": """
from engine.node import Node
class Toy(Node, version=1):
    def run(self, ctx):
        from nodes.toy.plain import work
        return work()
class Other(Node, version=1):
    def run(self, ctx): ...
""",
        "nodes.toy.plain": """
def work(): return helper() + LIMIT
def helper(): return 1
def unrelated(): return 2
LIMIT = 3
""",
    }

    def digests(plain: str) -> tuple[str, str]:
        trees = {name: snapshot.ast.parse(source) for name, source in (sources | {"nodes.toy.plain": plain}).items()}
        monkeypatch.setattr(snapshot, "_tree", trees.__getitem__)
        snapshot._definitions.cache_clear()
        return snapshot.digest(Toy), snapshot.digest(Other)

    before = digests(sources["nodes.toy.plain"])
    assert digests(sources["nodes.toy.plain"].replace("return 2", "return 4")) == before
    for change in (("return 1", "return 5"), ("LIMIT = 3", "LIMIT = 4"), ("helper() +", "helper() -")):
        toy, other = digests(sources["nodes.toy.plain"].replace(*change))
        assert toy != before[0]
        assert other == before[1]
    monkeypatch.undo()
    snapshot._definitions.cache_clear()


class Toy(Node, version=1):
    def run(self, ctx: Context) -> int: ...


class Other(Node, version=1):
    def run(self, ctx: Context) -> int: ...


Toy.__module__ = Other.__module__ = "nodes.toy.nodes"
