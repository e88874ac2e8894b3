"""Which test runs which line, in all processes, and what it takes: for `make mutants`, which loads this into pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData

CODE = ("engine", "kinograph", "nodes")
LEFT_OUT = ("tests/browser", "tests/test_snapshot.py", "tests/test_wheel.py")
"""Tests of the editor, one that fails on any change to a node's code, and one of the package that pip builds."""
PARTS = {
    "engine/client": ("tests/client/",),
    "engine/cli": ("tests/cli/",),
    "engine/models": ("tests/models_sources/",),
    "engine/packs": ("tests/packs/",),
    "engine/server": ("tests/server/",),
    "engine/work": ("tests/engine/", "tests/server/"),
    "engine": ("tests/engine/",),
    "nodes/diffusion": ("tests/image/", "tests/video/"),
}
"""Where the tests of a folder's code are, if not in the folder of the same name."""
LONGEST = 240.0
"""Seconds that the tests of a line took together, at most; the others aren't run for it."""


def environment(tree: Path) -> dict[str, str]:
    """In which the code of a tree is what tests import, in each process."""
    return {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}


def code(tree: Path) -> list[str]:
    """The modules in which mistakes are made."""
    return sorted(str(path.relative_to(tree)) for top in CODE for path in (tree / top).rglob("*.py"))


def part_of(path: str) -> tuple[str, ...]:
    """Where the tests of a module are."""
    known = next((tests for folder, tests in PARTS.items() if path.startswith(f"{folder}/")), None)
    return known or (f"tests/{Path(path).parts[0 if path.startswith('kinograph') else 1]}/",)


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def measure(tree: Path, work: Path, processes: int) -> None:
    """Run the tests of a tree once, and keep in a folder which test runs which line."""
    for file in work.glob("coverage*"):
        file.unlink()
    settings = work / "measure.ini"
    source = "\n    ".join(str(tree / name) for name in CODE)
    settings.write_text(
        f"[run]\nsource =\n    {source}\ndata_file = {work / 'coverage'}\nparallel = true\nplugins = tests.measured\n"
        "context = ${PYTEST_CURRENT_TEST-}\n"
    )
    left_out = [f"--ignore={path}" for path in LEFT_OUT]
    pytest = ["pytest", "-m", "not full", "-n", str(processes), "--dist=worksteal", *left_out]
    pytest += ["-p", "tests.covering", f"--seconds-to={work / 'seconds.json'}"]
    env = environment(tree)
    measured = env | {"COVERAGE_PROCESS_START": str(settings)}
    subprocess.run([sys.executable, "-m", *pytest], cwd=tree, env=measured, check=False)
    combine = ["coverage", "combine", "--quiet", f"--rcfile={settings}"]
    subprocess.run([sys.executable, "-m", *combine], cwd=work, env=env, check=True)
    (work / "digests.json").write_text(json.dumps({path: digest(tree / path) for path in code(tree)}))


@dataclass(frozen=True)
class Measured:
    """Which tests run which lines, and what they take. A test that didn't pass isn't known."""

    tree: Path
    data: CoverageData
    digests: dict[str, str]
    """Of each module, as it was."""
    taken: dict[str, float]
    """Seconds of each test."""

    @classmethod
    def read(cls, tree: Path, work: Path) -> Measured | None:
        if not (work / "digests.json").exists():
            return None
        data = CoverageData(str(work / "coverage"))
        data.read()
        return cls(tree, data, *(json.loads((work / f"{name}.json").read_text()) for name in ("digests", "seconds")))

    @cached_property
    def _of_file(self) -> dict[str, set[str]]:
        tests: dict[str, set[str]] = defaultdict(set)
        for name in self.taken:
            tests[name.partition("::")[0]].add(name)
        return tests

    def tests_of(self, path: str, line: int) -> list[list[str]]:
        """The tests that run a line, file by file, those of its part first; if none did, all of its part."""
        names: set[str] = set()
        for context in self._contexts(path, line):
            name, _, phase = context.rpartition(" ")
            own = {name.partition("[")[0]} & self.taken.keys()
            # What is set up for one test may be there for all of the file.
            names |= self._of_file[name.partition("::")[0]] if phase == "(setup)" else own
        part = part_of(path)
        names = names or {name for name in self.taken if name.startswith(part)}
        files = [sorted(names & of_file, key=self.taken.__getitem__) for of_file in self._of_file.values()]
        files = sorted(filter(None, files), key=lambda file: (not file[0].startswith(part), self.seconds(file)))
        ends = [self.seconds(chain.from_iterable(files[: index + 1])) for index in range(len(files))]
        return [file for file, end in zip(files, ends, strict=True) if end < LONGEST or file is files[0]]

    def _contexts(self, path: str, line: int) -> set[str]:
        """The tests that ran a line, or any line of its module if that has changed since."""
        lines = self.data.contexts_by_lineno(str(self.tree / path))
        is_same = self.digests.get(path) == digest(self.tree / path)
        return set(lines.get(line, ()) if is_same else chain.from_iterable(lines.values()))

    def seconds(self, names: Iterable[str]) -> float:
        return sum(self.taken[name] for name in names)


class Covering:
    """Tells coverage.py what runs, and notes at the end how many seconds each test took, if it passed."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._taken: dict[str, float] = defaultdict(float)
        self._failed: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        _tell(f"{item.nodeid} (setup)")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        _tell(f"{item.nodeid} (call)")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        _tell(f"{item.nodeid} (teardown)")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[0]
        self._taken[name] += report.duration
        if report.failed:
            self._failed.add(name)

    def pytest_sessionfinish(self) -> None:
        if self._file:
            passed = {name: round(taken, 3) for name, taken in self._taken.items() if name not in self._failed}
            self._file.write_text(json.dumps(passed, indent=1))


def _tell(context: str) -> None:
    """In the form of PYTEST_CURRENT_TEST, which the processes that a test starts tell of themselves."""
    if measuring := Coverage.current():
        measuring.switch_context(context)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seconds-to", type=Path, help="the JSON file for what each test took")


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    config.pluginmanager.register(Covering(None if is_worker else config.getoption("--seconds-to")))
