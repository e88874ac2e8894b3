"""How many small mistakes the tests see: a seeded sample of changes to the code, each of which should make a test fail.

    make mutants COUNT=100 SEED=1      # hours; it may be stopped, and goes on where it was

First the tests run once with coverage.py, which notes which test runs which line. Then, in a copy of the tree, one
change after another is made, and the tests that run the changed line are run, the quickest first, until one fails.
Lines that only other processes run (servers, workers, commands) are tried with the tests of their folder. What lived is
printed with its place and change: some changes are equal in effect, the others are tests to write.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".mutants"
"""The copy of the tree, which tests run what, and what became of each change."""
CODE = ("engine", "kinograph", "nodes")
MOST_TESTS = 60
"""Tests that are run for a change, at most."""
SECONDS = 600
"""After which a change is taken to be seen: it made something wait for ever."""
COPIED = (*CODE, "models", "workflows", "tests", "docs", "web/tests", "README.md", "CONTRIBUTING.md", "CHANGELOG.md")
ELSEWHERE = {
    "engine/server": "tests/server",
    "engine/client": "tests/client",
    "engine/cli": "tests/cli",
    "engine/work": "tests/server tests/engine/test_queue.py tests/engine/test_reporting.py",
    "engine": "tests/engine tests/cli",
    "kinograph": "tests/kinograph",
    **{f"nodes/{name}": f"tests/{name}" for name in ("text", "lora", "image", "video", "dataset", "files", "flow")},
    "nodes": "tests/image tests/video tests/lora",
}
"""The tests of each folder's code, the most specific folder first."""


@dataclass(frozen=True)
class Change:
    """One small mistake: a stretch of a line, and what stands there instead."""

    path: str
    line: int
    start: int
    """Bytes from the line's beginning, as Python's syntax trees count."""
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} → {self.after}"


class Spot(NamedTuple):
    node: Any
    after: str


COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
}


def spots(tree: ast.AST) -> Iterator[Spot]:
    """The places of a module where a small mistake can be made, and what stands there then."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                for other in COMPARISONS.get(type(op), ()):
                    yield Spot(node, ast.unparse(ast.Compare(left, [other()], [right])))
            case ast.BoolOp(op=op, values=[first, *rest]) if rest:
                other_op: ast.boolop = ast.Or() if isinstance(op, ast.And) else ast.And()
                yield Spot(node, f"({ast.unparse(ast.BoolOp(other_op, [first, *rest]))})")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield Spot(node, f"({ast.unparse(operand)})")
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in ARITHMETIC:
                yield Spot(node, f"({ast.unparse(ast.BinOp(left, ARITHMETIC[type(operator)](), right))})")
            case ast.Constant(value=bool(value)):
                yield Spot(node, str(not value))
            case ast.Constant(value=int(value)):
                yield Spot(node, str(value + 1))
            case ast.Constant(value=float(value)):
                yield Spot(node, repr(value * 2 + 1))
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield Spot(test, f"(not ({ast.unparse(test)}))")
            case ast.Expr(value=ast.Call() as call):
                yield Spot(call, "None")
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield Spot(value, "None")


def changes(path: str) -> list[Change]:
    """All changes that can be made to a file within one line; none to annotations, constants of modules included."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines = source.encode().splitlines()
    found = []
    for node, after in spots(ast.parse(source)):
        if node.lineno == node.end_lineno:
            before = lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
            found.append(Change(path, node.lineno, node.col_offset, node.end_col_offset, before, after))
    return found


def sample(count: int, seed: int) -> list[Change]:
    """As many changes, spread over all files by how many each has."""
    paths = sorted(str(path.relative_to(ROOT)) for top in CODE for path in (ROOT / top).rglob("*.py"))
    every = [change for path in paths for change in changes(path)]
    return random.Random(seed).sample(every, min(count, len(every)))


def applied(change: Change) -> bytes:
    """The file's text with the change."""
    lines = (ROOT / change.path).read_bytes().splitlines(keepends=True)
    line = lines[change.line - 1]
    lines[change.line - 1] = line[: change.start] + change.after.encode() + line[change.end :]
    return b"".join(lines)


def copied() -> Path:
    """A fresh copy of what the tests need."""
    copy = WORK / "tree"
    shutil.rmtree(copy, ignore_errors=True)
    for name in COPIED:
        source, target = ROOT / name, copy / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for name in ("pyproject.toml", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def measure() -> None:
    """Note which test runs which line."""
    (WORK / "measure.ini").write_text(
        f"[run]\nsource = {', '.join(CODE)}\ndynamic_context = test_function\ndata_file = {WORK / 'coverage'}\n"
    )
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={WORK / 'measure.ini'}"]
    pytest = ["-m", "pytest", "-m", "not full", "--durations=0", "--durations-min=0", "-q"]
    with (WORK / "measure.log").open("w") as log:
        subprocess.run([*command, *pytest], cwd=ROOT, env=environment(ROOT), stdout=log, stderr=log, check=False)


def seconds_of_tests() -> dict[str, float]:
    """What each test took when the lines were noted."""
    taken: dict[str, float] = {}
    for line in (WORK / "measure.log").read_text().splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in ("call", "setup", "teardown") and parts[0].endswith("s"):
            name = parts[2].partition("[")[0]
            taken[name] = taken.get(name, 0.0) + float(parts[0][:-1])
    return taken


def tests_of(change: Change, taken: dict[str, float]) -> list[str]:
    """The tests that run a line, the quickest first; those of its folder if none was seen to."""
    from coverage import CoverageData

    data = CoverageData(str(WORK / "coverage"))
    data.read()
    names = set()
    for context in data.contexts_by_lineno(str(ROOT / change.path)).get(change.line, ()):
        module, _, function = context.rpartition(".")
        path = f"{module.replace('.', '/')}.py"
        if function and (ROOT / path).is_file():
            names.add(f"{path}::{function}")
    if names:
        return sorted(names, key=lambda name: taken.get(name, 0.0))[:MOST_TESTS]
    return next(tests.split() for folder, tests in ELSEWHERE.items() if change.path.startswith(folder))


def is_seen(change: Change, tree: Path, taken: dict[str, float]) -> bool:
    """Whether a test fails on the change."""
    target = tree / change.path
    target.write_bytes(applied(change))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", "-p", "no:cacheprovider"]
    try:
        ended = subprocess.run(
            [*command, *tests_of(change, taken)],
            cwd=tree,
            env=environment(tree),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        shutil.copy(ROOT / change.path, target)
    return ended.returncode == 1 or ended.returncode == 2


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--measure", action="store_true", help="note anew which test runs which line")
    chosen = options.parse_args()
    WORK.mkdir(exist_ok=True)
    if chosen.measure or not (WORK / "coverage").exists():
        measure()
    done_file = WORK / f"seen-{chosen.seed}.jsonl"
    done = [json.loads(line) for line in done_file.read_text().splitlines()] if done_file.exists() else []
    seen = {Change(**entry["change"]): entry["seen"] for entry in done}
    tree, taken = copied(), seconds_of_tests()
    picked = sample(chosen.count, chosen.seed)
    for number, change in enumerate(picked, 1):
        if change not in seen:
            seen[change] = is_seen(change, tree, taken)
            with done_file.open("a") as file:
                file.write(json.dumps({"change": asdict(change), "seen": seen[change]}) + "\n")
        print(f"{number}/{len(picked)} {'seen ' if seen[change] else 'LIVED'} {change}", flush=True)
    caught = sum(seen[change] for change in picked)
    print(f"{caught} of {len(picked)} changes were seen ({caught / len(picked):.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
