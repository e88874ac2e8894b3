"""`make mutants` makes small mistakes where they count, and tells which of them no test sees."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.covering import Measured, measure
from tests.mistakes import mistakes
from tests.mutants import Copy, report, sample, try_all

ROOT = Path(__file__).parents[1]


def made(source: str) -> set[str]:
    """The texts with one mistake each."""
    return {mistake.made_in(source.encode()).decode() for mistake in mistakes("engine/a.py", source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"a <= b", "a > b"}),
        ("0 <= a < b", {"0 < a < b", "0 <= a <= b", "0 <= a > b", "1 <= a < b"}),
        ("a and not b", {"(a or not b)", "a and (b)"}),
        ("a - 1", {"(a + 1)", "a - 2"}),
        ("a | b", {"(a)"}),
        ("f(a, b, key=c)", {"f(b, a, key=c)", "pass"}),
        ("if a: b()", {"if True: b()", "if False: b()", "if a: pass"}),
        ("def f(a=True): return g(a)", {"def f(a=False): return g(a)", "def f(a=True): return None"}),
        ("for a in b: continue", {"for a in b: break"}),
        ("raise ValueError(\n    a\n)", {"pass"}),
        ("self.a = b", {"pass"}),
        ("é = 'é', 1", {"é = 'é', 2"}),
    ],
)
def test_a_small_mistake_is_made(source: str, expected: set[str]) -> None:
    assert made(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "def f(a: int | None, *b: Literal[1]) -> int | None:\n    '''Not > 1.'''",
        "Number = int | float",
        "if TYPE_CHECKING:\n    from a import b, c\n    d = 1 < 2",
        "__all__ = [name for name in (1, 2)]",
        "@dataclass(frozen=True)\nclass A:\n    b: int | None",
        "a = f'{1 + 1} of {b or c}'",
        "port = 8188",
    ],
)
def test_none_is_made_in_what_does_not_run_or_only_speaks(source: str) -> None:
    assert made(source) == set()


def test_every_mistake_in_a_real_module_leaves_python_code() -> None:
    path = "engine/atomic.py"
    source = (ROOT / path).read_bytes()
    found = mistakes(path, source.decode())
    assert len(found) > 30
    for mistake in found:
        assert ast.parse(mistake.made_in(source))
        assert source.decode().splitlines()[mistake.line - 1].strip() in mistake.name


def test_a_mistake_keeps_its_name_when_other_lines_change() -> None:
    before, after = "def f(a):\n    return a[0] + b[0]\n", "import a\n\n\ndef f(a):\n    return a[0] + b[0]\n"
    names = [[mistake.name for mistake in mistakes("engine/a.py", source)] for source in (before, after)]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0]) == 4


def a_test(name: str, claim: str) -> str:
    """A module with a test."""
    return f"from engine.steps import step\n\n\ndef test_{name}():\n    assert {claim}\n"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A tree whose tests see only half of what its code does."""
    files = {
        "engine/steps.py": "def step(a):\n    if a > 3:\n        return a - 1\n    return a\n",
        "tests/engine/test_steps.py": a_test("a_small_one_stays", "step(3) == 3"),
        "tests/engine/test_broken.py": a_test("this_never_passes", "step(0)"),
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['full: long']\n",
        ".gitignore": ".mutants/\n__pycache__/\n",
    }
    files |= {name: (ROOT / name).read_text() for name in ("tests/covering.py", "tests/measured.py")}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_what_no_test_sees_is_told_once_and_the_tree_stays_as_it_is(toy: Path) -> None:
    work = toy / ".mutants"
    copy = Copy(toy, work / "tree")
    copy.refresh()
    measure(copy.tree, work, processes=0)
    measured = Measured.read(copy.tree, work)
    assert measured
    assert measured.tests_of("engine/steps.py", 2) == [["tests/engine/test_steps.py::test_a_small_one_stays"]]

    wanted = {"a > 3 → a >= 3", "a - 1 → (a + 1)", "a → None"}
    picked = [mistake for mistake in sample(toy, 100, seed=1) if f"{mistake.before} → {mistake.after}" in wanted]
    seen = try_all(copy, picked, measured, work / "seen.jsonl", ())

    told = report(toy, picked, seen)
    assert "engine/steps.py:3\n" in told
    assert "-        return a - 1\n+        return (a + 1)\n" in told
    assert told.endswith("2 of 3 mistakes were seen (67%)")
    for tree in (toy, copy.tree):
        assert "if a > 3:\n        return a - 1\n    return a\n" in (tree / "engine/steps.py").read_text()

    (toy / "tests/engine/test_more.py").write_text(a_test("a_large_one_is_less", "step(9) == 8"))
    copy.refresh()
    kept = work / "seen.jsonl"
    assert try_all(copy, picked, measured, kept, ()) == seen
    assert all(try_all(copy, picked, measured, kept, ["tests/engine/test_more.py"]).values())
    assert all(try_all(copy, picked, measured, kept, ()).values())
